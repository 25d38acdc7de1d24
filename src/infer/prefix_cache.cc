// SPDX-License-Identifier: Apache-2.0
#include "infer/prefix_cache.h"

#include <algorithm>
#include <random>

namespace puna {

PrefixCache::PrefixCache(KvCache& cache) : cache_(cache), seed_(std::random_device{}()) {
  seed_ = seed_ << 32 | std::random_device{}();
}

PrefixCache::~PrefixCache() {
  for (const Node& node : nodes_) {
    if (node.page >= 0) cache_.release(node.page);
  }
}

// A multiply and a shift for every token (the finaliser of SplitMix64): collisions cost a comparison, nothing else.
std::uint64_t PrefixCache::key(std::int32_t parent, std::span<const Token> tokens) const {
  std::uint64_t hash = seed_ ^ static_cast<std::uint32_t>(parent);
  for (const Token token : tokens) {
    hash = (hash ^ static_cast<std::uint32_t>(id(token))) * 0xBF58476D1CE4E5B9;
    hash ^= hash >> 31;
  }
  return hash;
}

std::int32_t PrefixCache::child(std::int32_t parent, std::span<const Token> tokens) const {
  const auto [begin, end] = by_key_.equal_range(key(parent, tokens));
  for (auto at = begin; at != end; ++at) {
    const Node& node = nodes_[static_cast<std::size_t>(at->second)];
    if (node.parent == parent && std::ranges::equal(node.tokens, tokens)) return at->second;
  }
  return kNone;
}

std::span<const std::int32_t> PrefixCache::find(std::span<const Token> tokens, int tree) {
  ++calls_;
  found_.clear();
  std::int32_t at = root(tree);
  for (; tokens.size() >= kPagePositions; tokens = tokens.subspan(kPagePositions)) {
    at = child(at, tokens.first(kPagePositions));
    if (at == kNone) break;
    Node& node = nodes_[static_cast<std::size_t>(at)];
    node.used = calls_;
    found_.push_back(node.page);
  }
  return found_;
}

void PrefixCache::keep(std::span<const Token> tokens, std::span<const std::int32_t> pages, int tree) {
  ++calls_;
  std::int32_t parent = root(tree);
  for (const std::int32_t page : pages) {
    if (tokens.size() < kPagePositions) return;
    const std::span<const Token> own = tokens.first(kPagePositions);
    if (child(parent, own) == kNone) add(parent, own, page);
    parent = child(parent, own);
    nodes_[static_cast<std::size_t>(parent)].used = calls_;
    tokens = tokens.subspan(kPagePositions);
  }
}

void PrefixCache::add(std::int32_t parent, std::span<const Token> tokens, std::int32_t page) {
  if (free_nodes_.empty()) {
    free_nodes_.push_back(static_cast<std::int32_t>(nodes_.size()));
    nodes_.emplace_back();
  }
  const std::int32_t index = free_nodes_.back();
  free_nodes_.pop_back();
  Node& node = nodes_[static_cast<std::size_t>(index)];
  std::ranges::copy(tokens, node.tokens.begin());
  node.parent = parent;
  node.page = page;
  node.children = 0;
  if (parent >= 0) ++nodes_[static_cast<std::size_t>(parent)].children;
  cache_.hold(page);
  by_key_.emplace(key(parent, tokens), index);
}

void PrefixCache::remove(std::int32_t index) {
  Node& node = nodes_[static_cast<std::size_t>(index)];
  const auto [begin, end] = by_key_.equal_range(key(node.parent, node.tokens));
  by_key_.erase(std::find_if(begin, end, [&](const auto& entry) { return entry.second == index; }));
  if (node.parent >= 0) --nodes_[static_cast<std::size_t>(node.parent)].children;
  cache_.release(node.page);
  node.page = -1;
  free_nodes_.push_back(index);
}

// A scan for each page: some thousand nodes, where the step that asks for the page reads every weight of a model.
bool PrefixCache::make_room(std::int64_t pages) {
  while (cache_.free_pages() < pages) {
    std::int32_t oldest = kNone;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      const Node& node = nodes_[i];
      if (node.page < 0 || node.children > 0 || cache_.owners(node.page) > 1) continue;
      if (oldest == kNone || node.used < nodes_[static_cast<std::size_t>(oldest)].used) oldest = static_cast<std::int32_t>(i);
    }
    if (oldest == kNone) return false;
    remove(oldest);
  }
  return true;
}

}  // namespace puna
