// SPDX-License-Identifier: Apache-2.0
#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "expect_error.h"
#include "tensor/raw_bytes.h"

namespace puna {
namespace {

TEST(Shape, CountsRowsAndText) {
  const Shape shape{2, 3, 4};
  EXPECT_EQ(shape.rank(), 3);
  EXPECT_EQ(shape.count(), 24);
  EXPECT_EQ(shape.row_length(), 4);
  EXPECT_EQ(shape.rows(), 6);
  EXPECT_EQ(shape.text(), "[2, 3, 4]");
  EXPECT_EQ(shape, (Shape{2, 3, 4}));
  EXPECT_NE(shape, (Shape{2, 3}));
}

TEST(Shape, ScalarAndEmpty) {
  EXPECT_EQ(Shape().count(), 1);
  EXPECT_EQ(Shape().rows(), 1);
  EXPECT_EQ(Shape().text(), "[]");
  EXPECT_EQ((Shape{3, 0}).count(), 0);
  EXPECT_EQ((Shape{3, 0}).rows(), 0);
}

TEST(Shape, RefusesFiveDimensions) {
  expect_error(ErrorKind::kUnsupported, "[shape] 5 dimensions, at most 4 are supported", [] { Shape{1, 2, 3, 4, 5}; });
}

TEST(DecodeRow, AppliesTheRowScaleWhereverItLies) {
  const std::uint8_t codes[] = {0x38, 0x40, 0xb8, 0x30};  // 1, 2, -1, 0.5
  std::string scales = "x";
  for (const float scale : {2.0f, -3.0f}) scales.append(reinterpret_cast<const char*>(&scale), 4);
  Tensor tensor{"w", Format::kF8E4M3, {2, 2}, std::as_bytes(std::span(codes)), bytes_of(scales).subspan(1)};
  float row[2];
  decode_row(tensor, 0, row);
  EXPECT_EQ(row[0], 2.0f);
  EXPECT_EQ(row[1], 4.0f);
  decode_row(tensor, 1, row);
  EXPECT_EQ(row[0], 3.0f);
  EXPECT_EQ(row[1], -1.5f);
  EXPECT_EQ(tensor.row_scale(1), -3.0f);
  tensor.row_scales = {};
  EXPECT_EQ(tensor.row_scale(1), 1.0f);
}

TEST(DecodeRow, FindsTheRowOfAQuantizedMatrix) {
  std::vector<float> values(64);
  for (std::size_t i = 0; i < 64; ++i) values[i] = i < 32 ? 0.0f : 127.0f;
  std::vector<std::byte> blocks(68);
  info(Format::kQ8_0).encode(values.data(), blocks.data(), 64);
  const Tensor tensor{"w", Format::kQ8_0, {2, 32}, blocks, {}};
  EXPECT_EQ(tensor.row_bytes(), 34);
  float row[32];
  decode_row(tensor, 1, row);
  for (const float value : row) EXPECT_EQ(value, 127.0f);
}

TEST(Tensor, IsTrueWhenItHasBytes) {
  EXPECT_FALSE(Tensor());
  const char byte = 0;
  EXPECT_TRUE((Tensor{"w", Format::kF8E4M3, {1}, std::as_bytes(std::span(&byte, 1)), {}}));
}

}  // namespace
}  // namespace puna
