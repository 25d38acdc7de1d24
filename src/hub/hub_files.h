// SPDX-License-Identifier: Apache-2.0
// Which of a repository's files a pull takes. Pure: names in, names out.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace puna {

struct FileChoice {
  std::vector<std::string> include;  // shell patterns over the whole path ("*.gguf"); * crosses slashes
  std::string quantization;          // "Q4_K_M": the GGUF files with this word in their name
};

// With patterns: the files that match one. Without: weights in safetensors with the json and tokenizer files beside them; else one
// GGUF model (all parts of a split one); else Meta's consolidated.*.pth with params.json and tokenizer.model.
// `repository` is for messages. Throws kUsage listing the files where a GGUF repository leaves a choice, kNotFound where nothing
// matches, kUnsupported where there are only weights that nothing here reads.
std::vector<std::string> choose_files(std::span<const std::string> files, const FileChoice& choice, const std::string& repository);

// The GGUF files among `files` grouped into models: the parts "-00001-of-00003" of one model are one group, in order.
std::vector<std::vector<std::string>> gguf_models(std::span<const std::string> files);
// True where `quantization` stands in the file's name as a word of its own, whatever its case: Q4_K is not in Q4_K_M.
bool names_quantization(std::string_view file, std::string_view quantization);

}  // namespace puna
