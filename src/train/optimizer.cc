// SPDX-License-Identifier: Apache-2.0
// With F32 states, neighbours in the arena are one group: two calls for a whole model. With 8-bit states every tensor is a group,
// because a block of 256 with one scale must not hold values of two tensors.
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "kernels/collective.h"

namespace puna {
namespace {

constexpr std::int64_t kSmallest8Bit = 4096;  // values; smaller parameters keep F32 states
constexpr std::size_t kLine = Arena::kAlignment / sizeof(float);

// All ranks of a team keep the parts of one tensor in one form.
bool in_8_bits(const ParameterEntry& entry, bool eight_bit) { return eight_bit && entry.whole.count() >= kSmallest8Bit; }

std::size_t blocks_of(std::size_t values) { return (values + kAdamwBlock - 1) / kAdamwBlock; }

// Bytes of the two states of a tensor, or a rank's part of it.
std::size_t state_bytes(std::size_t values, bool in_bits) {
  if (!in_bits) return 2 * Arena::padded(values * sizeof(float));
  return 2 * (Arena::padded(values) + Arena::padded(blocks_of(values) * sizeof(float)));
}

void check_options(const AdamwOptions& options) {
  const auto check = [](const char* field, double value, bool good, const char* expected) {
    if (!good || !std::isfinite(value)) fail(ErrorKind::kUsage, field, "{} found, expected {}", value, expected);
  };
  check("optimizer.beta1", options.beta1, options.beta1 >= 0 && options.beta1 < 1, "0 or more and less than 1");
  check("optimizer.beta2", options.beta2, options.beta2 >= 0 && options.beta2 < 1, "0 or more and less than 1");
  check("optimizer.eps", options.eps, options.eps > 0, "a number above 0");
  check("optimizer.weight_decay", options.decay, options.decay >= 0, "0 or more");
  check("optimizer.clip", options.clip, options.clip >= 0, "0 (no clipping) or more");
}

// Where both lie in one arena: from the beginning of the first to the end of the second.
template <typename Value>
std::span<Value> joined(std::span<Value> first, std::span<Value> second) {
  return {first.data(), second.data() + second.size()};
}

}  // namespace

AdamW::AdamW(Parameters& parameters, const AdamwOptions& options, Device device)
    : parameters_(parameters), options_(options), device_(device) {
  check_options(options);
  const std::span<Parameter> all = parameters.all();
  std::vector<std::size_t> order(all.size());  // as they lie in the arena
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return all[i].value.data(); });
  const auto small = [&](std::size_t i) { return in_8_bits(parameters.entries()[i], options.eight_bit); };
  std::size_t bytes = 0;
  for (const std::size_t i : order) bytes += state_bytes(all[i].value.size(), small(i));
  arena_ = device_.arena(bytes, "the optimizer's state");
  const auto named = [&](const char* kind, std::size_t i, auto values) {
    states_.push_back({fmt::format("{}.{}", kind, all[i].name), std::as_writable_bytes(values), i, !small(i)});
    return values;
  };
  // All m lie side by side as the values do, then all v.
  for (const std::size_t i : order) {
    const std::size_t count = all[i].value.size();
    Group group{all[i].value, all[i].gradient, {}, {}, {}, all[i].decays};
    if (small(i)) {
      group.small = {
          named("m", i, arena_.take<std::int8_t>(count)), {}, named("m_scale", i, arena_.take<float>(blocks_of(count))), {}};
    } else {
      group.m = named("m", i, arena_.take<float>(count));
    }
    groups_.push_back(group);
  }
  for (std::size_t place = 0; place < order.size(); ++place) {
    Group& group = groups_[place];
    const std::size_t i = order[place], count = group.value.size();
    if (group.m.empty()) {
      group.small.v = named("v", i, arena_.take<std::uint8_t>(count));
      group.small.v_scale = named("v_scale", i, arena_.take<float>(blocks_of(count)));
    } else {
      group.v = named("v", i, arena_.take<float>(count));
    }
  }
  join_neighbours();
}

// What lies between neighbours is less than a line of zeros, which an update leaves as they are.
void AdamW::join_neighbours() {
  std::vector<Group> groups;
  for (const Group& group : groups_) {
    if (!groups.empty()) {
      Group& last = groups.back();
      const auto near = [](std::span<const float> a, std::span<const float> b) {
        return b.data() >= a.data() + a.size() && b.data() < a.data() + a.size() + kLine;
      };
      if (last.decays == group.decays && !last.m.empty() && !group.m.empty() && near(last.value, group.value) &&
          near(last.m, group.m) && near(last.v, group.v)) {
        last.value = joined(last.value, group.value);
        last.gradient = joined(last.gradient, group.gradient);
        last.m = joined(last.m, group.m);
        last.v = joined(last.v, group.v);
        continue;
      }
    }
    groups.push_back(group);
  }
  groups_ = std::move(groups);
}

double AdamW::gradient_norm() {
  if (device_.team == nullptr) return std::sqrt(sum_of_squares(device_, parameters_.gradient_arena()));
  double own = 0;
  for (const Parameter& parameter : parameters_.all()) {
    if (parameter.axis != ShardAxis::kNone || device_.rank == 0) own += sum_of_squares(device_, parameter.gradient);
  }
  std::vector<double> all(static_cast<std::size_t>(device_.team->ranks()));
  gather_over_ranks(device_, {&own, 1}, all);
  return std::sqrt(std::accumulate(all.begin(), all.end(), 0.0));
}

void AdamW::step(double learning_rate, double norm) {
  ++steps_;
  const double scale = options_.clip > 0 && norm > options_.clip ? options_.clip / norm : 1;
  for (const Group& group : groups_) {
    const AdamwStep step{learning_rate, options_.beta1, options_.beta2, options_.eps, group.decays ? options_.decay : 0,
                         steps_,        scale};
    if (group.m.empty()) {
      adamw_update(device_, step, group.value, group.gradient, group.small);
    } else {
      adamw_update(device_, step, group.value, group.gradient, group.m, group.v);
    }
  }
  parameters_.values_changed(device_);
}

std::int64_t AdamW::bytes(const ModelConfig& whole, const TrainChoice& choice, bool eight_bit, const Share& share) {
  std::size_t bytes = 0;
  for (const ParameterEntry& entry : parameter_entries(whole, choice, share))
    bytes += state_bytes(static_cast<std::size_t>(entry.shape.count()), in_8_bits(entry, eight_bit));
  return static_cast<std::int64_t>(bytes);
}

}  // namespace puna
