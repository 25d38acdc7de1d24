// SPDX-License-Identifier: Apache-2.0
// What is used of NCCL, declared as its nccl.h of 2.28 does and found in libnccl.so.2 when the first team is made: the library
// builds where NCCL is not installed, and one GPU needs none.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>

namespace puna::cuda {

using NcclCommunicator = void*;  // ncclComm_t
using NcclResult = int;          // ncclResult_t
inline constexpr NcclResult kNcclSuccess = 0;
inline constexpr int kNcclFloat32 = 7;  // ncclDataType_t
inline constexpr int kNcclSum = 0;      // ncclRedOp_t

struct NcclFunctions {
  NcclResult (*comm_init_all)(NcclCommunicator* communicators, int count, const int* devices) = nullptr;
  NcclResult (*comm_abort)(NcclCommunicator) = nullptr;
  NcclResult (*all_reduce)(const void* from, void* to, std::size_t count, int type, int operation, NcclCommunicator,
                           cudaStream_t) = nullptr;
  const char* (*get_error_string)(NcclResult) = nullptr;
  std::string why_none;  // "": all of them are there
};
const NcclFunctions& nccl();  // kernels/cuda/collective.cu

}  // namespace puna::cuda
