// SPDX-License-Identifier: Apache-2.0
// The tokenizer's files of a checkpoint folder: copied where the source has them in the same form, else written from the
// vocabulary.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/checkpoint.h"

namespace puna {

// tokenizer.json or tokenizer.model, tokenizer_config.json with the chat template, generation_config.json.
// Appends to `notes` what could not be carried over.
void write_hugging_face_tokenizer(const std::filesystem::path& folder, const Checkpoint& in, std::vector<std::string>& notes);

// tokenizer.model: tiktoken ranks for byte-level BPE, else a SentencePiece model.
void write_meta_tokenizer(const std::filesystem::path& folder, const Checkpoint& in, std::vector<std::string>& notes);

}  // namespace puna
