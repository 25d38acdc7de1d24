// SPDX-License-Identifier: Apache-2.0
#include "model/parameter_list.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

using Kind = ParameterEntry::Kind;

// The rank's part of what is `whole` so far.
void take_part(ParameterEntry& entry, ShardAxis axis, const Share& share) {
  if (share.ranks == 1 || axis == ShardAxis::kNone) return;
  const bool rows = axis == ShardAxis::kRows;
  const IndexRange part = part_of(rows ? entry.whole[0] : entry.whole[1], entry.role, share);
  entry.shape = rows ? Shape{part.count(), entry.whole[1]} : Shape{entry.whole[0], part.count()};
  entry.axis = axis;
  entry.first = part.first;
}

ParameterEntry entry_of(Kind kind, std::string name, const Shape& shape, bool decays) {
  ParameterEntry entry{.kind = kind, .name = std::move(name), .shape = shape, .decays = decays};
  entry.whole = shape;
  return entry;
}

std::vector<ParameterEntry> weight_entries(const ModelConfig& config, const Share& share) {
  std::vector<ParameterEntry> entries;
  each_weight(config, [&](WeightRole role, std::int64_t layer) {
    const Shape shape = weight_shape(config, role);
    ParameterEntry entry =
        entry_of(Kind::kWeight, weight_name(role, &WeightRoleInfo::hugging_face, layer), shape, shape.rank() > 1);
    entry.role = role;
    entry.layer = layer;
    take_part(entry, info(role).shard_axis, share);
    entries.push_back(std::move(entry));
  });
  return entries;
}

std::string adapter_name(WeightRole role, std::int64_t layer, std::string_view matrix) {
  const std::string name = weight_name(role, &WeightRoleInfo::hugging_face, layer);
  return fmt::format("base_model.model.{}.{}.weight", name.substr(0, name.rfind('.')), matrix);
}

std::vector<ParameterEntry> adapter_entries(const ModelConfig& config, const LoraChoice& lora, const Share& share) {
  std::vector<ParameterEntry> entries;
  const auto add = [&](Kind kind, WeightRole role, std::int64_t layer, const Shape& shape) {
    const bool is_a = kind == Kind::kAdapterA;
    ParameterEntry entry = entry_of(kind, adapter_name(role, layer, is_a ? "lora_A" : "lora_B"), shape, true);
    entry.role = role;
    entry.layer = layer;
    entry.scale = static_cast<float>(lora.alpha / static_cast<double>(lora.rank));
    const ShardAxis axis = info(role).shard_axis, own = is_a ? ShardAxis::kColumns : ShardAxis::kRows;
    if (axis == own) take_part(entry, own, share);
    entry.partial = axis != own && share.ranks > 1;
    entries.push_back(std::move(entry));
  };
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const WeightRole role : kAdaptedRoles) {
      if (std::ranges::find(lora.roles, role) == lora.roles.end()) continue;
      const Shape shape = weight_shape(config, role);
      add(Kind::kAdapterA, role, layer, {lora.rank, shape[1]});
      add(Kind::kAdapterB, role, layer, {shape[0], lora.rank});
    }
  }
  return entries;
}

}  // namespace

std::vector<ParameterEntry> parameter_entries(const ModelConfig& whole, const TrainChoice& choice, const Share& share) {
  std::vector<ParameterEntry> entries;
  if (choice.trained == Trained::kWeights) entries = weight_entries(whole, share);
  if (choice.trained == Trained::kAdapters) entries = adapter_entries(whole, choice.lora, share);
  for (const ExtraParameter& extra : choice.extra) {
    entries.push_back(entry_of(Kind::kExtra, extra.name, extra.shape, extra.decays));
    entries.back().spread = extra.spread;
  }
  return entries;
}

void check_choice(const ModelConfig& whole, const TrainChoice& choice) {
  if (choice.compute != Format::kF32 && choice.compute != Format::kBF16) {
    fail(ErrorKind::kUsage, "weights", "training computes with f32 or bf16 weights, not with {}", info(choice.compute).name);
  }
  if (choice.new_weights && choice.trained != Trained::kWeights) {
    fail(ErrorKind::kUsage, "lora", "a new network has nothing to adapt: train all of its weights");
  }
  if (choice.trained != Trained::kAdapters) return;
  const LoraChoice& lora = choice.lora;
  const std::int64_t largest = std::min({whole.width, whole.heads * whole.head_width, whole.feed_forward});
  if (lora.rank < 1 || lora.rank > largest) {
    fail(ErrorKind::kUsage, "lora.rank", "{} is no rank for matrices of this model: expected 1 to {}", lora.rank, largest);
  }
  if (!std::isfinite(lora.alpha) || lora.alpha <= 0) {
    fail(ErrorKind::kUsage, "lora.alpha", "{} found, expected a number above 0", lora.alpha);
  }
  if (lora.roles.empty()) fail(ErrorKind::kUsage, "lora.targets", "no matrices chosen: name at least one, such as q_proj");
  for (const WeightRole role : lora.roles) adapter_index(role);
}

}  // namespace puna
