// SPDX-License-Identifier: Apache-2.0
// The pickle stream of torch.save, protocol 2, read as data: a small stack machine that knows numbers, strings, containers and the
// handful of names that describe tensors. Nothing is imported or called; any other name or opcode is refused by name.
// Opcodes: CPython's Lib/pickletools.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/format.h"

namespace puna {

// A run of numbers in a member `<archive>/data/<key>`.
struct PickledStorage {
  std::string_view key;          // points into the stream
  std::string_view type;         // "FloatStorage"
  std::optional<Format> format;  // nullopt for bytes, whose type the tensor states, and for types that are not in formats()
  std::uint64_t count = 0;       // elements; bytes in an untyped storage
};

struct PickledTensor {
  std::string name;  // dictionary keys joined with '.'
  PickledStorage storage;
  std::string_view type;         // what an unsupported type is called
  std::optional<Format> format;  // nullopt where the type is not in formats()
  std::uint64_t offset = 0;      // elements into the storage
  std::vector<std::uint64_t> dims, strides;
};

// Every tensor of the (possibly nested) dictionary that the stream builds. Numbers, strings and empty values are skipped.
// Throws kBadInput for a damaged stream and for any name that is not on the list, kUnsupported for another protocol.
std::vector<PickledTensor> read_pickle(std::span<const std::byte> stream, const std::string& where);

}  // namespace puna
