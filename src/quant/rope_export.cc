// SPDX-License-Identifier: Apache-2.0
#include "quant/rope_export.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/error.h"

namespace puna {
namespace {

std::vector<float> divisors_of(ModelConfig config, const RopeScaling& scaling) {
  config.rope_divisors.clear();
  config.rope_linear_factor = 1;
  config.rope_scaling.reset();
  const std::vector<double> plain = rope_frequencies(config);
  config.rope_scaling = scaling;
  const std::vector<double> scaled = rope_frequencies(config);
  std::vector<float> divisors(plain.size());
  for (std::size_t p = 0; p < plain.size(); ++p) divisors[p] = static_cast<float>(plain[p] / scaled[p]);
  return divisors;
}

bool nearly_equal(const std::vector<float>& a, const std::vector<float>& b) {
  constexpr float kTolerance = 1e-5f;
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](float x, float y) { return std::fabs(x - y) <= kTolerance * std::fabs(y); });
}

}  // namespace

std::vector<float> rope_divisors(const ModelConfig& config) {
  if (!config.rope_divisors.empty()) return config.rope_divisors;
  return config.rope_scaling ? divisors_of(config, *config.rope_scaling) : std::vector<float>{};
}

std::optional<RopeScaling> rope_scaling_figures(const ModelConfig& config, const std::string& where) {
  const std::vector<float>& divisors = config.rope_divisors;
  if (divisors.empty()) return config.rope_scaling;
  if (std::all_of(divisors.begin(), divisors.end(), [](float divisor) { return divisor == 1.0f; })) return std::nullopt;
  // Heads whose longest wavelength is within the interpolated range do not show the factor: then the published ones are tried.
  const double largest = *std::max_element(divisors.begin(), divisors.end());
  for (const double factor : {largest, 8.0, 32.0}) {
    RopeScaling scaling;
    scaling.factor = factor;
    if (nearly_equal(divisors, divisors_of(config, scaling))) return scaling;
  }
  fail(ErrorKind::kUnsupported, where,
       "the tensor rope_freqs.weight is not Llama 3.1's scaling (low 1, high 4, original context 8192), and only that can be "
       "written "
       "as figures: keep the model as a GGUF file");
}

}  // namespace puna
