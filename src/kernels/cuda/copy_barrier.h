// SPDX-License-Identifier: Apache-2.0
// Barriers in shared memory (PTX ISA 8, mbarrier), on which the threads of a block wait for parts of each other and for copies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/mma.h"

namespace puna::cuda {

// A phase ends when `arrivals` have come, and the copies that were announced; `parity` is that of the phase that is waited for, 0
// for the first. Who waits must not be two phases behind.
using Barrier = std::uint64_t;
__device__ __forceinline__ void init_barrier(Barrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;\n" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
// After init_barrier(), before other threads and copies see it.
__device__ __forceinline__ void publish_barriers() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
#endif
}
__device__ __forceinline__ void arrive(Barrier& barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}\n" ::"r"(shared_address(&barrier)) : "memory");
}
__device__ __forceinline__ void wait_for(Barrier& barrier, unsigned parity) {
  unsigned done = 0;
  while (done == 0) {
#if __CUDA_ARCH__ >= 900  // sleeps for a while before it says no
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}\n"
#else
    asm volatile("{\n.reg .pred p;\nmbarrier.test_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}\n"
#endif
                 : "=r"(done)
                 : "r"(shared_address(&barrier)), "r"(parity)
                 : "memory");
  }
}

// __syncthreads() of the first N threads of a block.
template <int N>
__device__ __forceinline__ void sync_threads() {
  asm volatile("bar.sync 1, %0;\n" ::"n"(N) : "memory");
}

// A warp copies `bytes`, a multiple of 16, from global to shared memory, both aligned to 16 bytes, and does not wait: Hopper's copy
// engine moves them at once, elsewhere lanes do, 16 bytes each. announce() before, on the barrier of kCopyArrivals, with the sum
// of the bytes of all copies, and land() behind the last.
#if __CUDA_ARCH__ >= 900
inline constexpr int kCopyArrivals = 1;
#else
inline constexpr int kCopyArrivals = 32;
#endif
__device__ __forceinline__ void announce([[maybe_unused]] Barrier& barrier, [[maybe_unused]] unsigned bytes,
                                         [[maybe_unused]] int lane) {
#if __CUDA_ARCH__ >= 900
  if (lane == 0) {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;\n}\n" ::"r"(shared_address(&barrier)),
                 "r"(bytes)
                 : "memory");
  }
#endif
}
__device__ __forceinline__ void copy_many(std::byte* shared_to, const std::byte* global_from, unsigned bytes,
                                          [[maybe_unused]] Barrier& barrier, int lane) {
#if __CUDA_ARCH__ >= 900
  if (lane == 0) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(
                     shared_address(shared_to)),
                 "l"(global_from), "r"(bytes), "r"(shared_address(&barrier))
                 : "memory");
  }
#else
  for (unsigned at = static_cast<unsigned>(lane) * 16; at < bytes; at += 512) copy_async_16(shared_to + at, global_from + at, true);
#endif
}
__device__ __forceinline__ void land([[maybe_unused]] Barrier& barrier) {
#if __CUDA_ARCH__ < 900
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];\n" ::"r"(shared_address(&barrier)) : "memory");
#endif
}

}  // namespace puna::cuda
