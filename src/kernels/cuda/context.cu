// SPDX-License-Identifier: Apache-2.0
// The GPU opened: its stream, cuBLASLt, and the memory that operations share; copies in and out.
#include "kernels/cuda/context.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "base/error.h"
#include "kernels/cuda/library.h"

namespace puna::cuda {

void use(const GpuContext& gpu) { check(cudaSetDevice(gpu.index), "the GPU"); }

GpuContext& context_of(Device& device) {
  GpuContext& gpu = *device.gpu->context();
  use(gpu);
  return gpu;
}

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw std::runtime_error(std::string(what) + ": " + cublasLtGetStatusString(status));
}

namespace {

// The place of so many bytes in the staging ring, which begins again when it is full: what was staged before has been read by then,
// since it waits for it.
std::size_t take_staging(GpuContext& gpu, std::size_t count) {
  PUNA_CHECK(count <= kStagingBytes && !gpu.recording, "cuda", "{} bytes to stage", count);
  const std::size_t padded = (count + 255) / 256 * 256;
  if (gpu.staging_used + padded > kStagingBytes) {
    check(cudaStreamSynchronize(gpu.stream), "stage");
    gpu.staging_used = 0;
  }
  const std::size_t at = gpu.staging_used;
  gpu.staging_used += padded;
  return at;
}

}  // namespace

const void* stage(GpuContext& gpu, const void* bytes, std::size_t count) {
  const std::size_t at = take_staging(gpu, count);
  std::memcpy(gpu.staging + at, bytes, count);
  check(cudaMemcpyAsync(gpu.staged + at, gpu.staging + at, count, cudaMemcpyHostToDevice, gpu.stream), "stage");
  return gpu.staged + at;
}

int count_gpus() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice) return 0;
  if (status == cudaErrorInsufficientDriver) {
    throw std::runtime_error("there is no NVIDIA driver here, or it is too old for CUDA " + std::to_string(CUDART_VERSION / 1000));
  }
  check(status, "CUDA's driver");
  return count;
}

GpuInfo describe_gpu(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "the GPU's properties");
  check(cudaSetDevice(index), "the GPU");
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "the GPU's memory");
  return {.index = index,
          .name = properties.name,
          .major = properties.major,
          .minor = properties.minor,
          .processors = properties.multiProcessorCount,
          .memory = static_cast<std::int64_t>(total),
          .free = static_cast<std::int64_t>(free)};
}

GpuContext* open_gpu(int index) {
  const GpuInfo info = describe_gpu(index);
  if (info.major < 8) {
    throw std::runtime_error(info.name + " is of compute capability " + std::to_string(info.major) + "." +
                             std::to_string(info.minor) + ": kernels are built for 8.0 and later");
  }
  auto gpu = std::make_unique<GpuContext>();
  gpu->index = index;
  gpu->processors = info.processors;
  check(cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking), "the stream");
  check(cudaEventCreateWithFlags(&gpu->met, cudaEventDisableTiming), "the stream");
  check(cublasLtCreate(&gpu->cublas), "cuBLASLt");
  gpu->workspace_bytes = kWorkspaceBytes;
  check(cudaMalloc(&gpu->workspace, kWorkspaceBytes), "the workspace");
  constexpr std::int64_t kShare = 256;  // of the GPU's memory: products take fewer pieces where there is much
  gpu->decoded_bytes = std::clamp(static_cast<std::size_t>(info.memory / kShare), kLeastDecodedBytes, kMostDecodedBytes);
  check(cudaMalloc(reinterpret_cast<void**>(&gpu->decoded), gpu->decoded_bytes), "the workspace");
  check(cudaMalloc(reinterpret_cast<void**>(&gpu->staged), kStagingBytes), "the workspace");
  check(cudaMallocHost(reinterpret_cast<void**>(&gpu->staging), kStagingBytes), "pinned memory");
  check(cudaMalloc(reinterpret_cast<void**>(&gpu->counters), kCounters * sizeof(int)), "the workspace");
  check(cudaMemsetAsync(gpu->counters, 0, kCounters * sizeof(int), gpu->stream), "the workspace");
  return gpu.release();
}

// Errors have nobody to go to: the process ends with the GPU, or has said so before.
void close_gpu(GpuContext* gpu) {
  cudaSetDevice(gpu->index);
  leave(gpu);
  cudaStreamSynchronize(gpu->stream);
  forget_records(gpu);
  gpu->product_cache.reset();
  cublasLtDestroy(gpu->cublas);
  for (void* const memory :
       {gpu->workspace, static_cast<void*>(gpu->decoded), static_cast<void*>(gpu->staged), static_cast<void*>(gpu->counters)})
    cudaFree(memory);
  cudaFreeHost(gpu->staging);
  cudaEventDestroy(gpu->met);
  cudaStreamDestroy(gpu->stream);
  delete gpu;
}

void* allocate(GpuContext* gpu, std::size_t bytes) {
  void* memory = nullptr;
  use(*gpu);
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is the caller's to report, not that of the next launch
    return nullptr;
  }
  check(status, "the GPU's memory");
  check(cudaMemsetAsync(memory, 0, bytes, gpu->stream), "the GPU's memory");
  return memory;
}

void release(GpuContext* gpu, void* memory) {
  cudaSetDevice(gpu->index);
  cudaStreamSynchronize(gpu->stream);
  cudaFree(memory);
}

void* allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  if (cudaMallocHost(&memory, bytes) == cudaSuccess) return memory;
  cudaGetLastError();
  return nullptr;
}

void release_pinned(void* memory) { cudaFreeHost(memory); }

// Of pageable memory the driver takes its own copy before it returns; small arrays go through the ring, which does not wait.
void copy_in(GpuContext* gpu, void* to, const void* from, std::size_t bytes) {
  use(*gpu);
  constexpr std::size_t kSmall = std::size_t{64} << 10;
  if (bytes == 0) return;
  if (bytes <= kSmall) {
    const std::size_t at = take_staging(*gpu, bytes);
    std::memcpy(gpu->staging + at, from, bytes);
    return check(cudaMemcpyAsync(to, gpu->staging + at, bytes, cudaMemcpyHostToDevice, gpu->stream), "copy to the GPU");
  }
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, gpu->stream), "copy to the GPU");
  check(cudaStreamSynchronize(gpu->stream), "copy to the GPU");  // pinned memory would still be read
}

void copy_out(GpuContext* gpu, void* to, const void* from, std::size_t bytes) {
  use(*gpu);
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, gpu->stream), "copy from the GPU");
  check(cudaStreamSynchronize(gpu->stream), "copy from the GPU");
}

void copy_within(GpuContext* gpu, void* to, const void* from, std::size_t bytes) {
  use(*gpu);
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, gpu->stream), "copy within the GPU");
}

namespace {

// What the driver would take through the host's memory goes directly where the machine's links allow it.
void make_readable(GpuContext& from, GpuContext& gpu) {
  if (from.index == gpu.index || !gpu.reachable.insert(from.index).second) return;
  int can = 0;
  check(cudaDeviceCanAccessPeer(&can, gpu.index, from.index), "copy between GPUs");
  if (can == 0) return;
  const cudaError_t status = cudaDeviceEnablePeerAccess(from.index, 0);
  if (status != cudaErrorPeerAccessAlreadyEnabled) return check(status, "copy between GPUs");
  cudaGetLastError();  // somebody else did it before
}

// What will be asked for on `gpu` begins when all that was asked for on `first` is done.
void follow(GpuContext& gpu, GpuContext& first) {
  check(cudaEventRecord(first.met, first.stream), "copy between GPUs");
  check(cudaStreamWaitEvent(gpu.stream, first.met), "copy between GPUs");
}

}  // namespace

void copy_between(GpuContext* of_from, const void* from, GpuContext* of_to, void* to, std::size_t bytes) {
  use(*of_from);  // whose event is recorded
  follow(*of_to, *of_from);
  use(*of_to);
  make_readable(*of_from, *of_to);
  if (bytes > 0) check(cudaMemcpyPeerAsync(to, of_to->index, from, of_from->index, bytes, of_to->stream), "copy between GPUs");
  follow(*of_from, *of_to);
}

void zero(GpuContext* gpu, void* memory, std::size_t bytes) {
  use(*gpu);
  if (bytes > 0) check(cudaMemsetAsync(memory, 0, bytes, gpu->stream), "zeros on the GPU");
}

void wait(GpuContext* gpu) { check(cudaStreamSynchronize(gpu->stream), "the GPU"); }

void set_gradient_format(GpuContext* gpu, Format format) { gpu->gradient_format = format; }

}  // namespace puna::cuda
