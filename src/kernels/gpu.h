// SPDX-License-Identifier: Apache-2.0
// One NVIDIA GPU, through the library of kernels/cuda/, which is loaded when a GPU is first asked for: the same program runs on
// machines without one. On a GPU operations are queued on one stream in the order they are called; copy_out() waits for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "kernels/device.h"
#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace puna {

struct GpuContext;  // the library's own: kernels/cuda/context.h
struct KernelTable;

struct GpuInfo {
  int index = 0;
  std::string name;                   // "NVIDIA H200"
  int major = 0, minor = 0;           // compute capability
  int processors = 0;                 // streaming multiprocessors
  std::int64_t memory = 0, free = 0;  // bytes
};

// What the library offers beside the operations. All of it throws std::runtime_error with what CUDA said.
struct GpuLibrary {
  int version;  // kGpuLibraryVersion of the program it was built with
  const KernelTable* kernels;
  int (*count)();
  GpuInfo (*describe)(int index);
  GpuContext* (*open)(int index);
  void (*close)(GpuContext*);
  void* (*allocate)(GpuContext*, std::size_t bytes);  // zeroed; nullptr where there is no room
  void (*release)(GpuContext*, void*);
  void* (*allocate_pinned)(std::size_t bytes);  // of the host, for fast copies
  void (*release_pinned)(void*);
  void (*copy_in)(GpuContext*, void* to, const void* from, std::size_t bytes);   // `from` may be changed when it returns
  void (*copy_out)(GpuContext*, void* to, const void* from, std::size_t bytes);  // waits for all that was queued
  void (*copy_within)(GpuContext*, void* to, const void* from, std::size_t bytes);
  // From one GPU's memory to another's, or the same one's: behind all that was asked for on both, before all that will be.
  void (*copy_between)(GpuContext* of_from, const void* from, GpuContext* of_to, void* to, std::size_t bytes);
  void (*zero)(GpuContext*, void*, std::size_t bytes);
  void (*wait)(GpuContext*);
  // What a weight takes in the GPU's memory, and its bytes there: quantized blocks are laid out anew (kernels/cuda/load_weight.h).
  std::size_t (*weight_bytes)(const Tensor& on_host);
  Tensor (*load_weight)(GpuContext*, const Tensor& on_host, std::byte* to);
  // What is asked for between begin_record and end_record is recorded instead of run; replay runs it, where there is such a record.
  bool (*replay)(GpuContext*, std::uint64_t key);
  void (*begin_record)(GpuContext*);
  void (*end_record)(GpuContext*, std::uint64_t key);
  void (*drop_record)(GpuContext*);  // ends recording after a failure
  void (*forget_records)(GpuContext*);
  // Makes the GPUs ranks 0, 1, … of one team over NCCL and returns "", or returns why that cannot be.
  std::string (*join)(std::span<GpuContext* const> ranks);
  void (*sum_over_ranks)(GpuContext*, float* x, std::size_t count);  // queued and recorded like an operation
  void (*leave)(GpuContext*);  // the team; a GPU that waits in a sum goes on without its result. From any thread
  // kF32, or kBF16: the products and the attention of training round what they read.
  void (*set_gradient_format)(GpuContext*, Format);
};
inline constexpr int kGpuLibraryVersion = 7;  // to be raised where GpuLibrary or KernelTable change

// Where a network runs: on GPUs, one rank on each, or on the CPU, in one rank or several; in stages that share them equally, the
// first ones to the first stage.
struct DeviceChoice {
  std::vector<int> gpus = {};  // their numbers; none: the CPU
  int cpu_ranks = 1;
  int stages = 1;
  int count() const { return gpus.empty() ? cpu_ranks : static_cast<int>(gpus.size()); }
};
// "cpu", "cpu:2" (ranks), "cuda" (GPU 0), "cuda:1", "cuda:0,2", "cuda:0-3", "cuda:all". Throws kUsage naming `where` for another
// name, kUnsupported for "cuda:all" where there is no GPU.
DeviceChoice device_choice(std::string_view device, const std::string& where);

// All GPUs of this machine; none, with the reason, where the library cannot be used.
struct GpuSearch {
  std::vector<GpuInfo> gpus;
  std::string why_none;
};
GpuSearch find_gpus();

class Gpu {
 public:
  // Throws kUnsupported with the reason where there is no such GPU.
  explicit Gpu(int index = 0);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  const GpuInfo& info() const { return info_; }
  std::int64_t free_memory() const;
  GpuContext* context() const { return context_; }
  const GpuLibrary& library() const { return *library_; }
  // Of its memory, for arenas; valid as long as this is.
  const MemorySource& memory() const { return *memory_; }
  std::shared_ptr<float> pinned(std::size_t count) const;  // the host's memory

  // The second time a key comes the operations that `compute` asks for are recorded, from then on replayed: a step that is always
  // the same but for what lies in the memory it reads. Nothing in it may be copied to or from the host.
  void replay_or_record(std::uint64_t key, const std::function<void()>& compute);
  void forget_records();

 private:
  const GpuLibrary* library_;
  GpuInfo info_;
  GpuContext* context_;
  std::unique_ptr<MemorySource> memory_;
  std::unordered_set<std::uint64_t> seen_;  // keys that ran once
};

}  // namespace puna
