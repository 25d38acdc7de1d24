// SPDX-License-Identifier: Apache-2.0
// The barrier: nobody goes on before all have come, and nobody is left waiting for one that failed.
#include "base/barrier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/thread_pool.h"

namespace puna {
namespace {

TEST(Barrier, NobodyGoesOnBeforeAllHaveCome) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    Barrier barrier(threads);
    std::atomic<int> came{0};
    std::atomic<bool> early{false};
    pool.run([&](int) {
      for (int turn = 1; turn <= 500; ++turn) {
        came.fetch_add(1);
        barrier.wait();
        if (came.load() < turn * threads) early = true;
        barrier.wait();
      }
    });
    EXPECT_FALSE(early) << threads;
  }
}

TEST(Barrier, OneThatFailsTakesTheOthersWithIt) {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  Barrier barrier(kThreads);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> errors(kThreads);
    pool.run([&](int thread) {
      try {
        barrier.wait();
        if (thread == round % kThreads) {
          barrier.break_with(std::make_exception_ptr(std::runtime_error("out of paper")));
          barrier.break_with(std::make_exception_ptr(std::runtime_error("a later one")));
        }
        barrier.wait();
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(thread)] = error.what();
      }
    });
    EXPECT_EQ(errors, std::vector<std::string>(kThreads, "out of paper"));
    EXPECT_THROW(barrier.wait(), std::runtime_error) << "stays broken";
    barrier.mend();
  }
}

}  // namespace
}  // namespace puna
