// SPDX-License-Identifier: Apache-2.0
// What the ranks of a team put together. A rank is a thread with a device of its own that computes a share of the same network
// (model/rank_share.h); every rank calls the same collective operations in the same order.
//   sum_over_ranks: x of every rank becomes x_0 + x_1 + … + x_{N-1}
//   gather_over_ranks: all ranks get x_0, x_1, …, x_{N-1}, few numbers of the host's memory
// Through the host's memory the sum is made in the order of ranks, over NCCL in an order of NCCL's; in either case all ranks get
// equal bits.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/barrier.h"
#include "kernels/device.h"

namespace puna {

inline constexpr int kMostRanks = 64;  // of a team

class Team {
 public:
  explicit Team(int ranks) : meeting_(ranks), gathered_(static_cast<std::size_t>(ranks)) {}
  virtual ~Team() = default;

  int ranks() const { return static_cast<int>(gathered_.size()); }
  virtual void sum(const Device& device, float* x, std::int64_t count) = 0;
  // True where sums are queued on the GPUs and may be recorded with the step that they belong to.
  virtual bool records() const = 0;
  // own [n] of this rank -> all [N, n], the ranks' one after the other.
  void gather(int rank, std::span<const double> own, std::span<double> all);
  // A rank has failed: the others, which wait for it or are going to, fail with the same error. Called by any thread, any number of
  // times; the first error stays.
  virtual void break_with(const std::exception_ptr& error) { meeting_.break_with(error); }
  // Before the ranks begin again; none of them is in a sum. Throws kUnsupported where a broken team cannot be mended.
  virtual void mend() { meeting_.mend(); }
  // How sums are made, for people: "the host's memory".
  virtual std::string about() const = 0;

 protected:
  // All ranks' threads go on together.
  void meet() { meeting_.wait(); }

 private:
  Barrier meeting_;
  std::vector<std::span<const double>> gathered_;  // of each rank, while they gather
};

// Sums through the host's memory, where the CPU's ranks have their numbers and GPUs copy theirs: each rank adds a share of the
// numbers for all. For any devices, also several ranks on one GPU.
class HostTeam : public Team {
 public:
  // `remark` is added to about().
  explicit HostTeam(int ranks, std::string remark = "");

  void sum(const Device& device, float* x, std::int64_t count) override;
  bool records() const override { return false; }
  std::string about() const override { return "the host's memory" + remark_; }

 private:
  struct Slot {
    float* values = nullptr;        // x of this rank, or its copy
    std::shared_ptr<float> pinned;  // of a GPU's x
    std::int64_t room = 0;
  };
  void add_share(const Device& device, std::int64_t count) const;

  std::vector<Slot> slots_;
  std::string remark_;
};

// The best team for ranks on these GPUs, which outlive it: over NCCL, or where that cannot be (it is missing, or a GPU comes
// twice) through the host's memory; about() says why.
std::unique_ptr<Team> make_team(std::span<Gpu* const> gpus);

// x [count], the device's memory. Nothing to do without a team.
void sum_over_ranks(const Device& device, float* x, std::int64_t count);
// own [n] -> all [N, n], both the host's memory. Without a team N is 1.
void gather_over_ranks(const Device& device, std::span<const double> own, std::span<double> all);

// job(place) in every thread of `threads`, each with a rank of its own. One that throws breaks what the ranks meet in, so that the
// others end too, with the same error; each_meeting(act) calls act(meeting) for every Team or StageLink.
template <typename EachMeeting, typename Job>
void run_ranks(ThreadPool& threads, EachMeeting&& each_meeting, Job&& job) {
  each_meeting([](auto& meeting) { meeting.mend(); });
  threads.run([&](int place) {
    try {
      job(place);
    } catch (...) {
      each_meeting([error = std::current_exception()](auto& meeting) { meeting.break_with(error); });
      throw;
    }
  });
}

}  // namespace puna
