// SPDX-License-Identifier: Apache-2.0
#include "tensor/tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace puna {

Shape::Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const std::int64_t> dims) {
  if (dims.size() > static_cast<std::size_t>(kMaxRank)) {
    fail(ErrorKind::kUnsupported, "shape", "{} dimensions, at most {} are supported", dims.size(), kMaxRank);
  }
  std::copy(dims.begin(), dims.end(), dims_.begin());
  rank_ = static_cast<int>(dims.size());
}

std::int64_t Shape::count() const {
  std::int64_t product = 1;
  for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
  return product;
}

std::string Shape::text() const { return fmt::format("[{}]", fmt::join(dims_.begin(), dims_.begin() + rank_, ", ")); }

float Tensor::row_scale(std::int64_t n) const {
  if (row_scales.empty()) return 1.0f;
  float scale;
  std::memcpy(&scale, row_scales.data() + n * static_cast<std::int64_t>(sizeof(float)), sizeof(scale));
  return scale;
}

void decode_row(const Tensor& tensor, std::int64_t n, float* values) {
  const std::int64_t length = tensor.shape.row_length();
  info(tensor.format).decode(tensor.row(n), values, length);
  if (tensor.row_scales.empty()) return;
  const float scale = tensor.row_scale(n);
  for (std::int64_t i = 0; i < length; ++i) values[i] *= scale;
}

}  // namespace puna
