// SPDX-License-Identifier: Apache-2.0
// Rows with several answers to one prompt, in Hugging Face's forms: the prompt given, or hidden as what chosen and rejected begin
// with in common; texts or lists of messages. Also "\n\nHuman: …\n\nAssistant: …", as the HH-RLHF set writes conversations.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "train/data/row.h"

namespace puna {

Row read_preference(const Json& row, bool plain_strings);
Row read_ranked(const Json& row, bool plain_strings);

// nullopt for a text that does not begin with "\n\nHuman:" or "\n\nAssistant:".
std::optional<std::vector<Message>> read_human_assistant(std::string_view text);

}  // namespace puna
