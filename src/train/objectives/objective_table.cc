// SPDX-License-Identifier: Apache-2.0
// The table of objectives, and what their reports do.
#include "train/objectives/objective.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/nearest.h"
#include "train/objectives/distillation.h"
#include "train/objectives/dpo.h"
#include "train/objectives/next_token.h"
#include "train/objectives/reward.h"

namespace puna {
namespace {

std::vector<ExtraParameter> none(const ModelConfig&) { return {}; }

constexpr std::array kObjectives = {
    ObjectiveInfo{"next_token", "cross-entropy of every next token: pre-training", false, false, false, false, true, none,
                  make_next_token},
    ObjectiveInfo{"sft", "cross-entropy of the answers' tokens: supervised fine-tuning", false, false, false, false, true, none,
                  make_next_token},
    ObjectiveInfo{"reward", "a score for answers, from their order", true, true, false, false, true, reward_head, make_reward},
    ObjectiveInfo{"dpo", "direct preference optimisation against a reference", true, false, true, false, true, none, make_dpo},
    ObjectiveInfo{"distillation", "the distributions of a teacher", false, false, false, true, false, none, make_distillation},
};

}  // namespace

void LossReport::add(std::string_view name, double value) {
  const auto end = figures_.begin() + static_cast<std::ptrdiff_t>(count_);
  const auto place = std::find_if(figures_.begin(), end, [&](const Figure& figure) { return figure.name == name; });
  if (place == end) {
    PUNA_CHECK(count_ < figures_.size(), "loss report", "more than {} figures", figures_.size());
    ++count_;
    *place = {name, 0};
  }
  place->value += value;
}

LossReport& LossReport::operator+=(const LossReport& other) {
  loss += other.loss;
  tokens += other.tokens;
  for (const Figure& figure : other.figures()) add(figure.name, figure.value);
  return *this;
}

std::span<const ObjectiveInfo> objectives() { return kObjectives; }

const ObjectiveInfo& find_objective(std::string_view name) {
  const auto row = std::ranges::find(kObjectives, name, &ObjectiveInfo::name);
  if (row != kObjectives.end()) return *row;
  std::vector<std::string> names;
  for (const ObjectiveInfo& info : kObjectives) names.emplace_back(info.name);
  fail(ErrorKind::kUsage, "objective", "there is no objective {}{}; expected one of {}", name, did_you_mean(name, names),
       fmt::join(names, ", "));
}

}  // namespace puna
