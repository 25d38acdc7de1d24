// SPDX-License-Identifier: Apache-2.0
// Every code of every narrow float against its definition in powers of two, and rounding at every midpoint.
#include "tensor/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace puna {
namespace {

// sign, exponent and fraction fields -> value; `top` is the all-ones exponent field, where it means infinity and NaN.
double defined_value(unsigned code, int exponent_bits, int fraction_bits) {
  const unsigned fraction = code & ((1u << fraction_bits) - 1);
  const unsigned exponent = code >> fraction_bits & ((1u << exponent_bits) - 1);
  const double sign = code >> (exponent_bits + fraction_bits) & 1 ? -1.0 : 1.0;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(fraction + (1u << fraction_bits), static_cast<int>(exponent) - bias - fraction_bits);
}

TEST(F16, EveryCodeDecodesToItsDefinitionAndEncodesBack) {
  for (unsigned code = 0; code < 0x10000; ++code) {
    const float value = f32_from_f16(static_cast<std::uint16_t>(code));
    if ((code & 0x7c00) == 0x7c00) {
      EXPECT_EQ(std::isnan(value), (code & 0x3ff) != 0) << code;
      EXPECT_EQ(std::isinf(value), (code & 0x3ff) == 0) << code;
      EXPECT_EQ(std::signbit(value), code >= 0x8000) << code;
      continue;
    }
    ASSERT_EQ(value, defined_value(code, 5, 10)) << code;
    ASSERT_EQ(f16_from_f32(value), code);
  }
}

TEST(F16, MidpointsGoToTheEvenNeighbour) {
  for (unsigned code = 0; code < 0x7bff; ++code) {
    const float low = f32_from_f16(static_cast<std::uint16_t>(code)), high = f32_from_f16(static_cast<std::uint16_t>(code + 1));
    const float middle = (low + high) / 2;
    const unsigned even = code % 2 == 0 ? code : code + 1;
    ASSERT_EQ(f16_from_f32(middle), even) << code;
    ASSERT_EQ(f16_from_f32(std::nextafter(middle, 0.0f)), code);
    ASSERT_EQ(f16_from_f32(std::nextafter(middle, 1e9f)), code + 1);
    ASSERT_EQ(f16_from_f32(-middle), even | 0x8000);
  }
}

TEST(F16, OverflowAndNan) {
  EXPECT_EQ(f16_from_f32(65519.0f), 0x7bff);
  EXPECT_EQ(f16_from_f32(65520.0f), 0x7c00);
  EXPECT_EQ(f16_from_f32(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(f16_from_f32(std::nanf("")) & 0x7fff, 0x7e00);
}

TEST(BF16, EveryCodeRoundTripsAndMidpointsGoToEven) {
  for (unsigned code = 0; code < 0x10000; ++code) {
    const float value = f32_from_bf16(static_cast<std::uint16_t>(code));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(f32_from_bf16(bf16_from_f32(value))));
      continue;
    }
    ASSERT_EQ(bf16_from_f32(value), code);
    if ((code & 0x7f80) == 0x7f80) continue;
    const float middle = std::bit_cast<float>(code << 16 | 0x8000);
    ASSERT_EQ(bf16_from_f32(middle), code % 2 == 0 ? code : code + 1);
  }
}

TEST(E4M3, EveryCodeDecodesToItsDefinitionAndEncodesBack) {
  for (unsigned code = 0; code < 256; ++code) {
    const float value = f32_from_e4m3(static_cast<std::uint8_t>(code));
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_EQ(e4m3_from_f32(value) & 0x7f, 0x7f);
      continue;
    }
    EXPECT_EQ(value, defined_value(code, 4, 3)) << code;
    EXPECT_EQ(e4m3_from_f32(value), code);
  }
  EXPECT_EQ(f32_from_e4m3(0x7e), 448.0f);
}

TEST(E4M3, MidpointsGoToEvenAndLargeValuesSaturate) {
  for (unsigned code = 0; code < 0x7e; ++code) {
    const float low = f32_from_e4m3(static_cast<std::uint8_t>(code)), high = f32_from_e4m3(static_cast<std::uint8_t>(code + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(e4m3_from_f32(middle), code % 2 == 0 ? code : code + 1) << code;
    EXPECT_EQ(e4m3_from_f32(std::nextafter(middle, 0.0f)), code);
    EXPECT_EQ(e4m3_from_f32(std::nextafter(middle, 1e9f)), code + 1);
  }
  EXPECT_EQ(e4m3_from_f32(1e9f), 0x7e);
  EXPECT_EQ(e4m3_from_f32(-std::numeric_limits<float>::infinity()), 0xfe);
  EXPECT_EQ(e4m3_from_f32(-0.0f), 0x80);
}

}  // namespace
}  // namespace puna
