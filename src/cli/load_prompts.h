// SPDX-License-Identifier: Apache-2.0
// What a load asks: made-up prompts of about so many tokens, or those of a file, as bodies of chat requests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace puna {

struct LoadPrompts {
  std::string model;
  std::int64_t prompt_tokens = 128;  // words, each of which is about one token
  std::int64_t shared_prefix = 0;    // of them the first, which all prompts have in common
  std::int64_t max_tokens = 64;
  std::uint64_t seed = 0;
  bool stream = false, ignore_end = false;
  std::vector<Json> conversations = {};  // instead of made-up ones, one after the other and again from the first
};

// The lines of a file: {"messages": […]}, {"prompt": "…"} or, as for puna batch, {"body": {"messages": […]}}. Throws kBadInput
// naming the line.
std::vector<Json> read_conversations(const std::string& path);

// Request number `index`: the same for the same seed.
Json load_body(const LoadPrompts& prompts, std::int64_t index);

}  // namespace puna
