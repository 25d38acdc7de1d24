// SPDX-License-Identifier: Apache-2.0
// Where threads wait for a condition on atomic variables: spinning for a while, then asleep. The threads of a pool wait so for
// work, those of a barrier for each other.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace puna {

// How long each of so many threads should spin before it sleeps: longer than the gap between two operations of a decode step, short
// beside the step. Where threads outnumber processors they sleep at once, because a spinning thread keeps the working one from
// running.
std::chrono::microseconds spin_time_for(int threads);

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class WaitingRoom {
 public:
  template <typename Condition>
  void wait(std::chrono::microseconds spin_time, Condition condition) {
    constexpr int kPausesPerLook = 64;  // a pause is 10 to 140 cycles, a look at the clock about 60
    if (condition()) return;
    if (spin_time.count() > 0) {
      const auto end = std::chrono::steady_clock::now() + spin_time;
      do {
        for (int pause = 0; pause < kPausesPerLook; ++pause) {
          if (condition()) return;
          pause_cpu();
        }
      } while (std::chrono::steady_clock::now() < end);
    }
    std::unique_lock lock(mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, condition);
    sleepers_.fetch_sub(1);
  }

  // Call after the change that a condition waits for. The change, `sleepers_` and the condition's loads are all sequentially
  // consistent: either this sees the sleeper, or the sleeper's look at its condition sees the change.
  void notify() {
    if (sleepers_.load() == 0) return;
    { std::lock_guard lock(mutex_); }  // whoever has counted itself is asleep now
    wake_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_{0};
};

}  // namespace puna
