// SPDX-License-Identifier: Apache-2.0
// The rows of GpuLibrary (kernels/gpu.h): context.cu holds the first, records.cu those of recorded steps, which are CUDA graphs by
// key, captured from the GPU's stream, and collective.cu those of teams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/gpu.h"

namespace puna::cuda {

int count_gpus();
GpuInfo describe_gpu(int index);
GpuContext* open_gpu(int index);
void close_gpu(GpuContext* gpu);
void* allocate(GpuContext* gpu, std::size_t bytes);
void release(GpuContext* gpu, void* memory);
void* allocate_pinned(std::size_t bytes);
void release_pinned(void* memory);
void copy_in(GpuContext* gpu, void* to, const void* from, std::size_t bytes);
void copy_out(GpuContext* gpu, void* to, const void* from, std::size_t bytes);
void copy_within(GpuContext* gpu, void* to, const void* from, std::size_t bytes);
void copy_between(GpuContext* of_from, const void* from, GpuContext* of_to, void* to, std::size_t bytes);
void zero(GpuContext* gpu, void* memory, std::size_t bytes);
void wait(GpuContext* gpu);
void set_gradient_format(GpuContext* gpu, Format format);

bool replay(GpuContext* gpu, std::uint64_t key);
void begin_record(GpuContext* gpu);
void end_record(GpuContext* gpu, std::uint64_t key);
void drop_record(GpuContext* gpu);
void forget_records(GpuContext* gpu);

std::string join(std::span<GpuContext* const> ranks);
void sum_over_ranks(GpuContext* gpu, float* x, std::size_t count);
void leave(GpuContext* gpu);

}  // namespace puna::cuda
