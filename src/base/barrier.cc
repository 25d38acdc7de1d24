// SPDX-License-Identifier: Apache-2.0
#include "base/barrier.h"

#include <utility>

namespace puna {

void Barrier::wait() {
  const std::uint64_t turn = turn_.load();
  if (!broken_.load()) {
    if (arrived_.fetch_add(1) + 1 == threads_) {
      arrived_.store(0);
      turn_.fetch_add(1);
      return room_.notify();
    }
    room_.wait(spin_time_, [&] { return turn_.load() != turn || broken_.load(); });
    if (turn_.load() != turn) return;
  }
  std::exception_ptr error;
  {
    const std::lock_guard lock(mutex_);
    error = error_;
  }
  std::rethrow_exception(error);
}

void Barrier::break_with(std::exception_ptr error) {
  {
    const std::lock_guard lock(mutex_);
    if (error_) return;
    error_ = std::move(error);
  }
  broken_.store(true);
  room_.notify();
}

void Barrier::mend() {
  arrived_.store(0);
  broken_.store(false);
  error_ = nullptr;
}

}  // namespace puna
