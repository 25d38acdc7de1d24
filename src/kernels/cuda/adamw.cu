// SPDX-License-Identifier: Apache-2.0
// kernels/adamw.h on a GPU. The 8-bit states are bit for bit those of the CPU.
// AdamW on a GPU: one pass over weight, gradient and states, bound by memory. F32 states value by value; of 8-bit states a warp has
// a block of 256, eight neighbours to a lane, and finds the block's new scales by shuffles. Operations are those of the CPU one by
// one, fused where it fuses them, and so are the hashes.
#include "kernels/cuda/cuda_kernels.h"

#include <cmath>
#include <initializer_list>

#include "base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/reduce.h"

namespace puna::cuda {
namespace {

struct Moments {
  float weight, m, v;
};

// The update of one value; factors that hold for the whole step are made in F64.
struct Update {
  float scale, beta1, beta2, rest1, rest2, rate, root, eps, decay;

  explicit Update(const AdamwStep& step) {
    const auto count = static_cast<double>(step.step);
    const double bias1 = 1 - std::pow(step.beta1, count), bias2 = 1 - std::pow(step.beta2, count);
    scale = static_cast<float>(step.gradient_scale);
    beta1 = static_cast<float>(step.beta1);
    beta2 = static_cast<float>(step.beta2);
    rest1 = static_cast<float>(1 - step.beta1);
    rest2 = static_cast<float>(1 - step.beta2);
    rate = static_cast<float>(step.learning_rate / bias1);
    root = static_cast<float>(1 / std::sqrt(bias2));
    eps = static_cast<float>(step.eps);
    decay = static_cast<float>(step.learning_rate * step.decay);
  }

  __device__ __forceinline__ Moments operator()(const Moments& old, float gradient) const {
    const float g = gradient * scale;
    const float m = fmaf(beta1, old.m, rest1 * g);
    const float v = fmaf(beta2, old.v, rest2 * (g * g));
    const float change = rate * m / fmaf(sqrtf(v), root, eps);
    return {old.weight - fmaf(decay, old.weight, change), m, v};
  }
};

struct UpdateValues {
  Update next;
  float* weight;          // [n]
  const float* gradient;  // [n]
  float* m;               // [n]
  float* v;               // [n]
  template <int N>
  __device__ void at(std::int64_t i) const {
    auto weights = load<N>(weight + i), ms = load<N>(m + i), vs = load<N>(v + i);
    const auto gradients = load<N>(gradient + i);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const Moments result = next({weights.v[n], ms.v[n], vs.v[n]}, gradients.v[n]);
      weights.v[n] = result.weight;
      ms.v[n] = result.m;
      vs.v[n] = result.v;
    }
    store(weight + i, weights);
    store(m + i, ms);
    store(v + i, vs);
  }
};

constexpr int kEach = static_cast<int>(kAdamwBlock) / 32;  // neighbours that a lane has
constexpr int kStateWarps = 8;                             // of a thread block

struct States {
  float* weight;          // [n]
  const float* gradient;  // [n]
  std::int8_t* m;         // [n]
  std::uint8_t* v;        // [n]
  float* m_scale;         // [ceil(n / kAdamwBlock)]
  float* v_scale;
  std::int64_t count;  // n
  bool in_packs;       // all pointers are aligned for eight values
};

// Eight neighbours, or as many of them as there are; the others stay as they were.
template <typename T>
__device__ __forceinline__ void load_some(T (&to)[kEach], const T* from, int count, bool in_packs) {
  constexpr int kPack = 16 / sizeof(T) < kEach ? 16 / sizeof(T) : kEach;
  if (in_packs && count == kEach) {
#pragma unroll
    for (int i = 0; i < kEach; i += kPack) {
      const auto pack = load<kPack>(from + i);
#pragma unroll
      for (int n = 0; n < kPack; ++n) to[i + n] = pack.v[n];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (i < count) to[i] = from[i];
  }
}
template <typename T>
__device__ __forceinline__ void store_some(T* to, const T (&from)[kEach], int count, bool in_packs) {
  constexpr int kPack = 16 / sizeof(T) < kEach ? 16 / sizeof(T) : kEach;
  if (in_packs && count == kEach) {
#pragma unroll
    for (int i = 0; i < kEach; i += kPack) {
      Pack<T, kPack> pack;
#pragma unroll
      for (int n = 0; n < kPack; ++n) pack.v[n] = from[i + n];
      store(to + i, pack);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (i < count) to[i] = from[i];
  }
}

// Two numbers uniform in [0, 1), by step and place: the halves of a hash.
__device__ __forceinline__ float2 chances(std::uint32_t seed, std::uint32_t place) {
  std::uint32_t x = seed + place * 0x9e3779b1u;
  x = (x ^ x >> 16) * 0x85ebca6bu;
  x = (x ^ x >> 13) * 0xc2b2ae35u;
  return {static_cast<float>(x >> 16) * 0x1p-16f, static_cast<float>(x & 0xffffu) * 0x1p-16f};
}

__device__ __forceinline__ float inverse_of(float scale) { return scale > 0 ? 1 / scale : 0.0f; }

__global__ void __launch_bounds__(32 * kStateWarps) update_states(Update next, States states, std::uint32_t step_seed) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t block = blockIdx.x * static_cast<std::int64_t>(kStateWarps) + threadIdx.x / 32;
  if (block * kAdamwBlock >= states.count) return;  // the whole warp
  const std::int64_t first = block * kAdamwBlock + lane * kEach, left = states.count - first;
  const int count = left >= kEach ? kEach : left > 0 ? static_cast<int>(left) : 0;
  float weight[kEach]{}, gradient[kEach]{};
  std::int8_t qm[kEach]{};
  std::uint8_t qv[kEach]{};
  load_some(weight, states.weight + first, count, states.in_packs);
  load_some(gradient, states.gradient + first, count, states.in_packs);
  load_some(qm, states.m + first, count, states.in_packs);
  load_some(qv, states.v + first, count, states.in_packs);
  const float old_m_scale = states.m_scale[block], old_v_scale = states.v_scale[block];

  float m[kEach], root[kEach], m_peak = 0, root_peak = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {  // places beyond the end are all zeros and stay zeros
    const float old_root = static_cast<float>(qv[i]) * old_v_scale;
    const Moments result = next({weight[i], static_cast<float>(qm[i]) * old_m_scale, old_root * old_root}, gradient[i]);
    weight[i] = result.weight;
    m[i] = result.m;
    root[i] = sqrtf(result.v);
    m_peak = fmaxf(m_peak, i < count ? fabsf(m[i]) : 0.0f);
    root_peak = fmaxf(root_peak, i < count ? root[i] : 0.0f);
  }
  const float m_scale = warp_reduce(m_peak, Largest()) / 127, v_scale = warp_reduce(root_peak, Largest()) / 255;
  const float to_m = inverse_of(m_scale), to_v = inverse_of(v_scale);
  const std::uint32_t seed = step_seed + static_cast<std::uint32_t>(block * kAdamwBlock);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {  // what is 0 stays 0, and no other v becomes 0
    const float2 chance = chances(seed, static_cast<std::uint32_t>(lane * kEach + i));
    const float level = floorf(fmaf(m[i], to_m, chance.x)), root_level = fmaxf(floorf(fmaf(root[i], to_v, chance.y)), 1.0f);
    qm[i] = static_cast<std::int8_t>(static_cast<int>(fmaxf(fminf(level, 127.0f), -127.0f)));
    qv[i] = static_cast<std::uint8_t>(root[i] > 0 ? static_cast<int>(fminf(root_level, 255.0f)) : 0);
  }
  store_some(states.weight + first, weight, count, states.in_packs);
  store_some(states.m + first, qm, count, states.in_packs);
  store_some(states.v + first, qv, count, states.in_packs);
  if (lane == 0) {
    states.m_scale[block] = m_scale;
    states.v_scale[block] = v_scale;
  }
}

constexpr int kSumThreads = 256;
constexpr int kSumBlocks = 1024;  // on every GPU, so that the order is the same

// sums [gridDim.x]: each thread takes four neighbours at a time.
__global__ void __launch_bounds__(kSumThreads) partial_squares(const float* x, std::int64_t count, bool in_packs, double* sums) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kSumThreads * 4;
  double sum = 0;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * 4; i < count; i += step) {
    Pack<float, 4> values{};
    if (in_packs && i + 4 <= count) {
      values = load<4>(x + i);
    } else {
      for (int n = 0; n < 4 && i + n < count; ++n) values.v[n] = x[i + n];
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) sum = fma(static_cast<double>(values.v[n]), static_cast<double>(values.v[n]), sum);
  }
  sum = block_reduce(sum, Sum());
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// sums [count] -> sums[0]
__global__ void __launch_bounds__(kSumThreads) total_of(double* sums, int count) {
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kSumThreads) sum += sums[i];
  sum = block_reduce(sum, Sum());
  if (threadIdx.x == 0) sums[0] = sum;
}

void check_lengths(const AdamwStep& step, std::size_t count, std::initializer_list<std::size_t> others) {
  PUNA_CHECK(step.step >= 1, "adamw", "step {}: the first is 1", step.step);
  for (const std::size_t other : others)
    PUNA_CHECK(other == count, "adamw", "{} weights, but a gradient or state of {}", count, other);
}

}  // namespace

void adamw_update(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                  std::span<float> m, std::span<float> v) {
  check_lengths(step, weight.size(), {gradient.size(), m.size(), v.size()});
  for_each_value(context_of(device), "adamw", UpdateValues{Update(step), weight.data(), gradient.data(), m.data(), v.data()},
                 static_cast<std::int64_t>(weight.size()), holds_packs(weight.data(), gradient.data(), m.data(), v.data()));
}

void adamw_update_8bit(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                       const Adamw8BitState& state) {
  const auto count = static_cast<std::int64_t>(weight.size()), blocks = (count + kAdamwBlock - 1) / kAdamwBlock;
  check_lengths(step, weight.size(), {gradient.size(), state.m.size(), state.v.size()});
  check_lengths(step, static_cast<std::size_t>(blocks), {state.m_scale.size(), state.v_scale.size()});
  if (count == 0) return;
  const auto aligned = [](const void* pointer, std::uintptr_t bytes) {
    return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
  };
  const States states{.weight = weight.data(),
                      .gradient = gradient.data(),
                      .m = state.m.data(),
                      .v = state.v.data(),
                      .m_scale = state.m_scale.data(),
                      .v_scale = state.v_scale.data(),
                      .count = count,
                      .in_packs = aligned(weight.data(), 16) && aligned(gradient.data(), 16) && aligned(state.m.data(), kEach) &&
                                  aligned(state.v.data(), kEach)};
  launch(context_of(device), "adamw_8bit", update_states, blocks_for(blocks, kStateWarps), 32 * kStateWarps, 0, false, Update(step),
         states, static_cast<std::uint32_t>(step.step * 0x632be5ab));
}

double sum_of_squares(Device& device, std::span<const float> x) {
  if (x.empty()) return 0;
  GpuContext& gpu = context_of(device);
  auto* const sums = static_cast<double*>(gpu.workspace);
  const auto count = static_cast<std::int64_t>(x.size());
  const auto blocks = static_cast<int>(std::min<std::int64_t>(blocks_for(count, kSumThreads * 4), kSumBlocks));
  launch(gpu, "sum_of_squares", partial_squares, static_cast<unsigned>(blocks), kSumThreads, 0, false, x.data(), count,
         holds_packs(x.data()), sums);
  launch(gpu, "sum_of_squares", total_of, 1, kSumThreads, 0, false, sums, blocks);
  double total = 0;
  check(cudaMemcpyAsync(&total, sums, sizeof(total), cudaMemcpyDeviceToHost, gpu.stream), "sum_of_squares");
  check(cudaStreamSynchronize(gpu.stream), "sum_of_squares");
  return total;
}

}  // namespace puna::cuda
