// SPDX-License-Identifier: Apache-2.0
#include "train/data/shuffle_order.h"

#include <bit>

#include "base/random.h"

namespace puna {
namespace {

constexpr int kRounds = 6;
constexpr std::uint64_t kKeys = 0x64617461'6B657973;  // the stream that keys are drawn from

}  // namespace

ShuffleOrder::ShuffleOrder(std::int64_t n, std::uint64_t seed, std::uint64_t stream, std::uint64_t epoch)
    : n_(static_cast<std::uint64_t>(n)), seed_(seed), key_(random_bits(seed ^ random_bits(seed, kKeys, stream), kKeys + 1, epoch)) {
  half_bits_ = (std::bit_width(n_ - 1) + 1) / 2;
}

std::int64_t ShuffleOrder::at(std::int64_t place) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  auto value = static_cast<std::uint64_t>(place);
  do {
    std::uint64_t left = value >> half_bits_, right = value & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const std::uint64_t mixed = left ^ (random_bits(seed_, key_, round << 32 | right) & mask);
      left = right;
      right = mixed;
    }
    value = left << half_bits_ | right;
  } while (value >= n_);
  return static_cast<std::int64_t>(value);
}

}  // namespace puna
