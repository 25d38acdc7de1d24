// SPDX-License-Identifier: Apache-2.0
// What becomes of tasks when their pool goes.
#include "server/worker_pool.h"

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <memory>
#include <thread>

namespace puna {
namespace {

TEST(WorkerPool, DropsWhatHasNotBegunWhenItGoes) {
  const auto held = std::make_shared<int>(0);
  {
    std::function<void()> again;
    WorkerPool pool(1);
    again = [&] { pool.post(again); };  // there is always something left to do
    pool.post(again);
    for (int i = 0; i < 1000; ++i) pool.post([held] { ++*held; });
  }
  EXPECT_EQ(held.use_count(), 1);
}

TEST(WorkerPool, FinishesWhatHasBegun) {
  bool finished = false;
  std::promise<void> begun, go_on;
  std::thread other;
  {
    WorkerPool pool(1);
    pool.post([&] {
      begun.set_value();
      go_on.get_future().wait();
      finished = true;
    });
    begun.get_future().wait();
    other = std::thread([&] { go_on.set_value(); });
  }
  EXPECT_TRUE(finished);
  other.join();
}

}  // namespace
}  // namespace puna
