// SPDX-License-Identifier: Apache-2.0
// The fields of a row, or a RowError that says which one is missing or of another type.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "text/chat.h"

namespace puna {

// Present and not null.
bool has_field(const Json& row, const char* key);
const Json& field(const Json& row, const char* key);
std::string text_field(const Json& row, const char* key);
std::string text_field_or(const Json& row, const char* key, std::string otherwise);

// A list of OpenAI's messages, not empty.
std::vector<Message> messages_field(const Json& row, const char* key);

Message text_message(Role role, std::string content);

}  // namespace puna
