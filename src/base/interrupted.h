// SPDX-License-Identifier: Apache-2.0
// How a long job is ended from outside: whoever starts it hands in a flag, the job looks at it between two small parts, and leaves
// with this exception, so that everything unfinished is taken away on the way up.
#pragma once

#include <atomic>
#include <exception>

namespace puna {

class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

// nullptr: a job that nobody ends.
inline void stop_if(const std::atomic<bool>* interrupted) {
  if (interrupted != nullptr && interrupted->load(std::memory_order_relaxed)) throw Interrupted();
}

}  // namespace puna
