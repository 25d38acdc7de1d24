// SPDX-License-Identifier: Apache-2.0
// Where operations run: the CPU, with a thread pool and the instruction set that Highway picks at run time, or a GPU
// (kernels/gpu.h). Operations take the device first; each op header is the place where its mathematics can be read. Their pointers
// are the device's memory, but where the header says that they are the host's. Who computes them is in kernels/kernel_table.h.
#pragma once

#include <cstddef>
#include <string>

#include "base/thread_pool.h"
#include "tensor/arena.h"

namespace puna {

class Gpu;
class Team;
struct KernelTable;

struct Device {
  ThreadPool& pool;
  Gpu* gpu = nullptr;    // nullptr: the CPU
  Team* team = nullptr;  // of several devices that compute one network (kernels/collective.h); nullptr: alone
  int rank = 0;          // in the team

  const KernelTable& kernels() const;
  // Memory that the operations work on.
  Arena arena(std::size_t bytes, const std::string& purpose) const;
  void copy_in(void* to, const void* from, std::size_t bytes) const;   // from the host's memory; `from` may be changed afterwards
  void copy_out(void* to, const void* from, std::size_t bytes) const;  // to the host's, when all that was asked for is done
  void copy_within(void* to, const void* from, std::size_t bytes) const;
  void zero(void* memory, std::size_t bytes) const;
};

// The instruction set the kernels run on: "AVX3_DL", "AVX2", …
std::string instruction_set();

}  // namespace puna
