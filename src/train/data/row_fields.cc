// SPDX-License-Identifier: Apache-2.0
#include "train/data/row_fields.h"

#include <fmt/format.h>

#include <utility>

#include "text/conversation.h"
#include "train/data/row.h"

namespace puna {

bool has_field(const Json& row, const char* key) { return row.contains(key) && !row.at(key).is_null(); }

const Json& field(const Json& row, const char* key) {
  if (!has_field(row, key)) throw RowError(DropReason::kMissingField, fmt::format("\"{}\" is missing", key));
  return row.at(key);
}

std::string text_field(const Json& row, const char* key) {
  const Json& value = field(row, key);
  if (!value.is_string()) {
    throw RowError(DropReason::kWrongType, fmt::format("\"{}\" is of type {}, expected a text", key, value.type_name()));
  }
  return value.get<std::string>();
}

std::string text_field_or(const Json& row, const char* key, std::string otherwise) {
  return has_field(row, key) ? text_field(row, key) : std::move(otherwise);
}

std::vector<Message> messages_field(const Json& row, const char* key) {
  const Json& value = field(row, key);
  if (!value.is_array()) {
    throw RowError(DropReason::kWrongType,
                   fmt::format("\"{}\" is of type {}, expected a list of messages", key, value.type_name()));
  }
  if (value.empty()) throw RowError(DropReason::kConversation, fmt::format("\"{}\" is an empty list", key));
  try {
    return messages_from_json(value, key);
  } catch (const RowError&) {
    throw;
  } catch (const Error& error) {
    throw RowError(DropReason::kConversation, error.what());
  }
}

Message text_message(Role role, std::string content) { return {role, std::move(content), {}, {}}; }

}  // namespace puna
