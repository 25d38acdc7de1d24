// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/library.h"

#include <mutex>

#include "kernels/cuda/context.h"

namespace puna::cuda {

void destroy_records(GpuContext& gpu) {
  for (const auto& [key, executable] : gpu.records) cudaGraphExecDestroy(executable);
  gpu.records.clear();
}

bool replay(GpuContext* gpu, std::uint64_t key) {
  const std::lock_guard lock(gpu->team_mutex);
  const auto record = gpu->records.find(key);
  if (record == gpu->records.end()) return false;
  use(*gpu);
  check(cudaGraphLaunch(record->second, gpu->stream), "a recorded step");
  return true;
}

void begin_record(GpuContext* gpu) {
  use(*gpu);
  check(cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeRelaxed), "recording a step");
  gpu->recording = true;
}

void end_record(GpuContext* gpu, std::uint64_t key) {
  gpu->recording = false;
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(gpu->stream, &graph), "recording a step");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "recording a step");
  const std::lock_guard lock(gpu->team_mutex);
  gpu->records.emplace(key, executable);
}

void drop_record(GpuContext* gpu) {
  gpu->recording = false;
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(gpu->stream, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();  // the failure that led here is already on its way
}

void forget_records(GpuContext* gpu) {
  const std::lock_guard lock(gpu->team_mutex);
  destroy_records(*gpu);
}

}  // namespace puna::cuda
