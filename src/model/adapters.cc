// SPDX-License-Identifier: Apache-2.0
// The names of adapted matrices are the last part but one of Hugging Face's: "….self_attn.q_proj.weight".
#include "model/adapters.h"

#include <algorithm>

#include "base/error.h"

namespace puna {
namespace {

std::string_view module_name(WeightRole role) {
  std::string_view name = info(role).hugging_face;
  name = name.substr(0, name.rfind('.'));
  return name.substr(name.rfind('.') + 1);
}

std::size_t inner_floats(std::int64_t rank, std::int64_t rows) { return static_cast<std::size_t>(rows * rank); }

std::size_t delta_floats(const ModelConfig& config, std::int64_t rows) {
  return static_cast<std::size_t>(rows * std::max({config.width, config.heads * config.head_width, config.feed_forward}));
}

}  // namespace

std::size_t adapter_index(WeightRole role) {
  const auto place = std::ranges::find(kAdaptedRoles, role);
  PUNA_CHECK(place != kAdaptedRoles.end(), "adapters", "{} carries no adapter", info(role).hugging_face);
  return static_cast<std::size_t>(place - kAdaptedRoles.begin());
}

std::optional<WeightRole> adapted_role_from_name(std::string_view name) {
  const auto place = std::ranges::find_if(kAdaptedRoles, [&](WeightRole role) { return module_name(role) == name; });
  return place == kAdaptedRoles.end() ? std::nullopt : std::optional(*place);
}

std::int64_t largest_rank(std::span<const LayerAdapters> adapters) {
  std::int64_t rank = 0;
  each_adapter(adapters, [&](const LowRank& adapter, WeightRole) { rank = std::max(rank, adapter.rank()); });
  return rank;
}

LowRankBuffers take_low_rank(Arena& arena, const ModelConfig& config, std::int64_t rank, std::int64_t rows) {
  LowRankBuffers buffers;
  if (rank == 0) return buffers;
  for (float*& inner : buffers.inner) inner = arena.take<float>(inner_floats(rank, rows)).data();
  buffers.delta = arena.take<float>(delta_floats(config, rows)).data();
  return buffers;
}

std::int64_t low_rank_bytes(const ModelConfig& config, std::int64_t rank, std::int64_t rows) {
  if (rank == 0) return 0;
  return static_cast<std::int64_t>(kAdaptedRoleCount * Arena::padded(inner_floats(rank, rows) * sizeof(float)) +
                                   Arena::padded(delta_floats(config, rows) * sizeof(float)));
}

}  // namespace puna
