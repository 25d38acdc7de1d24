// SPDX-License-Identifier: Apache-2.0
// The thread pool: every item exactly once, the same split every time, exceptions, more threads than processors.
#include "base/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"

namespace puna {
namespace {

TEST(RangeOf, CoversEveryItemOnceInOrder) {
  for (const std::int64_t count : {0, 1, 2, 7, 64, 100, 1000003}) {
    for (const std::int64_t grain : {1, 3, 32, 4096}) {
      for (const int threads : {1, 2, 3, 8, 61}) {
        std::int64_t next = 0;
        for (int thread = 0; thread < threads; ++thread) {
          const auto [begin, end] = ThreadPool::range_of(count, grain, thread, threads);
          if (begin == end) continue;
          ASSERT_EQ(begin, next) << count << " items, grain " << grain << ", thread " << thread << " of " << threads;
          ASSERT_EQ(begin % grain, 0);
          ASSERT_TRUE(end % grain == 0 || end == count);
          next = end;
        }
        ASSERT_EQ(next, count) << "grain " << grain << ", " << threads << " threads";
      }
    }
  }
}

TEST(RangeOf, SharesDifferByOneGrainAtMost) {
  for (int thread = 0; thread < 7; ++thread) {
    const auto [begin, end] = ThreadPool::range_of(1000, 8, thread, 7);
    EXPECT_GE(end - begin, 136) << thread;  // 125 grains among 7 threads: 17 or 18 each
    EXPECT_LE(end - begin, 144) << thread;
  }
}

TEST(RangeOf, RefusesAGrainOfNothing) {
  try {
    ThreadPool::range_of(10, 0, 0, 2);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(), testing::HasSubstr("10 items in grains of 0"));
  }
}

class Pool : public testing::TestWithParam<int> {};

TEST_P(Pool, RunsOncePerThread) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.size(), GetParam());
  std::vector<int> calls(static_cast<std::size_t>(pool.size()), 0);  // [threads]
  for (int job = 0; job < 1000; ++job) pool.run([&](int thread) { ++calls[static_cast<std::size_t>(thread)]; });
  EXPECT_THAT(calls, testing::Each(1000));
}

TEST_P(Pool, CallerIsThreadZero) {
  ThreadPool pool(GetParam());
  std::vector<std::thread::id> ids(static_cast<std::size_t>(pool.size()));  // [threads]
  pool.run([&](int thread) { ids[static_cast<std::size_t>(thread)] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  for (std::size_t i = 1; i < ids.size(); ++i) EXPECT_NE(ids[i], ids[0]);
}

TEST_P(Pool, SplitWritesEveryItem) {
  ThreadPool pool(GetParam());
  std::vector<std::int64_t> values(10007, -1);  // [items]
  pool.split(10007, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) values[static_cast<std::size_t>(i)] = i * i;
  });
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<std::int64_t>(i * i));
}

TEST_P(Pool, SplitSkipsEmptyRanges) {
  ThreadPool pool(GetParam());
  std::atomic<int> calls{0};
  pool.split(5, 8, [&](std::int64_t, std::int64_t, int) { ++calls; });
  EXPECT_EQ(calls, 1);
  pool.split(0, 8, [&](std::int64_t, std::int64_t, int) { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST_P(Pool, EarlierWritesAreSeenByTheNextJob) {
  ThreadPool pool(GetParam());
  std::vector<std::int64_t> now(64, 1), next(64, 0);  // [items]: each job reads what other threads wrote in the one before
  for (int job = 0; job < 500; ++job) {
    pool.split(64, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) next[static_cast<std::size_t>(i)] = now[static_cast<std::size_t>(63 - i)] + 1;
    });
    now.swap(next);
  }
  EXPECT_THAT(now, testing::Each(501));
}

TEST_P(Pool, RethrowsOnTheCallerAndLivesOn) {
  ThreadPool pool(GetParam());
  for (int bad = 0; bad < pool.size(); ++bad) {
    std::atomic<int> finished{0};
    try {
      pool.run([&](int thread) {
        if (thread == bad) throw std::runtime_error("from thread " + std::to_string(thread));
        ++finished;
      });
      FAIL() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), "from thread " + std::to_string(bad));
      EXPECT_EQ(finished, pool.size() - 1) << "the others were not waited for";
    }
  }
  std::atomic<int> calls{0};
  pool.run([&](int) { ++calls; });
  EXPECT_EQ(calls, pool.size());
}

TEST_P(Pool, EveryThreadMayThrow) {
  ThreadPool pool(GetParam());
  EXPECT_THROW(pool.run([](int) { throw std::runtime_error("all"); }), std::runtime_error);
  EXPECT_NO_THROW(pool.run([](int) {}));
}

TEST_P(Pool, RefusesAJobInsideAJob) {
  ThreadPool pool(GetParam());
  try {
    pool.run([&](int) { pool.run([](int) {}); });
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_STREQ(error.what(), "[thread pool] a job was started while another one runs");
  }
  EXPECT_NO_THROW(pool.run([](int) {}));
}

TEST_P(Pool, WakesAfterSleeping) {
  ThreadPool pool(GetParam());
  std::atomic<int> calls{0};
  for (int job = 0; job < 20; ++job) {
    std::this_thread::sleep_for(std::chrono::microseconds(job * 50));  // around the time at which spinning ends
    pool.run([&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 20 * pool.size());
}

TEST_P(Pool, EndsWhileIdleAndWhileStarting) {
  for (int i = 0; i < 20; ++i) ThreadPool pool(GetParam());
  ThreadPool asleep(GetParam());
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

INSTANTIATE_TEST_SUITE_P(Sizes, Pool, testing::Values(1, 2, 3, 8));

TEST(ThreadPool, ManyThreadsOnFewProcessorsDoNotCrawl) {
  ThreadPool pool(4 * available_processors());
  double best_us = 1e9;  // a job in the quietest of twenty batches: other programs may be running
  for (int batch = 0; batch < 20; ++batch) {
    const auto start = std::chrono::steady_clock::now();
    for (int job = 0; job < 20; ++job) pool.run([](int) {});
    best_us = std::min(best_us, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / 20);
  }
  EXPECT_LT(best_us, 1000);  // some 50; threads that spin through their time slices take 2,000
}

TEST(ThreadPool, SumsAreBitEqualInEveryRun) {
  ThreadPool pool(3);
  std::vector<float> values(100000);  // [items]
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 1.0f / static_cast<float>(i + 1);
  const auto sum = [&] {
    std::vector<float> parts(3, 0.0f);  // [threads]
    pool.split(static_cast<std::int64_t>(values.size()), 64, [&](std::int64_t begin, std::int64_t end, int thread) {
      for (std::int64_t i = begin; i < end; ++i) parts[static_cast<std::size_t>(thread)] += values[static_cast<std::size_t>(i)];
    });
    return parts[0] + parts[1] + parts[2];
  };
  const float first = sum();
  for (int run = 0; run < 20; ++run) ASSERT_EQ(sum(), first);
}

TEST(ThreadPool, DefaultsToTheProcessorsOfThisProcess) {
  ThreadPool pool;
  EXPECT_EQ(pool.size(), available_processors());
  EXPECT_GE(available_processors(), 1);
  EXPECT_LE(available_processors(), static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
}

}  // namespace
}  // namespace puna
