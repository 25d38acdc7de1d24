// SPDX-License-Identifier: Apache-2.0
// A thread decodes eight neighbours: what it reads lies beside what its neighbours read, and so does what it writes. Rows of floats
// that are not whole pieces, or that go to unaligned places, are moved value by value.
#include "kernels/cuda/decode_matrix.h"

#include "base/error.h"
#include "kernels/cuda/mma.h"
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
  bool in_groups = false;  // eight values at a time
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
__global__ void __launch_bounds__(kThreads) decode_kernel(const DecodedRows from, Out* out) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t of_row = from.in_groups ? from.width / kGroupValues : from.width;
  if (index >= from.rows * of_row) return;
  const std::int64_t i = index / of_row, within = index % of_row;
  const std::int64_t n = from.listed != nullptr ? from.listed[i] : from.first + i;
  const std::byte* row = from.weight + n * row_layout(F, from.width).bytes;
  const float row_scale = from.row_scales == nullptr ? 1.0f : from.row_scales[n];
  const auto scaled = [&](float value) { return from.row_scales == nullptr ? value : value * row_scale; };
  if (from.in_groups) {
    float values[kGroupValues];
    decode_group<F>(row, from.width, within, values);
#pragma unroll
    for (float& value : values) value = scaled(value);
    store_group(out + i * from.width + within * kGroupValues, values);
    return;
  }
  Out* const to = out + i * from.width + within;
  if constexpr (is_quantized(F)) {
    float values[kGroupValues];
    decode_group<F>(row, from.width, within / kGroupValues, values);
    store_value(to, values[within % kGroupValues]);
  } else {
    store_value(to, scaled(float_value<F>(row, within)));
  }
}

template <Format F, typename Out>
void decode(GpuContext& gpu, DecodedRows& from, Out* out) {
  from.in_groups = has_whole_pieces<F>(from.width) && reinterpret_cast<std::uintptr_t>(out) % 16 == 0;
  const std::int64_t units = from.rows * (from.in_groups ? from.width / kGroupValues : from.width);
  if (units > 0) launch(gpu, "decode_rows", decode_kernel<F, Out>, blocks_for(units, kThreads), kThreads, 0, true, from, out);
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
