// SPDX-License-Identifier: Apache-2.0
// Any bytes as a safetensors file: either a typed error or tensors that lie inside the bytes.
#include "base/error.h"
#include "tensor/safetensors.h"
#include "touch_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    puna::touch_tensors(puna::SafetensorsFile(std::as_bytes(std::span(data, size)), "fuzz").tensors());
  } catch (const puna::Error&) {
  }
  return 0;
}
