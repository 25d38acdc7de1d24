// SPDX-License-Identifier: Apache-2.0
// An order of n rows that costs no memory: a permutation of [0, n) computed for one place at a time. A Feistel network over the
// next power of four, keyed by (seed, stream, epoch), is a bijection; places that fall outside [0, n) are sent through again
// ("cycle walking", Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002), fewer than 4 times on average.
#pragma once

#include <cstdint>

namespace puna {

class ShuffleOrder {
 public:
  // n >= 1. `stream` tells apart what is shuffled with the same seed.
  ShuffleOrder(std::int64_t n, std::uint64_t seed, std::uint64_t stream, std::uint64_t epoch);

  std::int64_t at(std::int64_t place) const;  // place in [0, n)

 private:
  std::uint64_t n_, seed_, key_;
  int half_bits_ = 0;
};

}  // namespace puna
