// SPDX-License-Identifier: Apache-2.0
// RMSNorm on a GPU. A thread block has a row and reads it twice, the second time from its caches: the sums, then the result. The
// gradient of the weight is a sum over rows: each block of rows has a sum of its own for every column, and these are added in
// order.
#include "kernels/cuda/between_products.h"
#include "kernels/cuda/cuda_kernels.h"

#include "base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/reduce.h"

namespace puna::cuda {
namespace {

constexpr int kMostThreads = 512;
constexpr int kColumnThreads = 128;
constexpr std::int64_t kMostGroups = 64;  // of rows, whose parts of dweight are summed apart
constexpr std::int64_t kLeastGroupRows = 16;

// So many threads that each has few packs of the row, because in decoding one row's time counts; by width only, so that a row has
// the same bits among others.
int threads_for(std::int64_t width, bool in_packs) {
  const std::int64_t units = in_packs ? width / 4 : width;
  return static_cast<int>(std::min<std::int64_t>((units + 31) / 32 * 32, kMostThreads));
}

// x, y [T, D], weight [D]; y may be x
template <int N>
__global__ void __launch_bounds__(kMostThreads)
    norm_row(const float* x, const float* weight, float eps, std::int64_t width, float* y) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * width, first = threadIdx.x * N, step = blockDim.x * N;
  float squares = 0;
  for (std::int64_t i = first; i < width; i += step) {
    const auto xs = load<N>(x + row + i);
#pragma unroll
    for (int n = 0; n < N; ++n) squares = fmaf(xs.v[n], xs.v[n], squares);
  }
  const float mean = block_reduce(squares, Sum()) / static_cast<float>(width);
  const float scale = 1.0f / sqrtf(mean + eps);
  for (std::int64_t i = first; i < width; i += step) {
    auto xs = load<N>(x + row + i);
    const auto weights = load<N>(weight + i);
#pragma unroll
    for (int n = 0; n < N; ++n) xs.v[n] = xs.v[n] * scale * weights.v[n];
    store(y + row + i, xs);
  }
}

// dx [T, D] += r g - r^3 x mean(g x); scales [T] = r, or nullptr
template <int N>
__global__ void __launch_bounds__(kMostThreads) norm_row_gradient(RmsNormGradient gradient, std::int64_t width, float* scales) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * width, first = threadIdx.x * N, step = blockDim.x * N;
  float squares = 0, products = 0;
  for (std::int64_t i = first; i < width; i += step) {
    const auto xs = load<N>(gradient.x + row + i), weights = load<N>(gradient.weight + i), dys = load<N>(gradient.dy + row + i);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      squares = fmaf(xs.v[n], xs.v[n], squares);
      products = fmaf(weights.v[n] * dys.v[n], xs.v[n], products);
    }
  }
  const auto count = static_cast<float>(width);
  const float mean = block_reduce(squares, Sum()) / count, along = block_reduce(products, Sum()) / count;
  const float scale = 1.0f / sqrtf(mean + gradient.eps), pull = scale * scale * along;
  if (scales != nullptr && threadIdx.x == 0) scales[blockIdx.x] = scale;
  for (std::int64_t i = first; i < width; i += step) {
    const auto xs = load<N>(gradient.x + row + i), weights = load<N>(gradient.weight + i), dys = load<N>(gradient.dy + row + i);
    auto dxs = load<N>(gradient.dx + row + i);
#pragma unroll
    for (int n = 0; n < N; ++n) dxs.v[n] = fmaf(scale, fmaf(-xs.v[n], pull, weights.v[n] * dys.v[n]), dxs.v[n]);
    store(gradient.dx + row + i, dxs);
  }
}

// sums [gridDim.y, D]: of dy x r over the rows [blockIdx.y group_rows, + group_rows)
__global__ void __launch_bounds__(kColumnThreads)
    weight_gradient_of_groups(const float* x, const float* dy, const float* scales, std::int64_t rows, std::int64_t width,
                              std::int64_t group_rows, float* sums) {
  const std::int64_t column = blockIdx.x * static_cast<std::int64_t>(kColumnThreads) + threadIdx.x;
  if (column >= width) return;
  const std::int64_t begin = blockIdx.y * group_rows, end = min(begin + group_rows, rows);
  float sum = 0;
  for (std::int64_t t = begin; t < end; ++t) sum = fmaf(dy[t * width + column], x[t * width + column] * scales[t], sum);
  sums[blockIdx.y * width + column] = sum;
}

// dweight [D] += sums [groups, D], in order
__global__ void __launch_bounds__(kColumnThreads)
    add_groups(const float* sums, std::int64_t groups, std::int64_t width, float* dweight) {
  const std::int64_t column = blockIdx.x * static_cast<std::int64_t>(kColumnThreads) + threadIdx.x;
  if (column >= width) return;
  float sum = 0;
  for (std::int64_t group = 0; group < groups; ++group) sum += sums[group * width + column];
  dweight[column] += sum;
}

struct Add {
  float* x;
  const float* delta;
  template <int N>
  __device__ void at(std::int64_t i) const {
    auto xs = load<N>(x + i);
    const auto deltas = load<N>(delta + i);
#pragma unroll
    for (int n = 0; n < N; ++n) xs.v[n] += deltas.v[n];
    store(x + i, xs);
  }
};

}  // namespace

void normalise_rows(GpuContext& gpu, const float* x, const float* weight, float eps, std::int64_t rows, std::int64_t width,
                    float* y) {
  PUNA_CHECK(rows >= 0 && width > 0, "rms_norm", "shape [{}, {}]", rows, width);
  if (rows == 0) return;
  const bool in_packs = width % 4 == 0 && holds_packs(x, weight, y);
  launch(gpu, "rms_norm", in_packs ? norm_row<4> : norm_row<1>, static_cast<unsigned>(rows), threads_for(width, in_packs), 0, true,
         x, weight, eps, width, y);
}

void rms_norm_forward(Device& device, const float* x, const float* weight, float eps, std::int64_t rows, std::int64_t width,
                      float* y) {
  normalise_rows(context_of(device), x, weight, eps, rows, width, y);
}

void rms_norm_backward(Device& device, const RmsNormGradient& gradient, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows >= 0 && width > 0, "rms_norm", "shape [{}, {}]", rows, width);
  if (rows == 0) return;
  GpuContext& gpu = context_of(device);
  const std::int64_t group_rows = std::max(kLeastGroupRows, (rows + kMostGroups - 1) / kMostGroups);
  const std::int64_t groups = (rows + group_rows - 1) / group_rows;
  PUNA_CHECK((rows + groups * width) * static_cast<std::int64_t>(sizeof(float)) <= static_cast<std::int64_t>(gpu.workspace_bytes),
             "rms_norm", "shape [{}, {}] needs more than {} bytes of workspace", rows, width, gpu.workspace_bytes);
  float* const sums = gradient.dweight == nullptr ? nullptr : static_cast<float*>(gpu.workspace);  // [groups, D]
  float* const scales = sums == nullptr ? nullptr : sums + groups * width;                         // [T]
  const bool in_packs = width % 4 == 0 && holds_packs(gradient.x, gradient.weight, gradient.dy, gradient.dx);
  launch(gpu, "rms_norm_backward", in_packs ? norm_row_gradient<4> : norm_row_gradient<1>, static_cast<unsigned>(rows),
         threads_for(width, in_packs), 0, false, gradient, width, scales);
  if (sums == nullptr) return;
  const unsigned columns = blocks_for(width, kColumnThreads);
  launch(gpu, "rms_norm_backward", weight_gradient_of_groups, dim3(columns, static_cast<unsigned>(groups)), kColumnThreads, 0,
         false, gradient.x, gradient.dy, scales, rows, width, group_rows, sums);
  launch(gpu, "rms_norm_backward", add_groups, columns, kColumnThreads, 0, false, sums, groups, width, gradient.dweight);
}

void add_forward(Device& device, float* x, const float* delta, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows >= 0 && width >= 0, "add", "shape [{}, {}]", rows, width);
  for_each_value(context_of(device), "add", Add{x, delta}, rows * width, holds_packs(x, delta));
}

}  // namespace puna::cuda
