// SPDX-License-Identifier: Apache-2.0
// The front of the product: checks shapes, makes the forms of X that are missing, and gives each thread its rows of W.
#include "kernels/matmul.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "kernels/cpu/matmul_targets.h"

namespace puna {
namespace {

// Threads take W's rows in these multiples: small for one row of X, so that narrow matrices split evenly.
constexpr std::int64_t kDecodeGrain = 8;
constexpr std::int64_t kPrefillGrain = 32;

bool is_quantized(Format format) { return info(format).block_values > 1; }

bool multiplies_integers(const Product& product) { return is_quantized(product.weight->format) && has_integer_dots(); }

void check(const Activations& x, const Product& product) {
  const Tensor& w = *product.weight;
  PUNA_CHECK(w.shape.rank() == 2 && w.shape[1] == x.width, "matmul", "weight {} is {}, but the activations are [{}, {}]", w.name,
             w.shape.text(), x.rows, x.width);
  PUNA_CHECK(!is_quantized(w.format) || x.width % 32 == 0, "matmul", "weight {} has rows of {} values, not a multiple of 32",
             w.name, x.width);
}

// Makes the 8-bit or the panel form of X: panels split over the threads, a few rows at once (not worth waking a thread for).
void make_forms(Device& device, Activations& x, std::span<const Product> products) {
  bool integers = false, floats = false;
  for (const Product& product : products) (multiplies_integers(product) ? integers : floats) = true;
  const bool panels = x.rows >= kPanelRows;
  const auto split = [&](void (*make)(const Activations&, std::int64_t, std::int64_t)) {
    if (!panels) return make(x, 0, x.rows);
    device.pool.split(x.rows, kPanelWidth, [&](std::int64_t begin, std::int64_t end, int) { make(x, begin, end); });
  };
  if (integers && !x.has_quantized) {
    split(cpu::quantize_activations);
    x.has_quantized = true;
  }
  if (floats && !x.has_panels && panels) {
    split(cpu::transpose_activations);
    x.has_panels = true;
  }
}

}  // namespace

ActivationBuffer::ActivationBuffer(std::int64_t max_rows, std::int64_t max_width)
    : max_rows_((max_rows + kPanelWidth - 1) / kPanelWidth * kPanelWidth), max_width_((max_width + 31) / 32 * 32) {
  const auto values = static_cast<std::size_t>(max_rows_ * max_width_);
  q_.resize(values);
  scales_.resize(values / 32);
  sums_.resize(values / 16);
  panels_.resize(max_rows >= kPanelRows ? values : 0);
}

Activations ActivationBuffer::prepare(const float* x, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows <= max_rows_ && width <= max_width_, "matmul", "[{}, {}] activations in a buffer for [{}, {}]", rows, width,
             max_rows_, max_width_);
  return {
      .values = x, .rows = rows, .width = width, .quantized = {q_.data(), scales_.data(), sums_.data()}, .panels = panels_.data()};
}

std::int64_t ActivationBuffer::bytes(std::int64_t max_rows, std::int64_t max_width) {
  const std::int64_t rows = (max_rows + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
  const std::int64_t values = rows * ((max_width + 31) / 32 * 32);
  return values + values / 32 * 4 + values / 16 * 4 + (max_rows >= kPanelRows ? values * 4 : 0);
}

void matmul_forward(Device& device, Activations& x, std::span<const Product> products) {
  std::int64_t total = 0;  // rows of all products, one after the other
  for (const Product& product : products) {
    check(x, product);
    total += product.weight->shape[0];
  }
  if (x.rows == 0) return;
  make_forms(device, x, products);
  const std::int64_t grain = x.rows >= kPanelRows ? kPrefillGrain : kDecodeGrain;
  device.pool.split(total, grain, [&](std::int64_t begin, std::int64_t end, int) {
    std::int64_t first = 0;  // of this product, in the count over all
    for (const Product& product : products) {
      const std::int64_t rows = product.weight->shape[0];
      const RowRange range{&product, std::max(begin - first, std::int64_t{0}), std::min(end - first, rows)};
      if (range.begin < range.end) (multiplies_integers(product) ? cpu::matmul_integer : cpu::matmul_float)(x, range);
      first += rows;
    }
  });
}

bool has_integer_dots() { return cpu::has_integer_dots(); }

}  // namespace puna
