// SPDX-License-Identifier: Apache-2.0
// Where operations run. Today the CPU: a thread pool, and the instruction set that Highway picks at run time.
// Operations take the device first; each op header is the place where its mathematics can be read.
#pragma once

#include <string>

#include "base/thread_pool.h"

namespace puna {

struct Device {
  ThreadPool& pool;
};

// The instruction set the kernels run on: "AVX3_DL", "AVX2", …
std::string instruction_set();

}  // namespace puna
