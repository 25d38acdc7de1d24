// SPDX-License-Identifier: Apache-2.0
// The quantized blocks as they lie in a GGUF file (little-endian, no padding). d and m are F16.
// Value formulas: q is the stored unsigned number.
#pragma once

#include <cstdint>

namespace puna {

inline constexpr int kBlock = 32;  // values in a plain block
inline constexpr int kHalfBlock = kBlock / 2;
inline constexpr int kSuperBlock = 256;  // values in a K block

struct BlockQ8_0 {  // value = d q, q signed
  std::uint16_t d;
  std::int8_t q[32];
};
struct BlockQ4_0 {  // value = d (q - 8); byte i holds q[i] low and q[i + 16] high
  std::uint16_t d;
  std::uint8_t q[16];
};
struct BlockQ4_1 {  // value = d q + m; nibbles as in Q4_0
  std::uint16_t d, m;
  std::uint8_t q[16];
};
struct BlockQ5_0 {  // value = d (q - 16); low four bits as in Q4_0, bit i of `high` is the fifth bit of q[i]
  std::uint16_t d;
  std::uint8_t high[4];
  std::uint8_t q[16];
};
struct BlockQ5_1 {  // value = d q + m; bits as in Q5_0
  std::uint16_t d, m;
  std::uint8_t high[4];
  std::uint8_t q[16];
};
// K blocks: eight sub-blocks j of 32 values, each with a 6-bit scale s[j] and minimum m[j] packed in 12 bytes:
// j < 4: s = scales[j] & 63, m = scales[j + 4] & 63
// j >= 4: s = scales[j + 4] & 15 | (scales[j - 4] >> 6) << 4, m = scales[j + 4] >> 4 | (scales[j] >> 6) << 4
struct BlockQ4_K {  // value = d s[j] q - dmin m[j]; q[32 c + i] low nibble: sub-block 2c, high nibble: sub-block 2c + 1
  std::uint16_t d, dmin;
  std::uint8_t scales[12];
  std::uint8_t q[128];
};
struct BlockQ5_K {  // as Q4_K with a fifth bit: bit j of high[i] belongs to value i of sub-block j
  std::uint16_t d, dmin;
  std::uint8_t scales[12];
  std::uint8_t high[32];
  std::uint8_t q[128];
};
// value = d scale[v / 16] (q - 32). Each half h of 128 values, i in 0..31: low[64 h + i] holds the low nibble of value i and, high,
// of value i + 64; low[64 h + 32 + i] of i + 32 and i + 96; high[32 h + i] holds two bits each for i, i + 32, i + 64, i + 96.
struct BlockQ6_K {
  std::uint8_t low[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  std::uint16_t d;
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

}  // namespace puna
