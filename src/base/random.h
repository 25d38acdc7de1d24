// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: every value is a function of (seed, stream, index), so it is the same on every device, in every
// order and after a restart. Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cstdint>

namespace puna {

// Ten rounds of Philox4x32: four random words for a counter and a key.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// 64 random bits; `stream` is what the numbers are for (a training step, a request), `index` counts within it.
std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

// Uniform in [0, 1), 53 bits.
double random_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

// Standard normal (Box-Muller).
double random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

}  // namespace puna
