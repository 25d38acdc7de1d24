// SPDX-License-Identifier: Apache-2.0
// What the three readers share: configs out of bytes, tensors into roles, and the last steps every checkpoint goes through.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "model/checkpoint.h"
#include "model/config.h"
#include "model/weights.h"
#include "tensor/gguf.h"
#include "text/tokenizer.h"

namespace puna {

std::shared_ptr<Checkpoint> open_gguf_checkpoint(const std::filesystem::path& path);
std::shared_ptr<Checkpoint> open_built_in_checkpoint();
std::shared_ptr<Checkpoint> open_hugging_face_checkpoint(const std::filesystem::path& folder);
std::shared_ptr<Checkpoint> open_meta_checkpoint(const std::filesystem::path& folder);

// config.json of a Hugging Face folder. Throws kBadInput, kUnsupported.
struct HuggingFaceConfig {
  ModelConfig model;
  bool fp8 = false;  // E4M3 matrices with `weight_scale` beside them may occur
};
HuggingFaceConfig parse_hugging_face_config(std::string_view json, const std::string& where);

// params.json of a Meta folder. Figures that only the tensors know are 0: the vocabulary (written -1 by Llama 2) and, without
// multiple_of, the feed-forward width.
ModelConfig parse_meta_params(std::string_view json, const std::string& where);

// The llama.* keys, and what the tensors (of all parts of a split set) add: rope_freqs.weight, and the vocabulary of old files.
ModelConfig gguf_config(const GgufFile& file, std::span<const Tensor> tensors);

// The tokenizer.ggml.* keys; nullptr where the file has none.
std::unique_ptr<Tokenizer> gguf_tokenizer(const GgufFile& file);

// Puts `tensor` where its name says. Throws kBadInput for a name that occurs twice or belongs to a layer beyond the config's.
void place_tensor(Checkpoint& checkpoint, const WeightSlot& slot, const Tensor& tensor, const std::string& where);

// Throws kUnsupported: a tensor that no Llama network of this kind has (a bias, an expert) would change the result if left out.
[[noreturn]] void refuse_tensor(const std::string& name, const std::string& where);

// Ties the output, checks every weight, counts bytes and picks the prompt format. `template_source` names where the chat template
// came from.
void finish_checkpoint(Checkpoint& checkpoint, NameColumn names, const std::string& template_source);

// The tokenizer of a folder, or nullptr.
std::unique_ptr<Tokenizer> open_folder_tokenizer(const std::filesystem::path& folder);

// A text file of at most 64 MB.
std::string read_text_file(const std::filesystem::path& path);

// Throws kBadInput for a Git LFS pointer that stands where the file itself should be.
void refuse_pointer_file(const std::filesystem::path& path);

// The folder's name; for a Hugging Face cache "organisation/name".
std::string folder_name(const std::filesystem::path& folder);

}  // namespace puna
