// SPDX-License-Identifier: Apache-2.0
#include "text/bpe_merges.h"

#include <algorithm>
#include <bit>

namespace puna {
namespace {

constexpr std::size_t kShortPiece = 48;  // above it the heap wins over scanning

// A symbol of a long piece: a node of a doubly linked list that lies in an array by first byte.
struct Node {
  std::uint32_t id;
  std::int32_t previous, next;  // -1 at the ends
};

// A pair that may be joined. It is stale when either side has changed since: the ids then differ.
struct BpeCandidate {
  std::uint32_t rank;
  std::int32_t left;
  std::uint32_t left_id, right_id;

  // std::push_heap keeps the largest on top, so "smaller" means "joined later".
  bool operator<(const BpeCandidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
};

}  // namespace

BpeMerges::BpeMerges(const std::array<std::uint32_t, 256>& byte_ids, std::size_t expected_rules)
    : byte_ids_(byte_ids), slots_(std::bit_ceil(2 * expected_rules + 2), kFree), byte_pair_rank_(256 * 256, kNone) {
  shift_ = 64 - std::countr_zero(slots_.size());
  merged_.reserve(expected_rules);
}

void BpeMerges::add(std::uint32_t left, std::uint32_t right, std::uint32_t merged) {
  const std::uint64_t key = pair_key(left, right);
  const auto next_rank = static_cast<std::uint32_t>(merged_.size());
  merged_.push_back(merged);
  std::size_t at = home(key);
  for (; slots_[at] != kFree; at = (at + 1) & (slots_.size() - 1)) {
    if ((slots_[at] >> 24) == key) return;
  }
  slots_[at] = (key << 24) | next_rank;
}

void BpeMerges::finish() {
  for (std::size_t left = 0; left < 256; ++left) {
    for (std::size_t right = 0; right < 256; ++right) byte_pair_rank_[left * 256 + right] = rank(byte_ids_[left], byte_ids_[right]);
  }
}

void BpeMerges::encode(std::string_view piece, std::vector<Token>& tokens) const {
  if (piece.size() <= kShortPiece) return encode_short(piece, tokens);
  encode_long(piece, tokens);
}

void BpeMerges::encode_short(std::string_view piece, std::vector<Token>& tokens) const {
  std::uint32_t ids[kShortPiece];    // [count]
  std::uint32_t ranks[kShortPiece];  // [count - 1] of the pair (i, i + 1)
  std::size_t count = piece.size();
  const auto* bytes = reinterpret_cast<const unsigned char*>(piece.data());
  for (std::size_t i = 0; i < count; ++i) ids[i] = byte_ids_[bytes[i]];
  for (std::size_t i = 0; i + 1 < count; ++i) ranks[i] = byte_pair_rank_[bytes[i] * 256u + bytes[i + 1]];
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) best = ranks[i] < ranks[best] ? i : best;
    if (ranks[best] == kNone) break;
    ids[best] = merged_[ranks[best]];
    std::copy(ids + best + 2, ids + count, ids + best + 1);
    if (best + 2 < count) std::copy(ranks + best + 1, ranks + count - 1, ranks + best);
    --count;
    if (best + 1 < count) ranks[best] = rank(ids[best], ids[best + 1]);
    if (best > 0) ranks[best - 1] = rank(ids[best - 1], ids[best]);
  }
  for (std::size_t i = 0; i < count; ++i) tokens.push_back(static_cast<Token>(ids[i]));
}

void BpeMerges::encode_long(std::string_view piece, std::vector<Token>& tokens) const {
  const auto count = static_cast<std::int32_t>(piece.size());
  std::vector<Node> nodes(piece.size());
  std::vector<BpeCandidate> heap;
  heap.reserve(piece.size());
  const auto consider = [&](std::int32_t left) {
    const std::int32_t right = left < 0 ? -1 : nodes[static_cast<std::size_t>(left)].next;
    if (right < 0) return;
    const std::uint32_t left_id = nodes[static_cast<std::size_t>(left)].id, right_id = nodes[static_cast<std::size_t>(right)].id;
    const std::uint32_t pair_rank = rank(left_id, right_id);
    if (pair_rank == kNone) return;
    heap.push_back({pair_rank, left, left_id, right_id});
    std::push_heap(heap.begin(), heap.end());
  };
  for (std::int32_t i = 0; i < count; ++i) {
    nodes[static_cast<std::size_t>(i)] = {byte_ids_[static_cast<unsigned char>(piece[static_cast<std::size_t>(i)])], i - 1,
                                          i + 1 < count ? i + 1 : -1};
  }
  for (std::int32_t i = 0; i < count; ++i) consider(i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const BpeCandidate top = heap.back();
    heap.pop_back();
    Node& left = nodes[static_cast<std::size_t>(top.left)];
    if (left.id != top.left_id || left.next < 0) continue;
    Node& right = nodes[static_cast<std::size_t>(left.next)];
    if (right.id != top.right_id) continue;
    left.id = merged_[top.rank];
    right.id = kNone;  // no longer a symbol: every candidate that begins here is stale
    left.next = right.next;
    if (right.next >= 0) nodes[static_cast<std::size_t>(right.next)].previous = top.left;
    consider(top.left);
    consider(left.previous);
  }
  for (std::int32_t at = 0; at >= 0; at = nodes[static_cast<std::size_t>(at)].next) {
    tokens.push_back(static_cast<Token>(nodes[static_cast<std::size_t>(at)].id));
  }
}

}  // namespace puna
