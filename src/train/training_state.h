// SPDX-License-Identifier: Apache-2.0
// What a checkpoint holds beside the model's own files, so that a run continues bit for bit: named byte ranges (optimizer states,
// averages, F32 masters where the model's files are rounded) in training_state.bin, and the trainer's place in training_state.json.
// training_state.bin: "PUNASTAT", the header's length (u64, little-endian), a JSON header {name: [offset, bytes], …}, the bytes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/ranked_bytes.h"

namespace puna {

struct NamedBytes {
  std::string name;
  RankedBytes bytes;  // written whole: as one device has them
};

void write_training_state(const std::filesystem::path& folder, const std::vector<NamedBytes>& states, const Json& place);

// Fills every range from the folder and returns the trainer's place. Throws kBadInput where a name is missing or has another
// length: the checkpoint is then of another recipe, or of another number of devices where moments are in 8 bits.
Json read_training_state(const std::filesystem::path& folder, const std::vector<NamedBytes>& states);

}  // namespace puna
