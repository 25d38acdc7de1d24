// SPDX-License-Identifier: Apache-2.0
// safetensors: an 8-byte little-endian header length, a JSON header, then the tensors' bytes. Memory-mapped; and a writer.
// Format: https://github.com/huggingface/safetensors. Offsets must lie inside the file, match shape × type, and not overlap.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/tensor.h"

namespace puna {

class SafetensorsFile {
 public:
  // Throws kBadInput with the place and the figures for anything malformed, kUnsupported for a type that is not in formats().
  explicit SafetensorsFile(const std::filesystem::path& path);
  explicit SafetensorsFile(std::span<const std::byte> bytes, std::string where = "safetensors");

  const std::vector<Tensor>& tensors() const { return tensors_; }  // by ascending offset
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& where() const { return where_; }
  const MappedFile* mapping() const { return file_.get(); }

 private:
  void parse(std::span<const std::byte> bytes);

  std::string where_;
  std::unique_ptr<MappedFile> file_;
  std::map<std::string, std::string> metadata_;
  std::vector<Tensor> tensors_;
};

struct SafetensorsEntry {
  std::string name;
  Format format;  // F32, F16, BF16 or F8E4M3
  Shape shape;
};

// As write_gguf: one tensor held at a time, temporary name, sync, rename.
void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& entries,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<std::span<const std::byte>(std::size_t index)>& produce);

}  // namespace puna
