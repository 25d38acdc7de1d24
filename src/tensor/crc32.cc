// SPDX-License-Identifier: Apache-2.0
#include "tensor/crc32.h"

#include <array>
#include <bit>
#include <cstring>

static_assert(std::endian::native == std::endian::little, "eight bytes are folded in as one little-endian word");

namespace puna {
namespace {

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// tables[k][b]: the remainder of byte b followed by k zero bytes.
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = remainder >> 1 ^ (remainder & 1 ? 0xedb88320u : 0);
    tables[0][byte] = remainder;
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = before >> 8 ^ tables[0][before & 255];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes) {
  std::uint32_t remainder = 0xffffffffu;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof(word));
    word ^= remainder;
    remainder = 0;
    for (std::size_t k = 0; k < 8; ++k) remainder ^= kTables[7 - k][word >> (8 * k) & 255];
  }
  for (const std::byte byte : bytes) remainder = remainder >> 8 ^ kTables[0][(remainder ^ static_cast<std::uint32_t>(byte)) & 255];
  return ~remainder;
}

}  // namespace puna
