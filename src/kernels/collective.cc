// SPDX-License-Identifier: Apache-2.0
// Sums over ranks. Through the host there are two meetings for each sum: one before which all numbers are there, one behind which
// all shares are added. Nobody copies or waits for more than that.
#include "kernels/collective.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include "base/as_size.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/gpu.h"

namespace puna {
namespace {

constexpr std::int64_t kAddPiece = 4096;           // numbers that are added for all ranks while they are in the nearest cache
constexpr std::int64_t kAddAlone = 4 * kAddPiece;  // a share that is not worth waking a thread for

// The GPUs' own sums, queued on their streams.
class NcclTeam final : public Team {
 public:
  explicit NcclTeam(std::span<Gpu* const> gpus) : Team(static_cast<int>(gpus.size())), gpus_(gpus.begin(), gpus.end()) {}
  ~NcclTeam() override { leave(); }
  NcclTeam(const NcclTeam&) = delete;
  NcclTeam& operator=(const NcclTeam&) = delete;

  void sum(const Device& device, float* x, std::int64_t count) override {
    device.gpu->library().sum_over_ranks(device.gpu->context(), x, as_size(count));
  }
  bool records() const override { return true; }
  // GPUs that wait for the failed one are let go, so that the threads which wait for them come back.
  void break_with(const std::exception_ptr& error) override {
    Team::break_with(error);
    leave();
  }
  void mend() override {
    if (left_)
      fail(ErrorKind::kUnsupported, "cuda", "the GPUs no longer work together since one of them failed: load the model again");
    Team::mend();
  }
  std::string about() const override { return "NCCL"; }

 private:
  void leave() {
    const std::lock_guard lock(mutex_);
    if (std::exchange(left_, true)) return;
    for (Gpu* const gpu : gpus_) gpu->library().leave(gpu->context());
  }

  std::vector<Gpu*> gpus_;
  std::mutex mutex_;
  bool left_ = false;
};

}  // namespace

void Team::gather(int rank, std::span<const double> own, std::span<double> all) {
  PUNA_CHECK(all.size() == own.size() * gathered_.size(), "gather", "{} numbers of {} ranks into {}", own.size(), ranks(),
             all.size());
  gathered_[as_size(rank)] = own;
  meet();
  auto to = all.begin();
  for (const std::span<const double> of_rank : gathered_) to = std::ranges::copy(of_rank, to).out;
  meet();  // nobody changes what others still read
}

HostTeam::HostTeam(int ranks, std::string remark) : Team(ranks), slots_(as_size(ranks)), remark_(std::move(remark)) {}

void HostTeam::sum(const Device& device, float* x, std::int64_t count) {
  Slot& own = slots_[as_size(device.rank)];
  own.values = x;
  if (device.gpu != nullptr) {
    if (count > own.room) {
      own.pinned = device.gpu->pinned(as_size(count));
      own.room = count;
    }
    own.values = own.pinned.get();
    device.copy_out(own.values, x, as_size(count) * sizeof(float));
  }
  meet();
  add_share(device, count);
  meet();
  if (device.gpu != nullptr) device.copy_in(x, own.values, as_size(count) * sizeof(float));
}

// The sums of this rank's share, written to all ranks.
void HostTeam::add_share(const Device& device, std::int64_t count) const {
  const auto [first, last] = ThreadPool::range_of(count, 16, device.rank, ranks());
  const auto add = [&](std::int64_t begin, std::int64_t end) {
    std::array<float, kAddPiece> sum;
    for (std::int64_t at = begin; at < end; at += kAddPiece) {
      const std::int64_t piece = std::min(kAddPiece, end - at);
      std::copy_n(slots_.front().values + at, piece, sum.begin());
      for (const Slot& slot : std::span(slots_).subspan(1)) {
        const float* const values = slot.values + at;
        for (std::int64_t i = 0; i < piece; ++i) sum[as_size(i)] += values[i];
      }
      for (const Slot& slot : slots_) std::copy_n(sum.begin(), piece, slot.values + at);
    }
  };
  if (last - first <= kAddAlone) return add(first, last);
  device.pool.split(last - first, kAddPiece,
                    [&, from = first](std::int64_t begin, std::int64_t end, int) { add(from + begin, from + end); });
}

std::unique_ptr<Team> make_team(std::span<Gpu* const> gpus) {
  std::vector<GpuContext*> contexts;
  for (const Gpu* const gpu : gpus) contexts.push_back(gpu->context());
  const std::string why_not = gpus.front()->library().join(contexts);
  if (why_not.empty()) return std::make_unique<NcclTeam>(gpus);
  return std::make_unique<HostTeam>(static_cast<int>(gpus.size()), fmt::format(", for want of NCCL: {}", why_not));
}

void sum_over_ranks(const Device& device, float* x, std::int64_t count) {
  if (device.team != nullptr) device.team->sum(device, x, count);
}

void gather_over_ranks(const Device& device, std::span<const double> own, std::span<double> all) {
  if (device.team != nullptr) return device.team->gather(device.rank, own, all);
  PUNA_CHECK(all.size() == own.size(), "gather", "{} numbers of one rank into {}", own.size(), all.size());
  std::ranges::copy(own, all.begin());
}

}  // namespace puna
