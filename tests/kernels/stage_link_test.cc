// SPDX-License-Identifier: Apache-2.0
#include "kernels/stage_link.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "base/thread_pool.h"

namespace puna {
namespace {

// The sender overwrites x as soon as it has given it, and the receiver is slower or faster in turns.
TEST(StageLink, GivesEveryXOnce) {
  constexpr int kTimes = 2000;
  constexpr std::int64_t kCount = 1000;
  StageLink link;
  ThreadPool threads(2), pool(1);
  const Device device{pool};
  std::vector<float> sent(kCount), received(kCount);
  threads.run([&](int thread) {
    for (int time = 0; time < kTimes; ++time) {
      if (thread == 0) {
        for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<float>(time + static_cast<int>(i));
        link.give(device, sent.data());
        continue;
      }
      link.take(device, received.data(), kCount);
      for (std::size_t i = 0; i < received.size(); ++i) {
        if (received[i] != static_cast<float>(time + static_cast<int>(i))) throw std::runtime_error("x " + std::to_string(time));
      }
    }
  });
}

TEST(StageLink, AFailureOfOneEndsTheOther) {
  StageLink link;
  ThreadPool threads(2), pool(1);
  const Device device{pool};
  std::vector<float> sent(10, 1.0f), received(10);
  const auto meet = [&](int failing) {
    threads.run([&](int thread) {
      try {
        if (thread == failing) throw std::runtime_error(std::to_string(thread) + " is out of memory");
        if (thread == 0) link.give(device, sent.data());
        if (thread == 1) link.take(device, received.data(), 10);
      } catch (...) {
        link.break_with(std::current_exception());
        throw;
      }
    });
  };
  for (const int failing : {0, 1}) {
    try {
      meet(failing);
      FAIL() << "no error";
    } catch (const std::exception& error) {
      EXPECT_EQ(error.what(), std::to_string(failing) + " is out of memory");
    }
    link.mend();
  }
  meet(-1);
  EXPECT_EQ(received, sent);
}

}  // namespace
}  // namespace puna
