// SPDX-License-Identifier: Apache-2.0
// What a reader promises about the tensors it accepts: their bytes are there and as many as shape and format ask for.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace puna {

// Reads the first and the last byte of each tensor, so that the address sanitizer sees a wrong span.
inline void touch_tensors(const std::vector<Tensor>& tensors) {
  for (const Tensor& tensor : tensors) {
    if (static_cast<std::int64_t>(tensor.bytes.size()) != format_bytes(tensor.format, tensor.shape.count())) std::abort();
    if (tensor.bytes.empty()) continue;
    volatile std::byte sink = tensor.bytes.front() ^ tensor.bytes.back();
    static_cast<void>(sink);
  }
}

}  // namespace puna
