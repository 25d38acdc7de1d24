// SPDX-License-Identifier: Apache-2.0
#include "infer/sample_row.h"

#include <optional>
#include <utility>

#include "base/as_size.h"

namespace puna {

SampledToken sample_row(Llama& model, std::int64_t row, Sampler& sampler, int top_logprobs, std::span<const std::uint32_t> mask) {
  if (top_logprobs < 0 && !model.shortlists().empty()) {
    if (std::optional<SampledToken> sampled = sampler.sample(model.shortlists()[as_size(row)], mask)) return *std::move(sampled);
  }
  return sampler.sample(model.row_logits(row), top_logprobs, mask);
}

}  // namespace puna
