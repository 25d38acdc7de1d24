// SPDX-License-Identifier: Apache-2.0
// What a checkpoint holds beside the model's own files, so that a run continues bit for bit: named byte ranges (optimizer states,
// averages, F32 masters where the model's files are rounded) in training_state.bin, and the trainer's place in training_state.json.
// training_state.bin: "PUNASTAT", the header's length (u64, little-endian), a JSON header {name: [offset, bytes], …}, the bytes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "kernels/device.h"

namespace puna {

struct NamedBytes {
  std::string name;
  std::span<std::byte> bytes;
  const Device* device = nullptr;  // whose memory it is; nullptr: the host's
};

void write_training_state(const std::filesystem::path& folder, const std::vector<NamedBytes>& states, const Json& place);

// Fills every range from the folder and returns the trainer's place. Throws kBadInput where a name is missing or has another
// length: the checkpoint is then of another recipe.
Json read_training_state(const std::filesystem::path& folder, const std::vector<NamedBytes>& states);

}  // namespace puna
