// SPDX-License-Identifier: Apache-2.0
// The next token from a row of the last forward() (Batch::draws): from its shortlist, where there is one and it decides, else from its
// logits. Which of the two it was does not show in the token.
#pragma once

#include <cstdint>
#include <span>

#include "infer/sampler.h"
#include "model/llama.h"

namespace puna {

// As Sampler::sample() of the row's known tokens; throws what that throws.
SampledToken sample_row(Llama& model, std::int64_t row, Sampler& sampler, int top_logprobs = -1,
                        std::span<const std::uint32_t> mask = {});

}  // namespace puna
