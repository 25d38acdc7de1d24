// SPDX-License-Identifier: Apache-2.0
// Numbers in files of our own, which are little-endian and not aligned, and token ids of 2 or 4 bytes among them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "text/token.h"

namespace puna {

static_assert(std::endian::native == std::endian::little, "files are read as they lie");

template <typename T>
T read_number(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

template <typename T>
void append_number(std::vector<std::byte>& to, T value) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), bytes, bytes + sizeof(value));
}

// Bytes of an id where every id is below `vocabulary`.
inline std::int64_t id_width(std::int64_t vocabulary) { return vocabulary <= 65536 ? 2 : 4; }

inline std::uint32_t read_id(const std::byte* ids, std::int64_t index, std::int64_t width) {
  return width == 2 ? read_number<std::uint16_t>(ids + index * 2) : read_number<std::uint32_t>(ids + index * 4);
}

inline void append_id(std::vector<std::byte>& to, std::int32_t id, std::int64_t width) {
  if (width == 2) {
    append_number(to, static_cast<std::uint16_t>(id));
  } else {
    append_number(to, static_cast<std::uint32_t>(id));
  }
}

}  // namespace puna
