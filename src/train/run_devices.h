// SPDX-License-Identifier: Apache-2.0
// Where a run computes: one device, or several among which its networks are split (tensor parallelism, model/rank_share.h). Each is
// a rank of one team with a thread of its own, as every rank waits for the others in every layer; rank 0's thread is the caller's.
// All ranks do the same things in the same order.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/collective.h"
#include "kernels/device.h"
#include "kernels/gpu.h"
#include "train/recipe.h"

namespace puna {

class RunDevices {
 public:
  // Those the recipe names. GPUs compute in the precision of its `weights`; ranks of the CPU have `pool`'s number of threads in
  // equal parts. Throws kUnsupported for several where the objective runs on one, and where there is no such GPU.
  RunDevices(const Recipe& recipe, ThreadPool& pool);
  RunDevices(const RunDevices&) = delete;
  RunDevices& operator=(const RunDevices&) = delete;

  int ranks() const { return static_cast<int>(devices_.size()); }
  const Device& operator[](int rank) const { return devices_[static_cast<std::size_t>(rank)]; }
  std::vector<const Gpu*> gpus() const;  // [N], or none
  // How ranks add up, for people; "" of one.
  std::string about() const { return team_ == nullptr ? "" : team_->about(); }

  // job(rank) on all ranks -> what it returns on rank 0. Where one throws, all end, and its error is thrown.
  template <typename Job>
  auto each(Job&& job) {
    using Result = std::invoke_result_t<Job&, int>;
    const auto each_meeting = [&](auto&& act) { act(*team_); };
    if constexpr (std::is_void_v<Result>) {
      if (threads_ == nullptr) return job(0);
      run_ranks(*threads_, each_meeting, job);
    } else {
      if (threads_ == nullptr) return job(0);
      std::optional<Result> result;
      run_ranks(*threads_, each_meeting, [&](int rank) {
        Result own = job(rank);
        if (rank == 0) result = std::move(own);
      });
      return *std::move(result);
    }
  }

 private:
  std::vector<std::unique_ptr<Gpu>> gpus_;  // [N], or none
  std::unique_ptr<Team> team_;              // of several ranks
  std::vector<std::unique_ptr<ThreadPool>> pools_;
  std::vector<Device> devices_;          // [N]
  std::unique_ptr<ThreadPool> threads_;  // one for each rank, where there are several
};

}  // namespace puna
