// SPDX-License-Identifier: Apache-2.0
// Of floats a thread decodes eight neighbours: what it reads lies beside what its neighbours read, and so does what it writes. Rows
// that are not whole pieces, or that go to unaligned places, are moved value by value. Of a quantized matrix a thread decodes what
// a lane holds of one row in a half of a cell (kernels/cuda/weight_cells.h).
#include "kernels/cuda/decode_matrix.h"

#include "base/error.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/weight_cells.h"
#include "kernels/cuda/weight_rows.h"

namespace puna::cuda {
namespace {

constexpr int kThreads = 256;
constexpr float kMostHalf = 65504.0f;

struct DecodedRows {
  const std::byte* weight = nullptr;
  const float* row_scales = nullptr;     // [N] or nullptr
  const std::int32_t* listed = nullptr;  // [rows], or nullptr: from `first` on
  std::int64_t first = 0, rows = 0, width = 0;
  bool in_groups = false;  // eight values at a time; of quantized ones, four

  __device__ std::int64_t row(std::int64_t i) const { return listed != nullptr ? listed[i] : first + i; }
};

__device__ __forceinline__ __half half_of(float value) { return __float2half_rn(fminf(fmaxf(value, -kMostHalf), kMostHalf)); }
__device__ __forceinline__ void store_value(float* out, float value) { *out = value; }
__device__ __forceinline__ void store_value(__half* out, float value) { *out = half_of(value); }

__device__ __forceinline__ void store_group(float* out, const float (&v)[kGroupValues]) {
  reinterpret_cast<float4*>(out)[0] = make_float4(v[0], v[1], v[2], v[3]);
  reinterpret_cast<float4*>(out)[1] = make_float4(v[4], v[5], v[6], v[7]);
}
__device__ __forceinline__ void store_group(__half* out, const float (&v)[kGroupValues]) {
  union {
    uint4 bits;
    __half2 pairs[kGroupValues / 2];
  } packed;
#pragma unroll
  for (int i = 0; i < kGroupValues / 2; ++i) packed.pairs[i] = __halves2half2(half_of(v[2 * i]), half_of(v[2 * i + 1]));
  *reinterpret_cast<uint4*>(out) = packed.bits;
}

template <Format F, typename Out>
__global__ void __launch_bounds__(kThreads) decode_rows_kernel(const DecodedRows from, Out* out) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t of_row = from.in_groups ? from.width / kGroupValues : from.width;
  if (index >= from.rows * of_row) return;
  const std::int64_t i = index / of_row, within = index % of_row, n = from.row(i);
  const std::byte* row = from.weight + n * from.width * float_bytes(F);
  const float row_scale = from.row_scales == nullptr ? 1.0f : from.row_scales[n];
  const auto scaled = [&](float value) { return from.row_scales == nullptr ? value : value * row_scale; };
  if (!from.in_groups) return store_value(out + index, scaled(float_value<F>(row, within)));
  float values[kGroupValues];
  decode_group<F>(row, within, values);
#pragma unroll
  for (float& value : values) value = scaled(value);
  store_group(out + i * from.width + within * kGroupValues, values);
}

__device__ __forceinline__ void store_quad(float* out, const float4& v) { *reinterpret_cast<float4*>(out) = v; }
__device__ __forceinline__ void store_quad(__half* out, const float4& v) {
  union {
    uint2 bits;
    __half2 pairs[2];
  } packed;
  packed.pairs[0] = __halves2half2(half_of(v.x), half_of(v.y));
  packed.pairs[1] = __halves2half2(half_of(v.z), half_of(v.w));
  *reinterpret_cast<uint2*>(out) = packed.bits;
}

// Threads in the order of lanes, then halves, then rows in eights: neighbours read what lies side by side.
template <Format F, typename Out>
__global__ void __launch_bounds__(kThreads) decode_cells_kernel(const DecodedRows from, Out* out) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x, halves = 2 * cells_of(from.width);
  const int t = static_cast<int>(index % 4);
  const std::int64_t i = index / (32 * halves) * 8 + index / 4 % 8, half = index / 32 % halves;
  if (i >= from.rows) return;
  const std::int64_t n = from.row(i);
  const int g = static_cast<int>(n % 8), within = static_cast<int>(half % 2);
  const std::byte* cell = from.weight + n / kTileRows * tile_bytes(F, from.width) + half / 2 * cell_layout(F).bytes;
  Out* const to = out + i * from.width;
  const auto store = [&](int j, int w, const float4& values) {
    const std::int64_t k = half * kHalfValues + j * kPieceValues + w * kPieceValues / 2 + t * kQuad;
    if (k >= from.width) return;
    if (from.in_groups) return store_quad(to + k, values);
    store_value(to + k, values.x);
    store_value(to + k + 1, values.y);
    store_value(to + k + 2, values.z);
    store_value(to + k + 3, values.w);
  };
  if (n % kTileRows < 8) {
    decode_half<F, 0>(cell, within, 4 * g + t, store);
  } else {
    decode_half<F, 1>(cell, within, 4 * g + t, store);
  }
}

template <Format F, typename Out>
void decode(GpuContext& gpu, DecodedRows& from, Out* out) {
  if (from.rows * from.width == 0) return;
  const bool aligned = reinterpret_cast<std::uintptr_t>(out) % 16 == 0;
  if constexpr (is_quantized(F)) {
    from.in_groups = aligned;
    const unsigned blocks = blocks_for((from.rows + 7) / 8 * 64 * cells_of(from.width), kThreads);
    launch(gpu, "decode_rows", decode_cells_kernel<F, Out>, blocks, kThreads, 0, true, from, out);
  } else {
    from.in_groups = aligned && has_whole_pieces<F>(from.width);
    const unsigned blocks = blocks_for(from.rows * (from.in_groups ? from.width / kGroupValues : from.width), kThreads);
    launch(gpu, "decode_rows", decode_rows_kernel<F, Out>, blocks, kThreads, 0, true, from, out);
  }
}

template <typename Out>
void decode_any(GpuContext& gpu, const Tensor& weight, DecodedRows from, Out* out) {
  from.weight = weight.bytes.data();
  from.row_scales = weight.row_scales.empty() ? nullptr : reinterpret_cast<const float*>(weight.row_scales.data());
  from.width = weight.shape.row_length();
  switch (weight.format) {
    case Format::kF32:
      return decode<Format::kF32>(gpu, from, out);
    case Format::kF16:
      return decode<Format::kF16>(gpu, from, out);
    case Format::kBF16:
      return decode<Format::kBF16>(gpu, from, out);
    case Format::kF8E4M3:
      return decode<Format::kF8E4M3>(gpu, from, out);
    case Format::kQ8_0:
      return decode<Format::kQ8_0>(gpu, from, out);
    case Format::kQ4_0:
      return decode<Format::kQ4_0>(gpu, from, out);
    case Format::kQ4_1:
      return decode<Format::kQ4_1>(gpu, from, out);
    case Format::kQ5_0:
      return decode<Format::kQ5_0>(gpu, from, out);
    case Format::kQ5_1:
      return decode<Format::kQ5_1>(gpu, from, out);
    case Format::kQ4_K:
      return decode<Format::kQ4_K>(gpu, from, out);
    case Format::kQ5_K:
      return decode<Format::kQ5_K>(gpu, from, out);
    case Format::kQ6_K:
      return decode<Format::kQ6_K>(gpu, from, out);
  }
}

DecodedRows span_of(const Tensor& weight, std::int64_t first, std::int64_t rows) {
  PUNA_CHECK(first >= 0 && rows >= 0 && first + rows <= weight.shape.rows(), "decode_rows", "rows {} to {} of {}, which is {}",
             first, first + rows, weight.name, weight.shape.text());
  return {.first = first, .rows = rows};
}

}  // namespace

void decode_matrix_rows(GpuContext& gpu, const Tensor& weight, std::int64_t first, std::int64_t rows, __half* out) {
  decode_any(gpu, weight, span_of(weight, first, rows), out);
}

void decode_matrix_rows_f32(GpuContext& gpu, const Tensor& weight, std::int64_t first, std::int64_t rows, float* out) {
  decode_any(gpu, weight, span_of(weight, first, rows), out);
}

void decode_listed_rows(GpuContext& gpu, const Tensor& weight, std::span<const std::int32_t> rows, float* out) {
  decode_any(gpu, weight, {.listed = rows.data(), .rows = static_cast<std::int64_t>(rows.size())}, out);
}

}  // namespace puna::cuda
