// SPDX-License-Identifier: Apache-2.0
// JSON from outside: nlohmann-json with a depth limit, and errors that name the file and the byte.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/indexed_map.h"

namespace puna {

using Json = nlohmann::basic_json<IndexedMap>;  // keys keep the order they were written in: prompts are rendered from them

}  // namespace puna

// Compiled once, in json.cc: a second less for each of a hundred sources.
extern template class nlohmann::basic_json<puna::IndexedMap>;

namespace puna {

// Throws kBadInput naming `where` and the byte. Values nested deeper than 200 are refused.
Json parse_json(std::string_view text, const std::string& where);

// The value of `key`, which must be there and of type T; throws kBadInput naming `where` and the key.
template <typename T>
T json_at(const Json& object, const char* key, const std::string& where);

// The same, with a value for when the key is absent or null.
template <typename T>
T json_or(const Json& object, const char* key, T otherwise, const std::string& where);

// One line, invalid UTF-8 replaced: what `--json` prints.
std::string dump_json(const Json& value);

}  // namespace puna
