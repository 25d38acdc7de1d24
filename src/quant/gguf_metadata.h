// SPDX-License-Identifier: Apache-2.0
// The keys of a GGUF file: those of the file the checkpoint came from, or made from its config and tokenizer.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "model/checkpoint.h"
#include "tensor/gguf.h"

namespace puna {

using GgufMetadata = std::vector<std::pair<std::string, GgufWriteValue>>;

// Everything; general.file_type and general.quantization_version are those of the file to be written.
GgufMetadata gguf_metadata(const Checkpoint& in, int file_type);

}  // namespace puna
