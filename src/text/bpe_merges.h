// SPDX-License-Identifier: Apache-2.0
// The merge step of byte-pair encoding: while some neighbouring pair has a rule, join the pair whose rule has the lowest rank, the
// leftmost of equals. Short pieces are scanned; long ones go through a heap, so a megabyte of one letter takes n log n steps.
// (Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016.)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/token.h"

namespace puna {

class BpeMerges {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFFu;
  static constexpr std::uint32_t kMaxIds = (1u << 20) - 1;    // ids are packed into 20 bits,
  static constexpr std::uint32_t kMaxRules = (1u << 24) - 1;  // ranks into 24

  BpeMerges() = default;
  // `byte_ids`: the token of each single byte. `expected_rules`: how many add() calls will follow.
  BpeMerges(const std::array<std::uint32_t, 256>& byte_ids, std::size_t expected_rules);

  // The next rule in rank order: left followed by right becomes merged. A pair that has a rule already keeps its first one.
  void add(std::uint32_t left, std::uint32_t right, std::uint32_t merged);
  // After the last add().
  void finish();

  // Calls visit(rank, left, right, merged) for every rule that add() kept, in no order.
  template <typename Visit>
  void visit_rules(Visit&& visit) const {
    constexpr std::uint64_t kIdMask = (1u << 20) - 1;
    for (const std::uint64_t slot : slots_) {
      if (slot == kFree) continue;
      const auto rank = static_cast<std::uint32_t>(slot & kMaxRules);
      visit(rank, static_cast<std::uint32_t>(slot >> 44), static_cast<std::uint32_t>((slot >> 24) & kIdMask), merged_[rank]);
    }
  }

  // Appends the tokens of a piece of at least one byte.
  void encode(std::string_view piece, std::vector<Token>& tokens) const;

 private:
  static constexpr std::uint64_t kFree = ~0ull;

  static std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) {
    return (static_cast<std::uint64_t>(left) << 20) | right;
  }
  std::size_t home(std::uint64_t key) const { return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> shift_); }
  std::uint32_t rank(std::uint32_t left, std::uint32_t right) const {
    const std::uint64_t key = pair_key(left, right);
    for (std::size_t at = home(key);; at = (at + 1) & (slots_.size() - 1)) {
      if ((slots_[at] >> 24) == key) return static_cast<std::uint32_t>(slots_[at] & kMaxRules);
      if (slots_[at] == kFree) return kNone;
    }
  }
  void encode_short(std::string_view piece, std::vector<Token>& tokens) const;
  void encode_long(std::string_view piece, std::vector<Token>& tokens) const;

  std::array<std::uint32_t, 256> byte_ids_{};
  std::vector<std::uint64_t> slots_;           // pair_key << 24 | rank; a power of two, at most half full
  std::vector<std::uint32_t> merged_;          // [rules] what each rank makes
  std::vector<std::uint32_t> byte_pair_rank_;  // [256 * 256] rank of two single bytes: where every piece begins
  int shift_ = 63;
};

}  // namespace puna
