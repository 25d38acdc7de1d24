// SPDX-License-Identifier: Apache-2.0
#include "text/piece_table.h"

#include <bit>

namespace puna {

PieceTable::PieceTable(std::size_t size) : ranges_(size), short_(std::bit_ceil(2 * size + 2)), long_(std::bit_ceil(2 * size + 2)) {
  text_.reserve(8 * size);
}

std::uint64_t PieceTable::hash_long(std::string_view bytes) {
  std::uint64_t hash = bytes.size();
  std::uint64_t word = 0;
  std::size_t at = 0;
  for (; at + sizeof(word) <= bytes.size(); at += sizeof(word)) {
    std::memcpy(&word, bytes.data() + at, sizeof(word));
    hash = mix(hash ^ word) + 0x2545F4914F6CDD1Du;
  }
  std::memcpy(&word, bytes.data() + bytes.size() - sizeof(word), sizeof(word));  // the last eight bytes, some of them again
  return mix(hash ^ word);
}

std::uint32_t PieceTable::find_long(std::string_view bytes) const {
  const std::uint64_t hash = hash_long(bytes);
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  for (std::size_t at = hash & (long_.size() - 1); long_[at].id != kNone; at = (at + 1) & (long_.size() - 1)) {
    if (long_[at].tag == tag && this->bytes(long_[at].id) == bytes) return long_[at].id;
  }
  return kNone;
}

bool PieceTable::add(std::uint32_t id, std::string_view bytes, bool findable) {
  ranges_[id] = {static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(bytes.size())};
  text_.append(bytes);
  if (!findable) return true;
  if (bytes.empty() || find(bytes) != kNone) return false;
  if (bytes.size() > longest_) longest_ = bytes.size();
  if (bytes.size() <= kShort) {
    const std::uint64_t key = short_key(bytes);
    std::size_t at = mix(key) & (short_.size() - 1);
    while (short_[at].key != 0) at = (at + 1) & (short_.size() - 1);
    short_[at] = {key, id};
  } else {
    const std::uint64_t hash = hash_long(bytes);
    std::size_t at = hash & (long_.size() - 1);
    while (long_[at].id != kNone) at = (at + 1) & (long_.size() - 1);
    long_[at] = {static_cast<std::uint32_t>(hash >> 32), id};
  }
  return true;
}

}  // namespace puna
