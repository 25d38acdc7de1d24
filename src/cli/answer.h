// SPDX-License-Identifier: Apache-2.0
// What came out of a generation, for programs and for people.
#pragma once

#include <string>

#include "base/json.h"
#include "infer/generate.h"

namespace puna {

// tokens, text (where there is a tokenizer), finish_reason, counts, seconds, logprobs (where asked for).
Json generation_to_json(const Generation& generation, const Tokenizer* tokenizer);
// "prompt 12 tokens (10 from the cache), 210.3 tokens/s; answer 64 tokens, 20.1 tokens/s; ended by an end token"
std::string stats_line(const Generation& generation);

}  // namespace puna
