// SPDX-License-Identifier: Apache-2.0
// A tensor as it crosses folder borders and files: where its bytes are, their format and shape. It owns nothing.
// Row-major; dims[0] is the slowest. A weight matrix of a layer with K inputs and N outputs is [N, K].
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "tensor/format.h"

namespace puna {

class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims);
  explicit Shape(std::span<const std::int64_t> dims);  // throws kUnsupported above rank 4

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return dims_[static_cast<std::size_t>(axis)]; }
  std::int64_t count() const;  // product of all; 1 for a scalar
  std::int64_t row_length() const { return rank_ == 0 ? 1 : dims_[static_cast<std::size_t>(rank_ - 1)]; }
  std::int64_t rows() const { return row_length() == 0 ? 0 : count() / row_length(); }
  std::string text() const;  // "[4096, 14336]"
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

struct Tensor {
  std::string name;
  Format format = Format::kF32;
  Shape shape;
  std::span<const std::byte> bytes;
  std::span<const std::byte> row_scales;  // F8E4M3 only: F32 [N], value = decoded * row_scales[n]; unaligned

  explicit operator bool() const { return !bytes.empty(); }
  std::int64_t row_bytes() const { return format_bytes(format, shape.row_length()); }
  const std::byte* row(std::int64_t n) const { return bytes.data() + n * row_bytes(); }
  float row_scale(std::int64_t n) const;  // 1 where there are none
};

// Decodes row n into values [row_length], row scale included.
void decode_row(const Tensor& tensor, std::int64_t n, float* values);

}  // namespace puna
