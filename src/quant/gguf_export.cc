// SPDX-License-Identifier: Apache-2.0
#include "quant/gguf_export.h"

#include <cstddef>
#include <vector>

#include "quant/gguf_metadata.h"
#include "quant/rope_export.h"

namespace puna {

GgufPlan gguf_plan(const Checkpoint& in, std::span<const WeightPlan> plan, int file_type) {
  GgufPlan result{gguf_metadata(in, file_type), {}};
  const auto divisors = static_cast<std::int64_t>(rope_divisors(in.config).size());
  if (divisors > 0) result.tensors.push_back({"rope_freqs.weight", Format::kF32, Shape{divisors}});
  for (const WeightPlan& weight : plan) {
    result.tensors.push_back({weight_name(weight.role, &WeightRoleInfo::gguf, weight.layer), weight.format,
                              in.weights.at(weight.role, weight.layer).shape});
  }
  return result;
}

void write_gguf_checkpoint(const std::filesystem::path& out, const Checkpoint& in, std::span<const WeightPlan> plan, int file_type,
                           WeightEncoder& encoder) {
  const std::vector<float> divisors = rope_divisors(in.config);  // [E / 2] or none
  const std::size_t extra = divisors.empty() ? 0 : 1;
  write_gguf(out, gguf_plan(in, plan, file_type), [&](std::size_t index) {
    return index < extra ? std::as_bytes(std::span(divisors)) : encoder.encode(plan[index - extra]);
  });
}

}  // namespace puna
