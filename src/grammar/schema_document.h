// SPDX-License-Identifier: Apache-2.0
// The schemas inside JSON schema documents, by number, each with the place that messages name: "schema.json#/properties/age". Every
// keyword is looked up in one table: those that are followed, annotations, and those that are refused.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace puna {

using SchemaId = int;

class SchemaDocuments {
 public:
  // A whole document; `where` is its name in messages. It must live as long as this object.
  SchemaId add(const Json& schema, const std::string& where);

  const Json& value(SchemaId id) const { return *entries_[static_cast<std::size_t>(id)].value; }
  const std::string& place(SchemaId id) const { return entries_[static_cast<std::size_t>(id)].place; }
  // "schema.json#/properties/age/minimum"
  std::string place_of(SchemaId id, std::string_view keyword) const;
  // The keyword's value, or nullptr where the schema is not an object or does not have it.
  const Json* find(SchemaId id, std::string_view keyword) const;

  // A schema below `id`: value[keyword], value[keyword][name], value[keyword][index].
  SchemaId below(SchemaId id, std::string_view keyword);
  SchemaId below(SchemaId id, std::string_view keyword, std::string_view name);
  SchemaId below(SchemaId id, std::string_view keyword, std::size_t index);
  // What the schema's $ref leads to. Throws kBadInput where nothing is there, kUnsupported for another document.
  SchemaId referred(SchemaId id);

  // Throws kBadInput for a schema that is neither object nor boolean and for keywords with values they cannot have, kUnsupported
  // for keywords that are not followed; once for each schema.
  void check(SchemaId id);

 private:
  struct Entry {
    const Json* value = nullptr;
    std::string place;
    SchemaId root = 0;
    bool checked = false;
  };
  struct Anchor {
    const Json* value = nullptr;
    std::string place;
  };
  using Anchors = std::map<std::string, Anchor, std::less<>>;  // by name

  SchemaId number_of(const Json& value, std::string place, SchemaId root);
  SchemaId find_pointer(SchemaId from, std::string_view pointer, const std::string& where);
  SchemaId find_anchor(SchemaId from, std::string_view name, const std::string& where);
  const Anchors& anchors_of(SchemaId root);
  void check_keyword(SchemaId id, const std::string& name, const Json& value) const;

  std::vector<Entry> entries_;
  std::map<const Json*, SchemaId> numbers_;
  std::map<SchemaId, Anchors> anchors_;  // by document, of those that were asked for
};

}  // namespace puna
