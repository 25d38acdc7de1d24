// SPDX-License-Identifier: Apache-2.0
// The byte strings of a vocabulary, by id and back. Pieces of up to seven bytes (most of a text) are found by one probe of a table
// that holds them inline; longer ones through a 32-bit tag and a comparison.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace puna {

class PieceTable {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFFu;

  PieceTable() = default;
  // Room for ids 0 .. size-1.
  explicit PieceTable(std::size_t size);

  // Gives `id` (each once) its bytes. Only where `findable` are they looked up by find(). False when another id has them already.
  bool add(std::uint32_t id, std::string_view bytes, bool findable = true);

  std::uint32_t find(std::string_view bytes) const {
    if (bytes.size() - 1 < kShort) return find_short(short_key(bytes));
    if (bytes.empty() || bytes.size() > longest_) return kNone;
    return find_long(bytes);
  }
  std::string_view bytes(std::uint32_t id) const { return std::string_view(text_).substr(ranges_[id].offset, ranges_[id].size); }

  std::size_t size() const { return ranges_.size(); }
  std::size_t longest() const { return longest_; }

 private:
  static constexpr std::size_t kShort = 7;

  struct Range {
    std::uint32_t offset = 0, size = 0;
  };
  struct ShortSlot {
    std::uint64_t key = 0;  // bytes below, length in the top byte: 0 is a free slot
    std::uint32_t id = kNone;
  };
  struct LongSlot {
    std::uint32_t tag = 0;
    std::uint32_t id = kNone;
  };

  static std::uint64_t short_key(std::string_view bytes) {
    const std::size_t n = bytes.size();
    const char* p = bytes.data();
    std::uint64_t low = 0;
    if (n >= 4) {  // two overlapping loads instead of a copy of unknown length
      std::uint32_t head, tail;
      std::memcpy(&head, p, 4);
      std::memcpy(&tail, p + n - 4, 4);
      low = head | (static_cast<std::uint64_t>(tail) << (8 * (n - 4)));
    } else {
      low = static_cast<unsigned char>(p[0]);
      low |= static_cast<std::uint64_t>(static_cast<unsigned char>(p[n / 2])) << (8 * (n / 2));
      low |= static_cast<std::uint64_t>(static_cast<unsigned char>(p[n - 1])) << (8 * (n - 1));
    }
    return low | (static_cast<std::uint64_t>(n) << 56);
  }
  static std::uint64_t mix(std::uint64_t value) {
    const auto product = static_cast<unsigned __int128>(value) * 0x9E3779B97F4A7C15u;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
  static std::uint64_t hash_long(std::string_view bytes);

  std::uint32_t find_short(std::uint64_t key) const {
    if (short_.empty()) return kNone;
    for (std::size_t at = mix(key) & (short_.size() - 1);; at = (at + 1) & (short_.size() - 1)) {
      if (short_[at].key == key) return short_[at].id;
      if (short_[at].key == 0) return kNone;
    }
  }
  std::uint32_t find_long(std::string_view bytes) const;

  std::vector<Range> ranges_;     // [size]
  std::string text_;              // all pieces, one after another
  std::vector<ShortSlot> short_;  // powers of two, at most half full
  std::vector<LongSlot> long_;
  std::size_t longest_ = 0;
};

}  // namespace puna
