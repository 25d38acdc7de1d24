// SPDX-License-Identifier: Apache-2.0
// Sorts the products of one X into launches: those of one format together, as many rows of X at once as fit a block's shared
// memory. Matrices that the fast kernel does not read (float rows that are not whole 16-byte pieces) go through the slow one, one
// by one.
#include "kernels/cuda/gemv.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gemv_work.h"
#include "kernels/cuda/silu.h"

namespace puna::cuda {
namespace {

// The instances for one format (kernels/cuda/gemv_work.h).
struct GemvOfFormat {
  int (*rows)(const GpuContext&, std::int64_t rows, std::int64_t width);
  void (*launch)(GpuContext&, GemvWork&);
  void (*launch_of_any)(GpuContext&, GemvWork&);
};

template <Format F>
constexpr GemvOfFormat kGemvOf{gemv_rows<F>, launch_gemv<F>, launch_gemv_of_any<F>};

const GemvOfFormat& gemv_of(Format format) {
  switch (format) {
    case Format::kF32:
      return kGemvOf<Format::kF32>;
    case Format::kF16:
      return kGemvOf<Format::kF16>;
    case Format::kBF16:
      return kGemvOf<Format::kBF16>;
    case Format::kF8E4M3:
      return kGemvOf<Format::kF8E4M3>;
    case Format::kQ8_0:
      return kGemvOf<Format::kQ8_0>;
    case Format::kQ4_0:
      return kGemvOf<Format::kQ4_0>;
    case Format::kQ4_1:
      return kGemvOf<Format::kQ4_1>;
    case Format::kQ5_0:
      return kGemvOf<Format::kQ5_0>;
    case Format::kQ5_1:
      return kGemvOf<Format::kQ5_1>;
    case Format::kQ4_K:
      return kGemvOf<Format::kQ4_K>;
    case Format::kQ5_K:
      return kGemvOf<Format::kQ5_K>;
    case Format::kQ6_K:
      return kGemvOf<Format::kQ6_K>;
  }
  fail(ErrorKind::kInternal, "gemv", "there is no format {}", static_cast<int>(format));
}

// For gate and up of different formats, which are not read by one kernel. All [T, F]; out may be gate.
struct Gated {
  const float *gate, *up;
  float* out;
  template <int N>
  __device__ void at(std::int64_t i) const {
    const auto gates = load<N>(gate + i), ups = load<N>(up + i);
    Pack<float, N> result;
#pragma unroll
    for (int n = 0; n < N; ++n) result.v[n] = silu(gates.v[n]) * ups.v[n];
    store(out + i, result);
  }
};

const float* scales_of(const Tensor& weight) {
  return weight.row_scales.empty() ? nullptr : reinterpret_cast<const float*>(weight.row_scales.data());
}

void check_shape(const Activations& x, const Tensor& weight) {
  PUNA_CHECK(weight.shape.rank() == 2 && weight.shape[1] == x.width, "gemv", "weight {} is {}, but the activations are [{}, {}]",
             weight.name, weight.shape.text(), x.rows, x.width);
  PUNA_CHECK(reinterpret_cast<std::uintptr_t>(weight.bytes.data()) % 16 == 0, "gemv", "weight {} is not aligned", weight.name);
}

GemvWork work_of(const Activations& x) {
  PUNA_CHECK(x.rows <= kMostGemvRows, "gemv", "{} rows of activations, at most {} are for this kernel", x.rows, kMostGemvRows);
  GemvWork work{};
  work.x = x.values;
  work.norm_weight = x.norm_weight;
  work.norm_eps = x.norm_eps;
  work.rows = static_cast<int>(x.rows);
  work.width = x.width;
  work.in_quads = (reinterpret_cast<std::uintptr_t>(x.values) | reinterpret_cast<std::uintptr_t>(x.norm_weight)) % 16 == 0;
  return work;
}

// The same for rows of X from `first` on.
GemvWork rows_of(const GemvWork& all, int first, int rows) {
  GemvWork work = all;
  work.x += first * all.width;
  work.rows = rows;
  for (int m = 0; m < all.matrices; ++m) {
    work.matrix[m].y += first * all.matrix[m].stride;
    if (work.matrix[m].residual != nullptr) work.matrix[m].residual += first * all.matrix[m].stride;
  }
  return work;
}

void run(GpuContext& gpu, Format format, const GemvWork& all) {
  const GemvOfFormat& gemv = gemv_of(format);
  const int at_once = gemv.rows(gpu, all.rows, all.width);
  for (int first = 0; at_once > 0 && first < all.rows; first += at_once) {
    GemvWork work = rows_of(all, first, std::min(at_once, all.rows - first));
    gemv.launch(gpu, work);
  }
  if (at_once > 0) return;
  for (int m = 0; m < all.matrices; ++m) {
    GemvWork work = all;
    work.matrix[0] = all.matrix[m];
    work.matrices = 1;
    gemv.launch_of_any(gpu, work);
  }
}

}  // namespace

void gemv_forward(GpuContext& gpu, const Activations& x, std::span<const Product> products) {
  for (const Product& product : products) check_shape(x, *product.weight);
  if (x.rows == 0) return;
  GemvWork work = work_of(x);
  for (const FormatInfo& format : formats()) {
    const auto flush = [&] {
      if (work.matrices > 0) run(gpu, format.format, work);
      work.matrices = 0;
    };
    for (const Product& product : products) {
      const Tensor& weight = *product.weight;
      if (weight.format != format.format || weight.shape[0] == 0) continue;
      work.matrix[work.matrices++] = {.weight = weight.bytes.data(),
                                      .up = nullptr,
                                      .row_scales = scales_of(weight),
                                      .up_row_scales = nullptr,
                                      .y = product.y,
                                      .residual = product.residual,
                                      .stride = product.stride,
                                      .rows = weight.shape[0],
                                      .first_block = 0};
      if (work.matrices == kGemvMatrices) flush();
    }
    flush();
  }
}

void gated_gemv_forward(GpuContext& gpu, const Activations& x, const GatedProduct& product) {
  const Tensor &gate = *product.gate_weight, &up = *product.up_weight;
  check_shape(x, gate);
  check_shape(x, up);
  PUNA_CHECK(gate.shape == up.shape, "gemv", "gate {} and up {} differ", gate.shape.text(), up.shape.text());
  const std::int64_t outputs = gate.shape[0];
  if (x.rows == 0 || outputs == 0) return;
  if (gate.format != up.format) {
    const Product pair[] = {{&gate, product.gate, outputs}, {&up, product.up, outputs}};
    gemv_forward(gpu, x, pair);
    const Gated gated{product.gate, product.up, product.out};
    return for_each_value(gpu, "gated_gemv", gated, x.rows * outputs, holds_packs(product.gate, product.up, product.out));
  }
  GemvWork work = work_of(x);
  work.matrices = 1;
  work.matrix[0] = {.weight = gate.bytes.data(),
                    .up = up.bytes.data(),
                    .row_scales = scales_of(gate),
                    .up_row_scales = scales_of(up),
                    .y = product.out,
                    .residual = nullptr,
                    .stride = outputs,
                    .rows = 2 * outputs,
                    .first_block = 0};
  run(gpu, gate.format, work);
}

}  // namespace puna::cuda
