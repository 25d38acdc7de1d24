// SPDX-License-Identifier: Apache-2.0
// log softmax of rows of logits, summed in F64: what scores, perplexities and samplers read.
#pragma once

#include <cstdint>
#include <span>

namespace puna {

// log sum_v exp(logits[v])
double log_sum_exp(std::span<const float> logits);

}  // namespace puna
