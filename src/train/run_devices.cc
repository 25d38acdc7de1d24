// SPDX-License-Identifier: Apache-2.0
#include "train/run_devices.h"

#include <algorithm>
#include <string_view>

#include "base/as_size.h"
#include "base/error.h"
#include "train/objectives/objective.h"

namespace puna {
namespace {

void check_objective_runs(const Recipe& recipe, const DeviceChoice& choice) {
  if (choice.count() == 1 || find_objective(recipe.objective).on_several) return;
  std::vector<std::string_view> names;
  for (const ObjectiveInfo& each : objectives()) {
    if (each.on_several) names.push_back(each.name);
  }
  fail(ErrorKind::kUnsupported, "device", "{} runs on one device, give cpu, cuda or cuda:N; on several run {}", recipe.objective,
       fmt::join(names, ", "));
}

}  // namespace

RunDevices::RunDevices(const Recipe& recipe, ThreadPool& pool) {
  const DeviceChoice choice = device_choice(recipe.device, "device");
  check_objective_runs(recipe, choice);
  for (const int number : choice.gpus) {
    gpus_.push_back(std::make_unique<Gpu>(number));
    gpus_.back()->library().set_gradient_format(gpus_.back()->context(), recipe.weights == "bf16" ? Format::kBF16 : Format::kF32);
  }
  const int ranks = choice.count();
  if (ranks == 1) {
    devices_.push_back({pool, gpus_.empty() ? nullptr : gpus_.front().get()});
    return;
  }
  std::vector<Gpu*> members;
  for (const auto& gpu : gpus_) members.push_back(gpu.get());
  team_ = gpus_.empty() ? std::make_unique<HostTeam>(ranks) : make_team(members);
  for (int rank = 0; rank < ranks; ++rank) {
    pools_.push_back(std::make_unique<ThreadPool>(std::max(1, pool.size() / ranks)));
    devices_.push_back({*pools_.back(), gpus_.empty() ? nullptr : members[as_size(rank)], team_.get(), rank});
  }
  threads_ = std::make_unique<ThreadPool>(ranks);
}

std::vector<const Gpu*> RunDevices::gpus() const {
  std::vector<const Gpu*> gpus;
  for (const auto& gpu : gpus_) gpus.push_back(gpu.get());
  return gpus;
}

}  // namespace puna
