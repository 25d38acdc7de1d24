// SPDX-License-Identifier: Apache-2.0
// Any bytes as the pickle stream of a .pth file, without the archive around it.
#include "base/error.h"
#include "tensor/pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    puna::read_pickle(std::as_bytes(std::span(data, size)), "fuzz");
  } catch (const puna::Error&) {
  }
  return 0;
}
