// SPDX-License-Identifier: Apache-2.0
#include "quant/config_figures.h"

#include <charconv>
#include <map>
#include <string>

#include "base/error.h"

namespace puna {

double shortest_figure(double value) {
  const auto narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value) return value;
  const std::string text = fmt::format("{}", narrow);
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Format common_float_format(const Checkpoint& in, std::span<const WeightPlan> plan) {
  std::map<Format, std::int64_t> values;
  for (const WeightPlan& weight : plan) {
    const Shape& shape = in.weights.at(weight.role, weight.layer).shape;
    const bool plain = info(weight.format).block_values == 1 && weight.format != Format::kF8E4M3;
    if (plain && shape.rank() == 2) values[weight.format] += shape.count();
  }
  Format common = Format::kBF16;
  std::int64_t most = 0;
  for (const auto& [format, count] : values) {
    if (count > most) most = count, common = format;
  }
  return common;
}

}  // namespace puna
