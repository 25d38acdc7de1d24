// SPDX-License-Identifier: Apache-2.0
#include "server/places.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "refusal.h"

namespace puna {
namespace {

int status_of(Places::Held& held, std::int64_t count) {
  try {
    held.need(count, "n");
  } catch (const ApiError& error) {
    return error.status();
  }
  return 200;
}

TEST(Places, ARequestHasOneAndGivesItBack) {
  Places places(2);
  {
    const Places::Held first = places.take(), second = places.take(), third = places.take();
    EXPECT_EQ(first.count() + second.count(), 2);
    EXPECT_EQ(third.count(), 0);
    EXPECT_EQ(places.taken(), 2);
    EXPECT_EQ(places.requests(), 2);
  }
  EXPECT_EQ(places.taken(), 0);
  EXPECT_EQ(places.requests(), 0);
}

TEST(Places, SeveralAnswersTakeAllOrNone) {
  Places places(8);
  Places::Held busy = places.take(), held = places.take();
  EXPECT_EQ(status_of(busy, 5), 200);
  EXPECT_EQ(status_of(held, 4), 429);
  EXPECT_EQ(held.count(), 1);
  EXPECT_EQ(places.taken(), 6);
  EXPECT_EQ(status_of(held, 3), 200);
  EXPECT_EQ(places.taken(), 8);
  EXPECT_EQ(status_of(held, 2), 200) << "it has more";
  EXPECT_EQ(places.taken(), 8);
}

TEST(Places, WhatNeverHasRoomIsAFaultOfTheRequest) {
  Places places(8);
  Places::Held held = places.take();
  EXPECT_EQ(refused([&] { held.need(9, "n"); }), std::pair(std::string("n"), std::string("too_many_answers")));
  EXPECT_EQ(places.taken(), 1);
}

TEST(Places, WhoIsRefusedIsToldWhenToComeAgain) {
  Places places(1);
  const Places::Held held = places.take();
  const ApiError error = places.overloaded(3);
  EXPECT_EQ(error.status(), 429);
  const auto has = [&](std::string_view name) {
    return std::ranges::any_of(error.headers(), [&](const auto& header) { return header.first == name && !header.second.empty(); });
  };
  EXPECT_TRUE(has("Retry-After"));
  EXPECT_TRUE(has("retry-after-ms"));
  EXPECT_EQ(error_response(ApiFamily::kOpenAi, error, "").headers, error.headers());
}

TEST(Places, WhatCanBeDoneInFewerTakesThoseThatAreFree) {
  Places places(8);
  Places::Held busy = places.take(), held = places.take();
  busy.need(5, "n");
  held.take_free(16);
  EXPECT_EQ(held.count(), 3);
  held.take_free(16);
  EXPECT_EQ(held.count(), 3);
  held.give_back(2);
  EXPECT_EQ(held.count(), 1);
  EXPECT_EQ(places.requests(), 2);
  held.give_back(7);
  EXPECT_EQ(held.count(), 0);
  EXPECT_EQ(places.taken(), 5);
  EXPECT_EQ(places.requests(), 1);
  held.take_free(2);
  EXPECT_EQ(held.count(), 0) << "its request has ended";
}

TEST(Places, NoMoreAreTakenThanThereAreFromManyThreads) {
  Places places(10);
  std::atomic<std::int64_t> most{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < 2000; ++j) {
        Places::Held held = places.take();
        if (held.count() == 0) continue;
        i % 2 == 0 ? held.take_free(6) : void(status_of(held, 6));
        std::int64_t taken = places.taken(), before = most;
        while (before < taken && !most.compare_exchange_weak(before, taken)) continue;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, 10);
  EXPECT_EQ(places.taken(), 0);
  EXPECT_EQ(places.requests(), 0);
}

}  // namespace
}  // namespace puna
