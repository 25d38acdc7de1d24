// SPDX-License-Identifier: Apache-2.0
// Rows of numbers on a GPU. A thread has four neighbouring columns where all rows are aligned for it, one elsewhere; a row's
// columns are spread over blockIdx.x and, but for sums in order, its rows over blockIdx.y.
#include "kernels/cuda/between_products.h"
#include "kernels/cuda/cuda_kernels.h"

#include "base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/float_order.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/rounding.h"

namespace puna::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostGridRows = 65535;  // of blockIdx.y

template <int N>
__device__ __forceinline__ std::int64_t column_of_thread() {
  return (blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x) * N;
}

unsigned column_blocks(std::int64_t width, bool in_packs) { return blocks_for(width, kThreads * (in_packs ? 4 : 1)); }
unsigned row_blocks(std::int64_t rows) { return static_cast<unsigned>(std::min(rows, kMostGridRows)); }

template <int N>
__device__ __forceinline__ Pack<float, N> plus(Pack<float, N> a, const Pack<float, N>& b) {
#pragma unroll
  for (int n = 0; n < N; ++n) a.v[n] += b.v[n];
  return a;
}

// blockIdx.y: a row t. Where no earlier row has its token, the block adds all rows of this token, in order, and writes their sum.
template <int N>
__global__ void __launch_bounds__(kThreads)
    add_to_embedding(const std::int32_t* tokens, std::int64_t rows, const float* dx, std::int64_t width, float* dembedding) {
  __shared__ unsigned matches[kThreads / 32];  // a bit for each of kThreads rows
  const std::int64_t t = blockIdx.y;
  const std::int32_t token = tokens[t];
  bool earlier = false;
  for (std::int64_t u = threadIdx.x; u < t; u += kThreads) earlier |= tokens[u] == token;
  if (__syncthreads_or(earlier)) return;
  const std::int64_t column = column_of_thread<N>();
  float* const place = dembedding + token * width + column;
  Pack<float, N> sum{};
  if (column < width) sum = load<N>(place);
  for (std::int64_t first = t; first < rows; first += kThreads) {
    const std::int64_t mine = first + threadIdx.x;
    const unsigned found = __ballot_sync(0xffffffffu, mine < rows && tokens[mine] == token);
    if (threadIdx.x % 32 == 0) matches[threadIdx.x / 32] = found;
    __syncthreads();
    for (int word = 0; word < kThreads / 32; ++word) {
      for (unsigned bits = matches[word]; bits != 0; bits &= bits - 1) {
        const std::int64_t row = first + word * 32 + __ffs(static_cast<int>(bits)) - 1;
        if (column < width) sum = plus(sum, load<N>(dx + row * width + column));
      }
    }
    __syncthreads();  // before the bits of the next rows are written
  }
  if (column < width) store(place, sum);
}

// Each block moves `together` rows, a few loads ahead of their stores. In place one block has all rows of its columns: row i is
// written when rows[i] >= i has been read, and later rows come from further down.
template <int N>
__global__ void __launch_bounds__(kThreads)
    move_rows(const float* x, const std::int32_t* rows, std::int64_t count, std::int64_t together, std::int64_t width, float* y) {
  wait_for_previous_kernel();
  allow_next_kernel();
  constexpr int kAhead = 8;
  const std::int64_t column = column_of_thread<N>();
  if (column >= width) return;
  const std::int64_t end = min((blockIdx.y + 1) * together, count);
  for (std::int64_t first = blockIdx.y * together; first < end; first += kAhead) {
    Pack<float, N> moved[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i < end) moved[i] = load<N>(x + rows[first + i] * width + column);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i < end) store(y + (first + i) * width + column, moved[i]);
    }
  }
}

template <int N>
__global__ void __launch_bounds__(kThreads)
    scatter_add(const float* y, const std::int32_t* rows, std::int64_t count, std::int64_t width, float* x) {
  const std::int64_t column = column_of_thread<N>();
  if (column >= width) return;
  for (std::int64_t i = blockIdx.y; i < count; i += gridDim.y) {
    float* const place = x + rows[i] * width + column;
    store(place, plus(load<N>(place), load<N>(y + i * width + column)));
  }
}

template <int N>
__global__ void __launch_bounds__(kThreads)
    add_deltas(const float* x, const float* delta, std::int64_t rows, std::int64_t width, std::int64_t stride, float* sum) {
  const std::int64_t column = column_of_thread<N>();
  if (column >= width) return;
  for (std::int64_t t = blockIdx.y; t < rows; t += gridDim.y)
    store(sum + t * stride + column, plus(load<N>(x + t * stride + column), load<N>(delta + t * width + column)));
}

struct Scale {
  float* x;
  float scale;
  template <int N>
  __device__ void at(std::int64_t i) const {
    auto xs = load<N>(x + i);
#pragma unroll
    for (int n = 0; n < N; ++n) xs.v[n] *= scale;
    store(x + i, xs);
  }
};

// A number and its place as one whole number: greater for the greater number, and of equal ones for the earlier. 0: NaN or nothing.
__device__ __forceinline__ unsigned long long ranked(float value, std::int64_t place) {
  const unsigned ordered = ordered_bits(value);
  if (ordered == 0) return 0;
  return static_cast<unsigned long long>(ordered) << 32 | (0xffffffffu - static_cast<unsigned>(place));
}

// best [R, gridDim.x]: of columns [blockIdx.x part, + part) of row blockIdx.y; a multiple of four columns in packs
template <int N>
__global__ void __launch_bounds__(kThreads)
    best_of_parts(const float* x, std::int64_t width, std::int64_t part, unsigned long long* best) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const float* const row = x + blockIdx.y * width;
  const std::int64_t begin = blockIdx.x * part, end = min(begin + part, width);
  unsigned long long mine = 0;
  for (std::int64_t i = begin + threadIdx.x * N; i < end; i += kThreads * N) {
    const auto values = load<N>(row + i);
#pragma unroll
    for (int n = 0; n < N; ++n) mine = max(mine, ranked(values.v[n], i + n));
  }
  mine = block_reduce(mine, Greatest());
  if (threadIdx.x == 0) best[blockIdx.y * gridDim.x + blockIdx.x] = mine;
}

// A warp for each row of best [R, parts], parts <= 32.
__global__ void best_of_rows(const unsigned long long* best, int parts, const float* x, std::int64_t width, ArgMax largest) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const int part = static_cast<int>(threadIdx.x);
  const unsigned long long mine = part < parts ? best[blockIdx.x * static_cast<std::int64_t>(parts) + part] : 0;
  const unsigned long long most = warp_reduce(mine, Greatest());
  if (part > 0) return;
  const auto place = most == 0 ? 0 : static_cast<std::int32_t>(0xffffffffu - static_cast<unsigned>(most));
  largest.places[blockIdx.x] = place;
  largest.values[blockIdx.x] = x[blockIdx.x * width + place];
}

template <typename To>
struct Round {
  const float* values;
  To* rounded;
  template <int N>
  __device__ void at(std::int64_t i) const {
    const auto wide = load<N>(values + i);
    Pack<To, N> narrow;
#pragma unroll
    for (int n = 0; n < N; ++n) narrow.v[n] = rounded_to<To>(wide.v[n]);
    store(rounded + i, narrow);
  }
};

template <typename To>
void round_all(GpuContext& gpu, std::span<const float> values, std::byte* rounded) {
  const Round<To> round{values.data(), reinterpret_cast<To*>(rounded)};
  for_each_value(gpu, "round_values", round, static_cast<std::int64_t>(values.size()), holds_packs(round.values, round.rounded));
}

}  // namespace

void embed_backward(Device& device, std::span<const std::int32_t> tokens, const float* dx, std::int64_t width, float* dembedding) {
  const auto rows = static_cast<std::int64_t>(tokens.size());
  PUNA_CHECK(rows <= kMostGridRows, "embed_backward", "{} rows, more than {}", rows, kMostGridRows);
  if (rows == 0 || width == 0) return;
  const bool in_packs = width % 4 == 0 && holds_packs(dx, dembedding);
  launch(context_of(device), "embed_backward", in_packs ? add_to_embedding<4> : add_to_embedding<1>,
         dim3(column_blocks(width, in_packs), static_cast<unsigned>(rows)), kThreads, 0, false, tokens.data(), rows, dx, width,
         dembedding);
}

void gather_rows(Device& device, const float* x, std::span<const std::int32_t> rows, std::int64_t width, float* y) {
  constexpr std::int64_t kTogether = 8;
  const auto count = static_cast<std::int64_t>(rows.size());
  if (count == 0 || width == 0) return;
  const bool in_packs = width % 4 == 0 && holds_packs(x, y);
  const std::int64_t together = x == y ? count : std::max(kTogether, (count + kMostGridRows - 1) / kMostGridRows);
  launch(context_of(device), "gather_rows", in_packs ? move_rows<4> : move_rows<1>,
         dim3(column_blocks(width, in_packs), blocks_for(count, together)), kThreads, 0, true, x, rows.data(), count, together,
         width, y);
}

void scatter_add_rows(Device& device, const float* y, std::span<const std::int32_t> rows, std::int64_t width, float* x) {
  const auto count = static_cast<std::int64_t>(rows.size());
  if (count == 0 || width == 0) return;
  const bool in_packs = width % 4 == 0 && holds_packs(x, y);
  launch(context_of(device), "scatter_add_rows", in_packs ? scatter_add<4> : scatter_add<1>,
         dim3(column_blocks(width, in_packs), row_blocks(count)), kThreads, 0, false, y, rows.data(), count, width, x);
}

void add_rows(GpuContext& gpu, const float* x, const float* delta, std::int64_t rows, std::int64_t width, std::int64_t stride,
              float* sum) {
  PUNA_CHECK(rows >= 0 && width >= 0 && stride >= width, "add_rows", "shape [{}, {}] in rows {} apart", rows, width, stride);
  if (rows == 0 || width == 0) return;
  const bool in_packs = width % 4 == 0 && stride % 4 == 0 && holds_packs(x, delta, sum);
  launch(gpu, "add_rows", in_packs ? add_deltas<4> : add_deltas<1>, dim3(column_blocks(width, in_packs), row_blocks(rows)),
         kThreads, 0, false, x, delta, rows, width, stride, sum);
}

void add_strided(Device& device, float* y, std::int64_t stride, const float* delta, std::int64_t rows, std::int64_t width) {
  add_rows(context_of(device), y, delta, rows, width, stride, y);
}

void scale_values(Device& device, float* x, std::int64_t count, float scale) {
  for_each_value(context_of(device), "scale_values", Scale{x, scale}, count, holds_packs(x));
}

void arg_max_rows(Device& device, const float* x, std::int64_t rows, std::int64_t width, const ArgMax& largest) {
  constexpr std::int64_t kMostParts = 32, kLeastPart = 4096;
  GpuContext& gpu = context_of(device);
  PUNA_CHECK(rows >= 0 && rows <= kMostGridRows && width > 0, "arg_max", "shape [{}, {}]", rows, width);
  if (rows == 0) return;
  const bool in_packs = width % 4 == 0 && holds_packs(x);
  const std::int64_t wanted = std::clamp((width + kLeastPart - 1) / kLeastPart, std::int64_t{1}, kMostParts);
  const std::int64_t part = ((width + wanted - 1) / wanted + 3) / 4 * 4;
  const unsigned parts = blocks_for(width, part);
  auto* const best = static_cast<unsigned long long*>(gpu.workspace);  // [R, parts]
  launch(gpu, "arg_max", in_packs ? best_of_parts<4> : best_of_parts<1>, dim3(parts, static_cast<unsigned>(rows)), kThreads, 0,
         true, x, width, part, best);
  launch(gpu, "arg_max", best_of_rows, static_cast<unsigned>(rows), 32, 0, true, best, static_cast<int>(parts), x, width, largest);
}

void round_values(Device& device, std::span<const float> values, Format format, std::byte* rounded) {
  GpuContext& gpu = context_of(device);
  switch (format) {
    case Format::kF32:
      return check(cudaMemcpyAsync(rounded, values.data(), values.size_bytes(), cudaMemcpyDeviceToDevice, gpu.stream),
                   "round_values");
    case Format::kF16:
      return round_all<__half>(gpu, values, rounded);
    case Format::kBF16:
      return round_all<__nv_bfloat16>(gpu, values, rounded);
    case Format::kF8E4M3:
      return round_all<E4M3>(gpu, values, rounded);
    default:
      fail(ErrorKind::kInternal, "round_values", "format {} is not a floating-point one", static_cast<int>(format));
  }
}

}  // namespace puna::cuda
