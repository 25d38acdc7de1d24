// SPDX-License-Identifier: Apache-2.0
#include "tensor/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "expect_error.h"
#include "tensor/raw_bytes.h"

namespace puna {
namespace {

TEST(Arena, HandsOutAlignedZeroedPieces) {
  Arena arena(Arena::padded(100) + Arena::padded(10 * sizeof(float)), "a test");
  const auto first = arena.take(100);
  const auto second = arena.take<float>(10);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.data()) % Arena::kAlignment, 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(second.data()) % Arena::kAlignment, 0u);
  EXPECT_TRUE(std::all_of(first.begin(), first.end(), [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_EQ(first.size(), 100u);
  EXPECT_EQ(second.size(), 10u);
  second[9] = 1.0f;
  EXPECT_EQ(arena.used(), arena.capacity());
}

TEST(Arena, RefusesMoreThanItHas) {
  Arena arena(128, "a test");
  arena.take(65);
  expect_error(ErrorKind::kInternal, "[arena] 1 bytes asked for, 0 of 128 are left", [&] { arena.take(1); });
}

TEST(Arena, TheLastPieceNeedsNoPadding) {
  Arena arena(70, "a test");
  EXPECT_EQ(arena.take(70).size(), 70u);
  EXPECT_EQ(arena.used(), 70u);
  EXPECT_TRUE(arena.take(0).empty());
}

TEST(Arena, LargeOnesAskForHugePagesAndWork) {
  Arena arena(std::size_t{8} << 20, "a test");
  auto piece = arena.take(std::size_t{8} << 20);
  piece.back() = std::byte{7};
  EXPECT_EQ(piece.front(), std::byte{0});
}

TEST(Arena, MovesItsMemory) {
  Arena arena(64, "a test");
  const auto piece = arena.take(64);
  Arena other(std::move(arena));
  piece[0] = std::byte{1};
  EXPECT_EQ(other.used(), 64u);
  EXPECT_EQ(arena.capacity(), 0u);  // NOLINT(bugprone-use-after-move): a moved-from arena is empty
  Arena third;
  third = std::move(other);
  EXPECT_EQ(third.capacity(), 64u);
}

TEST(Arena, SaysWhatDoesNotFit) {
  expect_error(ErrorKind::kNoRoom, "the KV cache needs", [] { Arena(std::size_t{1} << 60, "the KV cache"); });
}

}  // namespace
}  // namespace puna
