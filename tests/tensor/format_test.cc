// SPDX-License-Identifier: Apache-2.0
// The table of formats row by row, against what ggml encodes and decodes (tools/golden/make_formats.py).
#include "tensor/format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "shared_data.h"
#include "tensor/blocks.h"
#include "tensor/kscales.h"

namespace puna {
namespace {

class EveryFormat : public testing::TestWithParam<FormatInfo> {};

// Plain floats are checked against their definition in half_test.cc.
class EveryQuantizedFormat : public testing::TestWithParam<FormatInfo> {};

std::vector<FormatInfo> quantized_formats() {
  std::vector<FormatInfo> rows;
  std::copy_if(formats().begin(), formats().end(), std::back_inserter(rows),
               [](const FormatInfo& row) { return row.block_values > 1; });
  return rows;
}

std::string name_of(const testing::TestParamInfo<FormatInfo>& row) { return std::string(row.param.name); }
INSTANTIATE_TEST_SUITE_P(Table, EveryFormat, testing::ValuesIn(formats().begin(), formats().end()), name_of);
INSTANTIATE_TEST_SUITE_P(Table, EveryQuantizedFormat, testing::ValuesIn(quantized_formats()), name_of);

std::vector<float> normal_values(std::size_t count, float scale) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = scale * static_cast<float>(random_normal(1, 2, i));
  return values;
}

std::string encoded(const FormatInfo& row, const std::vector<float>& values) {
  std::string bytes(static_cast<std::size_t>(format_bytes(row.format, static_cast<std::int64_t>(values.size()))), '\x55');
  row.encode(values.data(), bytes.data(), static_cast<std::int64_t>(values.size()));
  return bytes;
}

std::vector<float> decoded(const FormatInfo& row, const std::string& bytes) {
  std::vector<float> values(bytes.size() / static_cast<std::size_t>(row.block_bytes) * static_cast<std::size_t>(row.block_values));
  row.decode(bytes.data(), values.data(), static_cast<std::int64_t>(values.size()));
  return values;
}

std::vector<float> floats_of(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST_P(EveryFormat, IsFoundByEachOfItsNames) {
  const FormatInfo& row = GetParam();
  EXPECT_EQ(&info(row.format), &formats()[static_cast<std::size_t>(row.format)]);
  EXPECT_EQ(format_from_name(row.name), row.format);
  std::string upper(row.name);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  EXPECT_EQ(format_from_name(upper), row.format);
  EXPECT_EQ(format_from_gguf(row.gguf_type), row.gguf_type >= 0 ? std::optional(row.format) : std::nullopt);
  EXPECT_EQ(format_from_safetensors(row.safetensors), row.safetensors.empty() ? std::nullopt : std::optional(row.format));
}

TEST_P(EveryQuantizedFormat, DecodesAsGgmlDoes) {
  const FormatInfo& row = GetParam();
  const std::string blocks = read_text(golden("tensor/" + std::string(row.name) + ".blocks"));
  const std::vector<float> expected = floats_of(read_text(golden("tensor/" + std::string(row.name) + ".decoded")));
  const std::vector<float> values = decoded(row, blocks);
  ASSERT_EQ(values.size(), 512u);
  ASSERT_EQ(expected.size(), 512u);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(expected[i])) {
      EXPECT_TRUE(std::isnan(values[i])) << i;
    } else {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::bit_cast<std::uint32_t>(expected[i])) << i;
    }
  }
}

TEST_P(EveryQuantizedFormat, EncodesAsGgmlDoes) {
  const FormatInfo& row = GetParam();
  const std::vector<float> values = floats_of(read_text(golden("tensor/values.f32")));
  const std::string expected = read_text(golden("tensor/" + std::string(row.name) + ".encoded"));
  const std::string bytes = encoded(row, values);
  ASSERT_EQ(bytes.size(), expected.size());
  const auto block_bytes = static_cast<std::size_t>(row.block_bytes);
  for (std::size_t at = 0; at < bytes.size(); at += block_bytes) {
    EXPECT_EQ(bytes.substr(at, block_bytes), expected.substr(at, block_bytes)) << "block " << at / block_bytes;
  }
}

// Root mean square error of standard normal values, at most; figures of the formats themselves, a little above what is measured.
double allowed_error(Format format) {
  switch (format) {
    case Format::kF32:
      return 0.0;
    case Format::kF16:
      return 0.0003;
    case Format::kBF16:
      return 0.0021;
    case Format::kF8E4M3:
      return 0.03;
    case Format::kQ8_0:
      return 0.007;
    case Format::kQ6_K:
      return 0.02;
    case Format::kQ5_0:
    case Format::kQ5_1:
    case Format::kQ5_K:
      return 0.048;
    default:
      return 0.1;
  }
}

TEST_P(EveryFormat, RoundTripErrorIsThatOfItsBits) {
  const FormatInfo& row = GetParam();
  const std::vector<float> values = normal_values(256 * 64, 1.0f);
  const std::vector<float> back = decoded(row, encoded(row, values));
  double squares = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) squares += std::pow(static_cast<double>(back[i]) - values[i], 2);
  const double error = std::sqrt(squares / static_cast<double>(values.size()));
  EXPECT_LE(error, allowed_error(row.format));
  EXPECT_GE(error, allowed_error(row.format) / 2);
}

TEST_P(EveryFormat, ZerosStayZero) {
  const FormatInfo& row = GetParam();
  const std::vector<float> back = decoded(row, encoded(row, std::vector<float>(512, 0.0f)));
  for (const float value : back) EXPECT_EQ(value, 0.0f);
}

TEST_P(EveryFormat, BlocksDoNotDependOnTheirNeighbours) {
  const FormatInfo& row = GetParam();
  std::vector<float> values = normal_values(512, 0.1f);
  const std::string whole = encoded(row, values);
  const std::string second = encoded(row, {values.begin() + 256, values.end()});
  EXPECT_EQ(whole.substr(whole.size() / 2), second);
}

TEST_P(EveryFormat, AcceptsWhatIsNotFinite) {
  const FormatInfo& row = GetParam();
  std::vector<float> values = normal_values(256, 1.0f);
  values[3] = std::numeric_limits<float>::infinity();
  values[40] = std::nanf("");
  values[200] = -std::numeric_limits<float>::max();
  values[201] = std::numeric_limits<float>::max();
  EXPECT_EQ(decoded(row, encoded(row, values)).size(), 256u);  // no more is promised; the sanitizers watch
}

TEST(Formats, AreDistinct) {
  std::set<std::string_view> names;
  std::set<int> types;
  for (const FormatInfo& row : formats()) {
    EXPECT_TRUE(names.insert(row.name).second);
    EXPECT_TRUE(row.gguf_type < 0 || types.insert(row.gguf_type).second);
  }
}

TEST(Formats, UnknownNamesAreNotFound) {
  EXPECT_FALSE(format_from_name("q9_z"));
  EXPECT_FALSE(format_from_name(""));
  EXPECT_FALSE(format_from_gguf(-1));
  EXPECT_FALSE(format_from_gguf(10));
  EXPECT_FALSE(format_from_safetensors(""));
  EXPECT_FALSE(format_from_safetensors("bf16"));
}

TEST(Formats, BytesOfARow) {
  EXPECT_EQ(format_bytes(Format::kQ4_K, 4096), 2304);
  EXPECT_EQ(format_bytes(Format::kQ8_0, 64), 68);
  EXPECT_EQ(format_bytes(Format::kBF16, 3), 6);
}

TEST(KScales, PackAndUnpackEverySixBits) {
  for (int round = 0; round < 64; ++round) {
    ScaleAndMinimum pairs[8];
    for (int j = 0; j < 8; ++j) {
      pairs[j] = {static_cast<std::uint8_t>((round * 5 + j * 11) & 63), static_cast<std::uint8_t>((round * 7 + j * 13 + 3) & 63)};
    }
    std::uint8_t packed[12];
    pack_scales(pairs, packed);
    for (int j = 0; j < 8; ++j) {
      EXPECT_EQ(unpack_scale(packed, j).scale, pairs[j].scale);
      EXPECT_EQ(unpack_scale(packed, j).minimum, pairs[j].minimum);
    }
  }
}

TEST(FloatFormats, ReadAtAnyAddress) {
  const std::vector<float> values = normal_values(16, 1.0f);
  for (const Format format : {Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3}) {
    const std::string shifted = "x" + encoded(info(format), values);
    std::vector<float> back(values.size());
    info(format).decode(shifted.data() + 1, back.data(), 16);
    EXPECT_EQ(back, decoded(info(format), shifted.substr(1)));
  }
}

}  // namespace
}  // namespace puna
