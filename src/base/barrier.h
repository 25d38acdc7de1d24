// SPDX-License-Identifier: Apache-2.0
// Threads that go on together: none leaves wait() before all have come. One that cannot come breaks the barrier with its error, and
// the others leave with the same error instead of waiting for ever.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <mutex>

#include "base/waiting_room.h"

namespace puna {

class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads), spin_time_(spin_time_for(threads)) {}

  // Rethrows the error that the barrier was broken with, at once or while it waits.
  void wait();
  // The first error stays.
  void break_with(std::exception_ptr error);
  // As new; nobody may be in wait().
  void mend();

 private:
  int threads_;
  std::chrono::microseconds spin_time_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<std::uint64_t> turn_{0};  // how often all have come
  std::atomic<bool> broken_{false};
  WaitingRoom room_;
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace puna
