// SPDX-License-Identifier: Apache-2.0
// GGUF files, versions 2 and 3, little-endian: typed metadata and tensors, memory-mapped; and a writer (version 3).
// In a file the fastest dimension comes first; a Shape here has it last. Specification: ggml/docs/gguf.md.
// Every count, length and offset is checked against the file before anything is allocated.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/tensor.h"

namespace puna {

// An array value. All integers widen to int64 (or uint64 above its range is refused), floats to double.
using GgufArray = std::variant<std::vector<std::int64_t>, std::vector<double>, std::vector<bool>, std::vector<std::string_view>>;
using GgufValue = std::variant<std::int64_t, std::uint64_t, double, bool, std::string_view, GgufArray>;

class GgufFile {
 public:
  // Throws kBadInput with the place and the figures for anything malformed.
  explicit GgufFile(const std::filesystem::path& path);
  explicit GgufFile(std::span<const std::byte> bytes, std::string where = "gguf");  // bytes outlive this

  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }  // in file order
  const std::string& where() const { return where_; }              // the file's name for messages
  const MappedFile* mapping() const { return file_.get(); }

  // The value of a key; throws kBadInput where it is missing or of another type. Integers of every width convert.
  std::int64_t integer(std::string_view key) const;
  double real(std::string_view key) const;
  std::string_view string(std::string_view key) const;
  std::optional<std::int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_real(std::string_view key) const;
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string_view> find_string(std::string_view key) const;
  const GgufArray* find_array(std::string_view key) const;

 private:
  void parse(std::span<const std::byte> bytes);

  std::string where_;
  std::unique_ptr<MappedFile> file_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<Tensor> tensors_;
};

// What is written with its exact GGUF type (readers of other programs insist on some widths).
struct GgufScalar {
  enum class Type : std::uint32_t { kU8 = 0, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };
  Type type;
  std::variant<std::int64_t, double, std::string> value;
};
using GgufWriteValue = std::variant<GgufScalar, std::vector<std::string>, std::vector<std::int32_t>, std::vector<float>>;

struct GgufPlan {
  struct Entry {
    std::string name;
    Format format;
    Shape shape;
  };
  std::vector<std::pair<std::string, GgufWriteValue>> metadata;
  std::vector<Entry> tensors;
};

// Writes a file: the header first, then each tensor's bytes as `produce(index)` returns them, in order (so one tensor is held at a
// time). Written to a temporary name beside `path`, synced and renamed; an exception leaves no file behind.
void write_gguf(const std::filesystem::path& path, const GgufPlan& plan,
                const std::function<std::span<const std::byte>(std::size_t index)>& produce);

}  // namespace puna
