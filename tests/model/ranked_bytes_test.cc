// SPDX-License-Identifier: Apache-2.0
// Parts of ranks put together and taken apart again: what one device has, in its order.
#include "model/ranked_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"

namespace puna {
namespace {

// A whole [rows, width] of bytes that tell their place, and parts of these widths (kColumns) or heights (kRows).
struct Divided {
  Divided(ShardAxis split, std::size_t rows, std::size_t width, std::vector<std::size_t> counts) : axis(split) {
    for (std::size_t i = 0; i < rows * width; ++i) whole.push_back(static_cast<std::byte>(i * 2654435761u >> 13));
    std::size_t first = 0;
    for (const std::size_t count : counts) {
      std::vector<std::byte> part;
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t column = 0; column < width; ++column) {
          const std::size_t place = axis == ShardAxis::kRows ? row : column;
          if (axis == ShardAxis::kNone || (place >= first && place < first + count)) part.push_back(whole[row * width + column]);
        }
      }
      parts.push_back(std::move(part));
      first += count;
    }
    row_count = static_cast<std::int64_t>(rows);
  }
  RankedBytes bytes(const Device* device) {
    std::vector<RankedBytes::Part> of_ranks;
    for (std::vector<std::byte>& part : parts) of_ranks.push_back({part, device});
    return {std::move(of_ranks), axis, row_count};
  }

  ShardAxis axis;
  std::int64_t row_count = 0;
  std::vector<std::byte> whole;
  std::vector<std::vector<std::byte>> parts;
};

void expect_whole(Divided divided, const std::string& what) {
  ThreadPool pool(1);
  const Device device{pool};
  for (const Device* const where : {static_cast<const Device*>(nullptr), &device}) {
    const std::vector<std::vector<std::byte>> parts = divided.parts;
    const RankedBytes bytes = divided.bytes(where);
    EXPECT_EQ(bytes.size(), divided.whole.size()) << what;
    std::vector<std::byte> read;
    RankedReader reader;
    for (int again = 0; again < 2; ++again) {
      read.clear();
      reader.read(bytes, [&](std::span<const std::byte> piece) { read.insert(read.end(), piece.begin(), piece.end()); });
      EXPECT_TRUE(read == divided.whole) << what;
    }
    for (std::vector<std::byte>& part : divided.parts) std::ranges::fill(part, std::byte{0});
    bytes.fill(divided.whole);
    EXPECT_TRUE(divided.parts == parts) << what;
  }
}

TEST(RankedBytes, ArePutTogetherAndTakenApart) {
  expect_whole({ShardAxis::kNone, 3, 8, {0}}, "alone");
  expect_whole({ShardAxis::kNone, 3, 8, {0, 0, 0}}, "whole on three ranks");
  expect_whole({ShardAxis::kRows, 7, 12, {2, 1, 4}}, "rows");
  expect_whole({ShardAxis::kColumns, 7, 12, {2, 1, 9}}, "columns");
  expect_whole({ShardAxis::kColumns, 2500, 8000, {3000, 5000}}, "columns in two pieces");
}

TEST(RankedBytes, AreFilledByAsManyBytesOnly) {
  Divided divided(ShardAxis::kRows, 4, 4, {2, 2});
  EXPECT_ANY_THROW(divided.bytes(nullptr).fill(std::span(divided.whole).first(15)));
}

}  // namespace
}  // namespace puna
