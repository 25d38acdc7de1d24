// SPDX-License-Identifier: Apache-2.0
// config.json and params.json: whatever the bytes, a config that passes its checks or an Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "model/checkpoint_reading.h"

namespace {

template <typename Read>
void survive(Read&& read) {
  try {
    const puna::ModelConfig config = read();
    if (config.parameters() < 0 || puna::rope_frequencies(config).empty()) std::abort();
  } catch (const puna::Error& error) {
    if (error.kind() == puna::ErrorKind::kInternal) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  survive([&] { return puna::parse_hugging_face_config(text, "config.json").model; });
  survive([&] { return puna::parse_meta_params(text, "params.json"); });
  return 0;
}
