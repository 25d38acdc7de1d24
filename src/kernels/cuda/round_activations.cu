// SPDX-License-Identifier: Apache-2.0
// Operand forms on a GPU. Where a row's numbers do not depend on each other a thread converts four neighbours. Where they do, with
// a norm or a scale by row, a thread block has a row and reads it twice, the second time from its caches.
#include "kernels/cuda/round_activations.h"

#include "base/error.h"
#include "kernels/cuda/decode_matrix.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/rounding.h"

namespace puna::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostGridRows = 65535;  // of blockIdx.y
constexpr float kMostE4M3 = 448;
constexpr float kMostPeak = 1200;        // activation_scale_ub of Llama 3.1
constexpr float kLeastScale = 0x1p-40f;  // of a row of zeros

// from: rows `stride` apart, row t times scales[t] unless nullptr -> to [T, width]
template <typename From, typename To, int N>
__global__ void __launch_bounds__(kThreads)
    convert_rows(const From* from, std::int64_t stride, const float* scales, std::int64_t rows, std::int64_t width, To* to) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const std::int64_t column = (blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x) * N;
  if (column >= width) return;
  for (std::int64_t t = blockIdx.y; t < rows; t += gridDim.y) {
    const auto values = load<N>(from + t * stride + column);
    const float scale = scales != nullptr ? scales[t] : 1.0f;
    Pack<To, N> converted;
#pragma unroll
    for (int n = 0; n < N; ++n) converted.v[n] = saturated_to<To>(widened(values.v[n]) * scale);
    store(to + t * width + column, converted);
  }
}

template <typename From, typename To>
void convert(GpuContext& gpu, const From* from, std::int64_t stride, const float* scales, std::int64_t rows, std::int64_t width,
             To* to) {
  if (rows == 0 || width == 0) return;
  const bool in_packs = width % 4 == 0 && stride % 4 == 0 && holds_packs(from, to);
  const dim3 grid(blocks_for(width, kThreads * (in_packs ? 4 : 1)), static_cast<unsigned>(std::min(rows, kMostGridRows)));
  launch(gpu, "convert_rows", in_packs ? convert_rows<From, To, 4> : convert_rows<From, To, 1>, grid, kThreads, 0, true, from,
         stride, scales, rows, width, to);
}

struct RowSource {
  const float* values;  // [T, K]
  const float* weight;  // [K]: of the norm, or nullptr
  float eps;
  std::int64_t width;  // K
};

// rounded [T, K]; F8E4M3: row_scales [T] too. Of a norm, whose factor r > 0 is known only at the end, the peak is max|x w| r.
template <typename To, int N>
__global__ void __launch_bounds__(kThreads) round_row(RowSource x, To* rounded, float* row_scales) {
  wait_for_previous_kernel();
  allow_next_kernel();
  constexpr bool kScaled = std::is_same_v<To, E4M3>;
  const float* const row = x.values + static_cast<std::int64_t>(blockIdx.x) * x.width;
  const auto weighted = [&](std::int64_t i, const Pack<float, N>& values) {
    Pack<float, N> result = values;
    if (x.weight == nullptr) return result;
    const auto weights = load<N>(x.weight + i);
#pragma unroll
    for (int n = 0; n < N; ++n) result.v[n] *= weights.v[n];
    return result;
  };
  float squares = 0, peak = 0;
  for (std::int64_t i = threadIdx.x * N; i < x.width; i += kThreads * N) {
    const auto values = load<N>(row + i);
    const auto products = weighted(i, values);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      squares = fmaf(values.v[n], values.v[n], squares);
      peak = fmaxf(peak, fabsf(products.v[n]));
    }
  }
  float factor = 1;
  if (x.weight != nullptr) factor = 1.0f / sqrtf(block_reduce(squares, Sum()) / static_cast<float>(x.width) + x.eps);
  if constexpr (kScaled) {
    const float scale = fmaxf(fminf(block_reduce(peak, Largest()) * factor, kMostPeak) / kMostE4M3, kLeastScale);
    if (threadIdx.x == 0) row_scales[blockIdx.x] = scale;
    factor /= scale;
  }
  for (std::int64_t i = threadIdx.x * N; i < x.width; i += kThreads * N) {
    const auto products = weighted(i, load<N>(row + i));
    Pack<To, N> narrow;
#pragma unroll
    for (int n = 0; n < N; ++n) narrow.v[n] = saturated_to<To>(products.v[n] * factor);
    store(rounded + blockIdx.x * x.width + i, narrow);
  }
}

template <typename To>
void round_each_row(GpuContext& gpu, const Activations& x) {
  const RowSource source{x.values, x.norm_weight, x.norm_eps, x.width};
  auto* const rounded = reinterpret_cast<To*>(x.rounded.values);
  const bool in_packs = x.width % 4 == 0 && holds_packs(x.values, x.norm_weight) && holds_packs(rounded);
  launch(gpu, "round_activations", in_packs ? round_row<To, 4> : round_row<To, 1>, static_cast<unsigned>(x.rows), kThreads, 0, true,
         source, rounded, x.rounded.row_scales);
}

template <typename To>
void round_all(GpuContext& gpu, const Activations& x) {
  if (x.norm_weight != nullptr) return round_each_row<To>(gpu, x);
  convert(gpu, x.values, x.width, nullptr, x.rows, x.width, reinterpret_cast<To*>(x.rounded.values));
}

// What a quantized weight is decoded to, in place. Four neighbours lie where they lay.
struct HalfToBFloat16 {
  __half* values;
  template <int N>
  __device__ void at(std::int64_t i) const {
    const auto halves = load<N>(values + i);
    Pack<__nv_bfloat16, N> result;
#pragma unroll
    for (int n = 0; n < N; ++n) result.v[n] = __float2bfloat16_rn(__half2float(halves.v[n]));
    store(reinterpret_cast<__nv_bfloat16*>(values) + i, result);
  }
};

template <typename From>
void round_weight(GpuContext& gpu, const Tensor& weight, std::int64_t first, std::int64_t rows, __nv_bfloat16* decoded) {
  const std::int64_t width = weight.shape[1];
  const From* const from = reinterpret_cast<const From*>(weight.bytes.data()) + first * width;
  const float* const scales =
      weight.row_scales.empty() ? nullptr : reinterpret_cast<const float*>(weight.row_scales.data()) + first;  // [rows]
  convert(gpu, from, width, scales, rows, width, decoded);
}

}  // namespace

void round_activations(GpuContext& gpu, Activations& x, Format format) {
  if (x.rounded.format == format) return;
  PUNA_CHECK(x.rounded.values != nullptr, "matmul", "activations [{}, {}] have no room for their rounded form", x.rows, x.width);
  switch (format) {
    case Format::kF16:
      round_all<__half>(gpu, x);
      break;
    case Format::kBF16:
      round_all<__nv_bfloat16>(gpu, x);
      break;
    case Format::kF8E4M3:
      round_each_row<E4M3>(gpu, x);
      break;
    default:
      fail(ErrorKind::kInternal, "matmul", "activations are not rounded to format {}", static_cast<int>(format));
  }
  x.rounded.format = format;
}

void round_rows(GpuContext& gpu, const float* values, std::int64_t stride, std::int64_t rows, std::int64_t width, void* rounded) {
  convert(gpu, values, stride, nullptr, rows, width, static_cast<__nv_bfloat16*>(rounded));
}

void decode_weight_rows(GpuContext& gpu, const Tensor& weight, std::int64_t first, std::int64_t rows, Format form, void* decoded) {
  PUNA_CHECK(form == Format::kF32 || form == Format::kBF16, "matmul", "weights are not decoded to format {}",
             static_cast<int>(form));
  if (form == Format::kF32) return decode_matrix_rows_f32(gpu, weight, first, rows, static_cast<float*>(decoded));
  auto* const narrow = static_cast<__nv_bfloat16*>(decoded);
  switch (weight.format) {
    case Format::kF32:
      return round_weight<float>(gpu, weight, first, rows, narrow);
    case Format::kF16:
      return round_weight<__half>(gpu, weight, first, rows, narrow);
    case Format::kBF16:
      return round_weight<__nv_bfloat16>(gpu, weight, first, rows, narrow);
    case Format::kF8E4M3:
      return round_weight<E4M3>(gpu, weight, first, rows, narrow);
    default:
      break;
  }
  auto* const halves = static_cast<__half*>(decoded);
  decode_matrix_rows(gpu, weight, first, rows, halves);
  for_each_value(gpu, "decode_weight_rows", HalfToBFloat16{halves}, rows * weight.shape[1], holds_packs(halves));
}

}  // namespace puna::cuda
