// SPDX-License-Identifier: Apache-2.0
// Teams of GPUs over NCCL: one process, a thread and a communicator for each GPU. Sums are queued on the GPU's stream, so they are
// recorded with the step they belong to.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "base/as_size.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/nccl_functions.h"

namespace puna::cuda {
namespace {

NcclFunctions load_nccl() {
  NcclFunctions functions;
  void* const library = ::dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    functions.why_none = ::dlerror();
    return functions;
  }
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
    if (function == nullptr) functions.why_none = std::string("libnccl.so.2 lacks ") + name;
  };
  find(functions.comm_init_all, "ncclCommInitAll");
  find(functions.comm_abort, "ncclCommAbort");
  find(functions.all_reduce, "ncclAllReduce");
  find(functions.get_error_string, "ncclGetErrorString");
  return functions;
}

}  // namespace

const NcclFunctions& nccl() {
  static const NcclFunctions functions = load_nccl();
  return functions;
}

std::string join(std::span<GpuContext* const> ranks) {
  std::vector<int> devices;
  for (const GpuContext* const gpu : ranks) {
    if (std::find(devices.begin(), devices.end(), gpu->index) != devices.end()) return "two ranks are on one GPU";
    devices.push_back(gpu->index);
  }
  if (!nccl().why_none.empty()) return nccl().why_none;
  std::vector<NcclCommunicator> communicators(ranks.size());
  const NcclResult result = nccl().comm_init_all(communicators.data(), static_cast<int>(ranks.size()), devices.data());
  if (result != kNcclSuccess) return nccl().get_error_string(result);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) ranks[rank]->communicator = communicators[rank];
  return "";
}

void sum_over_ranks(GpuContext* gpu, float* x, std::size_t count) {
  use(*gpu);
  const std::lock_guard lock(gpu->team_mutex);
  if (gpu->communicator == nullptr) throw std::runtime_error("sum over GPUs: their team was left");
  const NcclResult result = nccl().all_reduce(x, x, count, kNcclFloat32, kNcclSum, gpu->communicator, gpu->stream);
  if (result != kNcclSuccess) throw std::runtime_error(std::string("sum over GPUs: ") + nccl().get_error_string(result));
}

// Aborting rather than destroying: it also ends sums that wait for a GPU which will not come, on the GPU or, where NCCL first meets
// the others, in the thread that asks for one; only that holds the mutex for long. It waits for records of sums to be let go.
void leave(GpuContext* gpu) {
  const std::unique_lock lock(gpu->team_mutex, std::chrono::seconds(1));
  if (gpu->communicator == nullptr) return;
  destroy_records(*gpu);
  nccl().comm_abort(gpu->communicator);
  gpu->communicator = nullptr;
}

}  // namespace puna::cuda
