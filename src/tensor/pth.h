// SPDX-License-Identifier: Apache-2.0
// PyTorch's .pth files: a zip archive (stored, not deflated) with a pickle stream that describes tensors over raw storages.
// The reader runs the few opcodes such a stream needs and builds tensors; nothing is imported, called or executed, and any other
// global or opcode is refused by name. Tensors of a zip lie in place, so they are memory-mapped.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/tensor.h"

namespace puna {

class PthFile {
 public:
  // Throws kBadInput for a malformed archive or stream, kUnsupported for a legacy (non-zip) file, a compressed member, a
  // non-contiguous tensor or a type that is not in formats().
  explicit PthFile(const std::filesystem::path& path);
  explicit PthFile(std::span<const std::byte> bytes, std::string where = "pth");

  // Named tensors of the (possibly nested) dictionary; nested keys are joined with '.'. Scalars and strings are skipped.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::string& where() const { return where_; }
  const MappedFile* mapping() const { return file_.get(); }

 private:
  void parse(std::span<const std::byte> bytes);

  std::string where_;
  std::unique_ptr<MappedFile> file_;
  std::vector<Tensor> tensors_;
};

struct PthEntry {
  std::string name;
  Format format;  // F32, F16, BF16 or F8E4M3
  Shape shape;
};

// Writes a flat dictionary of tensors that torch.load(weights_only=True) reads. One tensor held at a time; temporary name, rename.
void write_pth(const std::filesystem::path& path, const std::vector<PthEntry>& entries,
               const std::function<std::span<const std::byte>(std::size_t index)>& produce);

}  // namespace puna
