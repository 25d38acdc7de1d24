// SPDX-License-Identifier: Apache-2.0
#include "grammar/schema_document.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"

namespace puna {
namespace {

enum class Shape : std::uint8_t {
  kSchema,
  kSchemas,
  kSchemaMap,
  kCount,
  kNumber,
  kPositive,
  kText,
  kTexts,
  kBoolean,
  kList,
  kTypes,
  kAny
};
enum class Use : std::uint8_t {
  kFollowed,
  kAnnotation,  // says something about the value, and nothing about which are allowed
  kRefused,
  kOnlyFalse,     // refused but where it is false
  kOnlyTrue,      // refused but where it is true, or a schema that allows all
  kWithContains,  // means something beside "contains" only, which is refused
  kWithIf,        // means something beside "if" and is then refused
};

struct Keyword {
  std::string_view name;
  Use use;
  Shape shape = Shape::kAny;
};

constexpr std::array kKeywords = {
    Keyword{"$ref", Use::kFollowed, Shape::kText},
    Keyword{"$defs", Use::kFollowed, Shape::kSchemaMap},
    Keyword{"definitions", Use::kFollowed, Shape::kSchemaMap},
    Keyword{"$anchor", Use::kFollowed, Shape::kText},
    Keyword{"type", Use::kFollowed, Shape::kTypes},
    Keyword{"enum", Use::kFollowed, Shape::kList},
    Keyword{"const", Use::kFollowed, Shape::kAny},
    Keyword{"allOf", Use::kFollowed, Shape::kSchemas},
    Keyword{"anyOf", Use::kFollowed, Shape::kSchemas},
    Keyword{"oneOf", Use::kFollowed, Shape::kSchemas},
    Keyword{"not", Use::kFollowed, Shape::kSchema},
    Keyword{"properties", Use::kFollowed, Shape::kSchemaMap},
    Keyword{"patternProperties", Use::kFollowed, Shape::kSchemaMap},
    Keyword{"additionalProperties", Use::kFollowed, Shape::kSchema},
    Keyword{"propertyNames", Use::kFollowed, Shape::kSchema},
    Keyword{"required", Use::kFollowed, Shape::kTexts},
    Keyword{"minProperties", Use::kFollowed, Shape::kCount},
    Keyword{"maxProperties", Use::kFollowed, Shape::kCount},
    Keyword{"prefixItems", Use::kFollowed, Shape::kSchemas},
    Keyword{"items", Use::kFollowed, Shape::kSchema},
    Keyword{"minItems", Use::kFollowed, Shape::kCount},
    Keyword{"maxItems", Use::kFollowed, Shape::kCount},
    Keyword{"uniqueItems", Use::kFollowed, Shape::kBoolean},
    Keyword{"minLength", Use::kFollowed, Shape::kCount},
    Keyword{"maxLength", Use::kFollowed, Shape::kCount},
    Keyword{"pattern", Use::kFollowed, Shape::kText},
    Keyword{"format", Use::kFollowed, Shape::kText},
    Keyword{"minimum", Use::kFollowed, Shape::kNumber},
    Keyword{"maximum", Use::kFollowed, Shape::kNumber},
    Keyword{"exclusiveMinimum", Use::kFollowed, Shape::kNumber},
    Keyword{"exclusiveMaximum", Use::kFollowed, Shape::kNumber},
    Keyword{"multipleOf", Use::kFollowed, Shape::kPositive},
    Keyword{"$schema", Use::kAnnotation},
    Keyword{"$id", Use::kAnnotation, Shape::kText},
    Keyword{"id", Use::kAnnotation},
    Keyword{"$comment", Use::kAnnotation},
    Keyword{"$vocabulary", Use::kAnnotation},
    Keyword{"$dynamicAnchor", Use::kAnnotation},
    Keyword{"title", Use::kAnnotation},
    Keyword{"description", Use::kAnnotation},
    Keyword{"default", Use::kAnnotation},
    Keyword{"example", Use::kAnnotation},
    Keyword{"examples", Use::kAnnotation},
    Keyword{"deprecated", Use::kAnnotation},
    Keyword{"readOnly", Use::kAnnotation},
    Keyword{"writeOnly", Use::kAnnotation},
    Keyword{"contentEncoding", Use::kAnnotation},
    Keyword{"contentMediaType", Use::kAnnotation},
    Keyword{"contentSchema", Use::kAnnotation},
    Keyword{"additionalItems", Use::kAnnotation},  // of older drafts, beside a list in "items" only, which is refused
    Keyword{"unevaluatedProperties", Use::kOnlyTrue},
    Keyword{"unevaluatedItems", Use::kOnlyTrue},
    Keyword{"contains", Use::kRefused},
    Keyword{"minContains", Use::kWithContains},
    Keyword{"maxContains", Use::kWithContains},
    Keyword{"if", Use::kWithIf},
    Keyword{"then", Use::kWithIf},
    Keyword{"else", Use::kWithIf},
    Keyword{"dependentRequired", Use::kRefused},
    Keyword{"dependentSchemas", Use::kRefused},
    Keyword{"dependencies", Use::kRefused},
    Keyword{"$dynamicRef", Use::kRefused},
    Keyword{"$recursiveRef", Use::kRefused},
    Keyword{"$recursiveAnchor", Use::kOnlyFalse},
    Keyword{"disallow", Use::kRefused},
    Keyword{"divisibleBy", Use::kRefused},
    Keyword{"extends", Use::kRefused},
};

constexpr std::array<std::string_view, 7> kTypeNames = {"null", "boolean", "integer", "number", "string", "array", "object"};

const Keyword* find_keyword(std::string_view name) {
  const auto at = std::find_if(kKeywords.begin(), kKeywords.end(), [&](const Keyword& keyword) { return keyword.name == name; });
  return at == kKeywords.end() ? nullptr : &*at;
}

bool is_schema(const Json& value) { return value.is_object() || value.is_boolean(); }
bool is_type(const Json& value) {
  return value.is_string() && std::ranges::count(kTypeNames, value.get_ref<const std::string&>()) > 0;
}
bool is_count(const Json& value) {
  return value.is_number() && value.get<double>() >= 0 &&
         value.get<double>() == static_cast<double>(static_cast<std::uint64_t>(std::min(value.get<double>(), 1e18)));
}
bool all_of(const Json& list, bool (*test)(const Json&)) { return std::all_of(list.begin(), list.end(), test); }

// What is expected, where the value is something else; nullptr where it fits.
const char* misfit(Shape shape, const Json& value) {
  const auto text = [](const Json& item) { return item.is_string(); };
  switch (shape) {
    case Shape::kSchema:
      return is_schema(value) ? nullptr
                              : "a schema: an object, true or false (a list of them goes into prefixItems, allOf or anyOf)";
    case Shape::kSchemas:
      return value.is_array() && !value.empty() && all_of(value, is_schema) ? nullptr : "a list of schemas, at least one";
    case Shape::kSchemaMap:
      return value.is_object() && all_of(value, is_schema) ? nullptr : "an object whose values are schemas";
    case Shape::kCount:
      return is_count(value) ? nullptr : "a whole number from 0";
    case Shape::kNumber:
      return value.is_number() ? nullptr : "a number";
    case Shape::kPositive:
      return value.is_number() && value.get<double>() > 0 ? nullptr : "a number above 0";
    case Shape::kText:
      return value.is_string() ? nullptr : "a text";
    case Shape::kTexts:
      return value.is_array() && all_of(value, text) ? nullptr : "a list of texts";
    case Shape::kBoolean:
      return value.is_boolean() ? nullptr : "true or false";
    case Shape::kList:
      return value.is_array() && !value.empty() ? nullptr : "a list of values, at least one";
    case Shape::kTypes:
      return is_type(value) || (value.is_array() && !value.empty() && all_of(value, is_type))
                 ? nullptr
                 : "null, boolean, integer, number, string, array or object, or a list of these";
    case Shape::kAny:
      break;
  }
  return nullptr;
}

// One step of a JSON pointer (RFC 6901).
std::string escaped(std::string_view name) {
  std::string text;
  for (const char c : name) text += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return text;
}

// Of a place in a document; the names in it may be as long as their writer liked, and thousands of places lie below one.
std::string step_below(const std::string& place, std::string_view name) {
  constexpr std::size_t kMaxPlaceBytes = 500;
  if (place.size() > kMaxPlaceBytes) return place;
  if (name.size() <= kMaxPlaceBytes) return place + "/" + escaped(name);
  std::size_t size = kMaxPlaceBytes;
  while ((static_cast<unsigned char>(name[size]) & 0xC0) == 0x80) --size;  // a character is not cut
  return place + "/" + escaped(name.substr(0, size)) + "…";
}

std::string unescaped(std::string_view step, const std::string& where) {
  std::string text;
  for (std::size_t i = 0; i < step.size(); ++i) {
    const std::string_view rest = step.substr(i);
    int byte = 0;
    if (rest.starts_with("~0") || rest.starts_with("~1")) {
      text += rest[1] == '0' ? '~' : '/';
      ++i;
    } else if (rest[0] != '%') {
      text += rest[0];
    } else if (rest.size() >= 3 && std::from_chars(rest.data() + 1, rest.data() + 3, byte, 16).ptr == rest.data() + 3) {
      text += static_cast<char>(byte);
      i += 2;
    } else {
      fail(ErrorKind::kBadInput, where, "the reference has a % without two hexadecimal digits behind it");
    }
  }
  return text;
}

}  // namespace

SchemaId SchemaDocuments::add(const Json& schema, const std::string& where) {
  return number_of(schema, where + "#", static_cast<SchemaId>(entries_.size()));
}

SchemaId SchemaDocuments::number_of(const Json& value, std::string place, SchemaId root) {
  const auto [known, fresh] = numbers_.try_emplace(&value, static_cast<SchemaId>(entries_.size()));
  if (fresh) entries_.push_back({&value, std::move(place), root, false});
  return known->second;
}

std::string SchemaDocuments::place_of(SchemaId id, std::string_view keyword) const { return step_below(place(id), keyword); }

const Json* SchemaDocuments::find(SchemaId id, std::string_view keyword) const {
  const Json& schema = value(id);
  if (!schema.is_object()) return nullptr;
  const auto at = schema.find(keyword);
  return at == schema.end() ? nullptr : &*at;
}

SchemaId SchemaDocuments::below(SchemaId id, std::string_view keyword) {
  return number_of(*find(id, keyword), place_of(id, keyword), entries_[static_cast<std::size_t>(id)].root);
}

SchemaId SchemaDocuments::below(SchemaId id, std::string_view keyword, std::string_view name) {
  const Json& members = *find(id, keyword);
  return number_of(*members.find(name), step_below(place_of(id, keyword), name), entries_[static_cast<std::size_t>(id)].root);
}

SchemaId SchemaDocuments::below(SchemaId id, std::string_view keyword, std::size_t index) {
  return number_of(find(id, keyword)->at(index), fmt::format("{}/{}", place_of(id, keyword), index),
                   entries_[static_cast<std::size_t>(id)].root);
}

// "#", "#/$defs/name", "#anchor", or one of these behind the document's own $id.
SchemaId SchemaDocuments::referred(SchemaId id) {
  const std::string where = place_of(id, "$ref");
  const auto& reference = find(id, "$ref")->get_ref<const std::string&>();
  const SchemaId root = entries_[static_cast<std::size_t>(id)].root;
  std::string_view rest = reference;
  if (const Json* own = find(root, "$id"); own != nullptr && own->is_string()) {
    const std::string_view name = own->get_ref<const std::string&>();
    const std::string_view bare = name.substr(0, name.find('#'));
    if (!bare.empty() && rest.substr(0, rest.find('#')) == bare) rest.remove_prefix(bare.size());
  }
  if (!rest.empty() && !rest.starts_with('#')) {
    fail(ErrorKind::kUnsupported, where, "\"{}\" leads to another document: copy it into \"$defs\" and refer to \"#/$defs/…\"",
         reference);
  }
  if (!rest.empty()) rest.remove_prefix(1);
  if (rest.empty()) return root;
  return rest.starts_with('/') ? find_pointer(root, rest, where) : find_anchor(root, rest, where);
}

SchemaId SchemaDocuments::find_pointer(SchemaId from, std::string_view pointer, const std::string& where) {
  const Json* value = &this->value(from);
  std::string place = this->place(from);
  const std::string whole(pointer);
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const std::string_view step = pointer.substr(0, pointer.find('/'));
    pointer.remove_prefix(step.size());
    const std::string name = unescaped(step, where);
    const Json* next = nullptr;
    std::size_t index = 0;
    if (value->is_object() && value->contains(name)) {
      next = &value->at(name);
    } else if (value->is_array() &&
               std::from_chars(name.data(), name.data() + name.size(), index).ptr == name.data() + name.size() && !name.empty() &&
               index < value->size()) {
      next = &value->at(index);
    }
    if (next == nullptr) fail(ErrorKind::kBadInput, where, "\"#{}\" leads nowhere: there is no \"{}\" in {}", whole, name, place);
    value = next;
    place = step_below(place, name);
    if (!pointer.empty() && value->is_object() && value->contains("$id") && value->at("$id").is_string())
      fail(ErrorKind::kUnsupported, place + "/$id",
           "a document inside the document changes what references mean: take its $id out");
  }
  return number_of(*value, place, from);
}

SchemaId SchemaDocuments::find_anchor(SchemaId from, std::string_view name, const std::string& where) {
  const Anchors& anchors = anchors_of(from);
  const auto found = anchors.find(name);
  if (found == anchors.end()) fail(ErrorKind::kBadInput, where, "there is no \"$anchor\": \"{}\" in the document", name);
  return number_of(*found->second.value, found->second.place, from);
}

// Found in one walk over the document, however many references there are.
const SchemaDocuments::Anchors& SchemaDocuments::anchors_of(SchemaId root) {
  const auto [known, fresh] = anchors_.try_emplace(root);
  if (!fresh) return known->second;
  std::vector<std::pair<const Json*, std::string>> work = {{&value(root), place(root)}};
  while (!work.empty()) {
    const auto [value, place] = std::move(work.back());
    work.pop_back();
    for (const char* keyword : {"$anchor", "$dynamicAnchor"}) {
      const Json* name = value->is_object() && value->contains(keyword) ? &value->at(keyword) : nullptr;
      if (name != nullptr && name->is_string()) known->second.try_emplace(name->get<std::string>(), Anchor{value, place});
    }
    for (const auto& [key, member] : value->items()) {
      if (member.is_structured() && key != "enum" && key != "const" && key != "default" && key != "examples")
        work.emplace_back(&member, step_below(place, key));
    }
  }
  return known->second;
}

void SchemaDocuments::check(SchemaId id) {
  Entry& entry = entries_[static_cast<std::size_t>(id)];
  if (std::exchange(entry.checked, true)) return;
  const Json& schema = *entry.value;
  if (!is_schema(schema))
    fail(ErrorKind::kBadInput, entry.place, "{} is no schema, expected an object, true or false", schema.type_name());
  if (schema.is_boolean()) return;
  for (const auto& [name, value] : schema.items()) check_keyword(id, name, value);
  if (id != entry.root && find(id, "$id") != nullptr)
    fail(ErrorKind::kUnsupported, place_of(id, "$id"),
         "a document inside the document changes what references mean: take its $id out");
}

void SchemaDocuments::check_keyword(SchemaId id, const std::string& name, const Json& value) const {
  const Keyword* keyword = find_keyword(name);
  if (keyword == nullptr) {
    constexpr std::size_t kLongEnough = 6, kTypingErrors = 2;
    for (const Keyword& known : kKeywords) {
      if (known.use == Use::kAnnotation || name.size() < kLongEnough || name.starts_with("x-") || name.starts_with('_')) continue;
      if (name.size() > known.name.size() + kTypingErrors) continue;  // looking closer takes the product of their sizes
      if (typing_errors(name, known.name) <= kTypingErrors)
        fail(ErrorKind::kBadInput, place_of(id, name), "there is no such keyword: did you mean {}?", known.name);
    }
    return;  // an annotation of somebody's own, as JSON Schema has it
  }
  bool refused = false;
  switch (keyword->use) {
    case Use::kFollowed:
    case Use::kAnnotation:
      break;
    case Use::kRefused:
      refused = true;
      break;
    case Use::kOnlyFalse:
      refused = value != false;
      break;
    case Use::kOnlyTrue:
      refused = value != true && value != Json::object();
      break;
    case Use::kWithContains:
      break;  // "contains" is refused itself
    case Use::kWithIf:
      refused = find(id, "if") != nullptr && (find(id, "then") != nullptr || find(id, "else") != nullptr);
      break;
  }
  if (refused)
    fail(ErrorKind::kUnsupported, place_of(id, name), "this keyword cannot be followed exactly: leave it out, or say it otherwise");
  const char* expected = misfit(keyword->shape, value);
  if (expected != nullptr)
    fail(ErrorKind::kBadInput, place_of(id, name), "is {}, expected {}", dump_json(value).substr(0, 100), expected);
}

}  // namespace puna
