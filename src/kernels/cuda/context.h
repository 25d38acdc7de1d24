// SPDX-License-Identifier: Apache-2.0
// What every kernel of this folder needs: the GPU's stream, checked calls, and the one way to launch. Everything is queued on one
// stream, so operations see each other's results in the order they are called in.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>

#include "kernels/gpu.h"

#ifndef PUNA_DYNAMIC_SHARED
#define PUNA_DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]
#endif

namespace puna {

struct GpuContext {
  int index = 0;
  int processors = 0;
  cudaStream_t stream = nullptr;
  cudaEvent_t met = nullptr;          // where other GPUs' streams wait for this one's
  std::unordered_set<int> reachable;  // GPUs whose memory was made readable from here, or cannot be
  cublasLtHandle_t cublas = nullptr;
  void* workspace = nullptr;  // of cuBLASLt, and of kernels within one operation
  std::size_t workspace_bytes = 0;
  std::byte* decoded = nullptr;  // operands of the products of many rows: rows of a quantized matrix in F16, rounded gradients
  std::size_t decoded_bytes = 0;
  std::byte* staging = nullptr;  // pinned and mapped in turns: small arrays of one operation on their way in
  std::byte* staged = nullptr;   // the same in the GPU's memory
  std::size_t staging_used = 0;
  int* counters = nullptr;  // kCounters zeros; a kernel that counts with them leaves them zero
  bool recording = false;
  std::unordered_map<std::uint64_t, cudaGraphExec_t> records;
  std::timed_mutex team_mutex;            // of the communicator and of records, which leave() takes from a waiting thread
  void* communicator = nullptr;           // NCCL's, of the team this GPU is a rank of (kernels/cuda/collective.cu)
  std::shared_ptr<void> product_cache;    // of kernels/cuda/cublas_product.h: what cuBLASLt chose
  Format gradient_format = Format::kF32;  // kBF16: the products and the attention of training round what they read
};

namespace cuda {

inline constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;
inline constexpr std::size_t kLeastDecodedBytes = std::size_t{128} << 20, kMostDecodedBytes = std::size_t{640} << 20;
inline constexpr std::size_t kStagingBytes = std::size_t{8} << 20;
inline constexpr int kCounters = 1 << 16;

// Makes the GPU the calling thread's: launches go to no other. Every rank has a thread and a GPU of its own.
void use(const GpuContext& gpu);
GpuContext& context_of(Device& device);  // used from here on

// For who holds team_mutex.
void destroy_records(GpuContext& gpu);

// Throws std::runtime_error: "rms_norm: an illegal memory access was encountered".
void check(cudaError_t status, const char* what);
void check(cublasStatus_t status, const char* what);

// The same bytes in the GPU's memory, for kernels that are launched next; not while a step is recorded.
const void* stage(GpuContext& gpu, const void* bytes, std::size_t count);

// kernel<<<grid, block, shared>>>(arguments). `overlaps`: the kernel calls wait_for_previous_kernel() (kernels/cuda/mma.h) before
// it reads what others write, so it may start while the one before it ends.
template <typename... Parameters, typename... Arguments>
void launch(GpuContext& gpu, const char* what, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            bool overlaps, Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = gpu.stream;
  config.attrs = &attribute;
  config.numAttrs = overlaps ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), what);
}

// More than 48 KB of dynamic shared memory must be asked for, once for each kernel; and all of what a processor has, so that the
// blocks of the next kernel find room beside those of this one.
template <typename Kernel>
void allow_shared(Kernel* kernel, std::size_t bytes, const char* what) {
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        what);
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared),
        what);
}

inline unsigned blocks_for(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

}  // namespace cuda
}  // namespace puna
