// SPDX-License-Identifier: Apache-2.0
// Beginnings that were computed before: a tree of whole pages of the cache, each the continuation of its parent by kPagePositions
// tokens (RadixAttention, Zheng et al., 2024, at the grain of a page). A page is given back when its room is wanted, nobody reads
// it and none continues it; of those, the one that was used longest ago.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/kv_cache.h"
#include "text/token.h"

namespace puna {

class PrefixCache {
 public:
  // The cache outlives it.
  explicit PrefixCache(KvCache& cache);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // What was read with other adapters is another text: each of those, numbered from 0, has a tree of its own.
  // The pages of the longest known beginning of `tokens`, valid until the next call. They count as used now.
  std::span<const std::int32_t> find(std::span<const Token> tokens, int tree = 0);
  // Owns the pages of a sequence that hold `tokens`, as far as these fill them, from now on. Where a beginning is known already,
  // the pages that hold it stay.
  void keep(std::span<const Token> tokens, std::span<const std::int32_t> pages, int tree = 0);
  // Gives pages back until `pages` of the cache are free. False where that cannot be: then as many as could be are.
  bool make_room(std::int64_t pages);

  std::int64_t size() const { return static_cast<std::int64_t>(nodes_.size() - free_nodes_.size()); }  // pages

 private:
  static constexpr std::int32_t kNone = -1;
  static std::int32_t root(int tree) { return -1 - tree; }  // the parent of a tree's first pages
  using PageTokens = std::array<Token, kPagePositions>;
  struct Node {
    PageTokens tokens;
    std::int32_t parent = root(0), page = -1;  // a negative parent is a root; page -1: the node is free
    int children = 0;
    std::uint64_t used = 0;  // the call that used it last
  };
  std::uint64_t key(std::int32_t parent, std::span<const Token> tokens) const;
  std::int32_t child(std::int32_t parent, std::span<const Token> tokens) const;  // kNone: there is none
  void add(std::int32_t parent, std::span<const Token> tokens, std::int32_t page);
  void remove(std::int32_t node);

  KvCache& cache_;
  std::uint64_t seed_;  // of the keys, so that nobody can choose tokens whose keys collide
  std::vector<Node> nodes_;
  std::vector<std::int32_t> free_nodes_;
  std::unordered_multimap<std::uint64_t, std::int32_t> by_key_;
  std::vector<std::int32_t> found_;
  std::uint64_t calls_ = 0;
};

}  // namespace puna
