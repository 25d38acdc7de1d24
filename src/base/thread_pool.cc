// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace puna {
namespace {

// Spinning for about 50 µs bridges the gap between two operations of one decode step.
constexpr int kSpins = 20000;

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Processors granted by the control group's quota (cgroup v2), or a large number where there is none.
int quota_processors() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 1 << 20;
  return std::max(1, static_cast<int>(std::stod(quota) / period));
}

}  // namespace

int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int mask = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::max(1, std::min(mask, quota_processors()));
}

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::atomic<std::uint64_t> generation{0};  // counts jobs; workers wait for it to move
  std::atomic<int> unfinished{0};
  std::atomic<bool> stop{false};
  Call call = nullptr;
  void* context = nullptr;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<int> sleepers{0};
  std::mutex error_mutex;
  std::exception_ptr error;

  void keep_error() {
    std::lock_guard lock(error_mutex);
    if (!error) error = std::current_exception();
  }

  // Returns once the generation has moved past `seen`.
  void wait_for_job(std::uint64_t seen) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (generation.load(std::memory_order_acquire) != seen) return;
      pause_cpu();
    }
    std::unique_lock lock(mutex);
    sleepers.fetch_add(1);
    wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
    sleepers.fetch_sub(1);
  }

  void work(int thread) {
    std::uint64_t seen = 0;
    while (true) {
      wait_for_job(seen);
      ++seen;
      if (stop.load(std::memory_order_acquire)) return;
      try {
        call(context, thread);
      } catch (...) {
        keep_error();
      }
      unfinished.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void publish() {
    generation.fetch_add(1);  // sequentially consistent with `sleepers`: a worker either sees this or is counted
    if (sleepers.load() > 0) {
      std::lock_guard lock(mutex);
      wake.notify_all();
    }
  }
};

ThreadPool::ThreadPool(int threads) : size_(threads > 0 ? threads : available_processors()), state_(std::make_unique<State>()) {
  for (int thread = 1; thread < size_; ++thread) {
    state_->workers.emplace_back([state = state_.get(), thread] { state->work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  {
    std::lock_guard lock(state_->mutex);
    state_->generation.fetch_add(1);
    state_->wake.notify_all();
  }
  for (auto& worker : state_->workers) worker.join();
}

void ThreadPool::run_erased(Call call, void* context) {
  State& state = *state_;
  state.call = call;
  state.context = context;
  state.unfinished.store(size_ - 1, std::memory_order_relaxed);
  if (size_ > 1) state.publish();
  try {
    call(context, 0);
  } catch (...) {
    state.keep_error();
  }
  for (int spin = 0; state.unfinished.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      pause_cpu();
    } else {
      std::this_thread::yield();  // more threads than processors: let the others run
    }
  }
  if (state.error) std::rethrow_exception(std::exchange(state.error, nullptr));
}

std::pair<std::int64_t, std::int64_t> ThreadPool::range_of(std::int64_t count, std::int64_t grain, int thread, int threads) {
  const std::int64_t grains = (count + grain - 1) / grain;
  const std::int64_t begin = grains * thread / threads * grain;
  const std::int64_t end = grains * (thread + 1) / threads * grain;
  return {std::min(begin, count), std::min(end, count)};
}

}  // namespace puna
