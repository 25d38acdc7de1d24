// SPDX-License-Identifier: Apache-2.0
// The memory for the form of X that a device's products read.
#include "kernels/matmul.h"

#include "base/error.h"
#include "kernels/rms_norm.h"

namespace puna {
namespace {

std::size_t rounded_bytes(std::int64_t rows, std::int64_t width) {
  return Arena::padded(static_cast<std::size_t>(2 * rows * width)) + Arena::padded(static_cast<std::size_t>(rows) * sizeof(float));
}

}  // namespace

ActivationBuffer::ActivationBuffer(std::int64_t max_rows, std::int64_t max_width)
    : max_rows_((max_rows + kPanelWidth - 1) / kPanelWidth * kPanelWidth), max_width_((max_width + 31) / 32 * 32) {
  const auto values = static_cast<std::size_t>(max_rows_ * max_width_);
  q_.resize(values);
  scales_.resize(values / 32);
  sums_.resize(values / 16);
}

ActivationBuffer::ActivationBuffer(const Device& device, std::int64_t max_rows, std::int64_t max_width)
    : max_rows_(max_rows), max_width_(max_width) {
  if (device.gpu == nullptr) {
    *this = ActivationBuffer(max_rows, max_width);
    return;
  }
  rounded_ = device.arena(rounded_bytes(max_rows, max_width), "the rounded activations");
  on_gpu_.values = rounded_.take(static_cast<std::size_t>(2 * max_rows * max_width)).data();
  on_gpu_.row_scales = rounded_.take<float>(static_cast<std::size_t>(max_rows)).data();
}

Activations ActivationBuffer::prepare(const float* x, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows <= max_rows_ && width <= max_width_, "matmul", "[{}, {}] activations in a buffer for [{}, {}]", rows, width,
             max_rows_, max_width_);
  return {.values = x, .rows = rows, .width = width, .quantized = {q_.data(), scales_.data(), sums_.data()}, .rounded = on_gpu_};
}

Activations ActivationBuffer::prepare_normed(Device& device, const float* x, const Norm& norm, std::int64_t rows,
                                             std::int64_t width) {
  if (device.gpu != nullptr) {
    Activations activations = prepare(x, rows, width);
    activations.norm_weight = norm.weight;
    activations.norm_eps = norm.eps;
    return activations;
  }
  rms_norm_forward(device, x, norm.weight, norm.eps, rows, width, norm.normed);
  return prepare(norm.normed, rows, width);
}

std::int64_t ActivationBuffer::bytes(std::int64_t max_rows, std::int64_t max_width, bool on_gpu) {
  if (on_gpu) return static_cast<std::int64_t>(rounded_bytes(max_rows, max_width));
  const std::int64_t rows = (max_rows + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
  const std::int64_t values = rows * ((max_width + 31) / 32 * 32);
  return values + values / 32 * 4 + values / 16 * 4;
}

}  // namespace puna
