// SPDX-License-Identifier: Apache-2.0
#include "grammar/constraint.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

constexpr int kAnyNumber = VocabularyIndex::kLongestGroup + 1'000'000;
constexpr std::int64_t kWork = 10'000'000;  // states that one mask or one token may take: a second at most
constexpr std::size_t kFewPositions = 64;   // between two characters; where there are more, tokens are tried one by one

void allow(TokenMask& mask, std::int32_t token) { mask[static_cast<std::size_t>(token) / 32] |= 1u << (token % 32); }
void forbid(TokenMask& mask, std::int32_t token) { mask[static_cast<std::size_t>(token) / 32] &= ~(1u << (token % 32)); }
bool allows(const TokenMask& mask, std::int32_t token) {
  return (mask[static_cast<std::size_t>(token) / 32] >> (token % 32) & 1u) != 0;
}

}  // namespace

Constraint::Constraint(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const VocabularyIndex> vocabulary,
                       std::size_t max_memory)
    : vocabulary_(std::move(vocabulary)),
      automaton_(std::move(grammar), vocabulary_->longest()),
      max_memory_(max_memory),
      position_(automaton_.start()) {
  list_class_steps();
  path_.resize(vocabulary_->longest() + 1);
  restart();
}

// Bytes that the grammar does not tell apart are tried once.
void Constraint::list_class_steps() {
  for (std::size_t c = 0; c < class_steps_.size(); ++c) {
    const CharClassAutomaton& automaton = vocabulary_->classes()[c];
    for (const auto& next : automaton.next) {
      std::vector<ClassStep>& steps = class_steps_[c].emplace_back();
      for (int byte = 0; byte < 256; ++byte) {
        const std::uint8_t to = next[static_cast<std::size_t>(byte)];
        if (to == CharClassAutomaton::kStop) continue;
        const auto& classes = automaton_.grammar().byte_class;
        const bool known = std::any_of(steps.begin(), steps.end(), [&](const ClassStep& step) {
          return step.next == to && classes[step.byte] == classes[static_cast<std::size_t>(byte)];
        });
        if (!known) steps.push_back({static_cast<std::uint8_t>(byte), to});
      }
    }
  }
}

void Constraint::restart(std::span<const Token> stop_tokens) {
  position_ = automaton_.start();
  ended_ = false;
  stop_tokens_ = vocabulary_->end_tokens();
  stop_tokens_.insert(stop_tokens_.end(), stop_tokens.begin(), stop_tokens.end());
}

bool Constraint::is_stop(Token token) const { return std::ranges::count(stop_tokens_, token) > 0; }

void Constraint::forget_when_full() {
  const std::size_t bytes = masks_.size() * vocabulary_->words() * sizeof(std::uint32_t);
  if (bytes < max_memory_ && automaton_.bytes() < max_memory_) return;
  masks_.clear();
  position_ = automaton_.forget_others(position_);
}

std::span<const std::uint32_t> Constraint::mask() {
  forget_when_full();
  automaton_.allow_work(kWork);
  if (ended_) {
    mask_.assign(vocabulary_->words(), 0);
  } else {
    mask_ = mask_of(automaton_.within_reach(position_));
  }
  const bool may_stop = may_end();
  for (const Token token : stop_tokens_) {
    if (id(token) < 0 || id(token) >= vocabulary_->size()) continue;
    if (may_stop) {
      allow(mask_, id(token));
    } else {
      forbid(mask_, id(token));
    }
  }
  return mask_;
}

bool Constraint::advance(Token token) {
  if (is_stop(token)) {
    if (!may_end()) return false;
    ended_ = true;
    return true;
  }
  const std::string_view bytes = vocabulary_->bytes(token);
  if (ended_ || bytes.empty()) return false;
  automaton_.allow_work(kWork);
  Position next = position_;
  for (const char byte : bytes) next = automaton_.step(next, static_cast<std::uint8_t>(byte));
  if (next == kNowhere) return false;
  position_ = next;
  return true;
}

// Tokens whose bytes the grammar can read from here.
const TokenMask& Constraint::mask_of(Position position) {
  const auto [known, fresh] = masks_.try_emplace(position);
  TokenMask& mask = known->second;
  if (!fresh) return mask;
  try {
    mask.assign(vocabulary_->words(), 0);
    std::array<int, VocabularyIndex::kClasses> free{};
    for (std::size_t c = free.size(); c-- > 0;) {  // what the larger class may do, the smaller one may too
      if (c + 1 < free.size()) free[c] = free[c + 1];
      if (free[c] < kAnyNumber) free[c] = std::max(free[c], chars_that_may_follow(position, c));
    }
    for (const TokenGroup& group : vocabulary_->groups()) {
      if (group.char_class >= 0 && group.chars <= free[static_cast<std::size_t>(group.char_class)]) {
        for (std::size_t i = 0; i < mask.size(); ++i) mask[i] |= group.mask[i];
      } else {
        try_tokens(position, group, mask);
      }
    }
  } catch (...) {
    masks_.erase(known);
    throw;
  }
  for (const auto& [twin, token] : vocabulary_->twins()) {
    if (allows(mask, token)) allow(mask, twin);
  }
  return mask;
}

// n, where any n characters of the class may follow, whatever they are; kAnyNumber where so may any number.
int Constraint::chars_that_may_follow(Position position, std::size_t char_class) {
  std::vector<Position> between = {position}, seen = {position};
  for (int chars = 0; chars < VocabularyIndex::kLongestGroup; ++chars) {
    if (!next_characters(char_class, between)) return chars;
    std::erase_if(between, [&](Position p) { return std::ranges::count(seen, p) > 0; });
    if (between.empty()) return kAnyNumber;
    seen.insert(seen.end(), between.begin(), between.end());
    if (seen.size() > kFewPositions) return chars + 1;
  }
  return VocabularyIndex::kLongestGroup;
}

// Goes from each position to those behind any one character of the class. False where some character may not follow.
bool Constraint::next_characters(std::size_t char_class, std::vector<Position>& between) {
  const auto& steps = class_steps_[char_class];
  std::vector<std::pair<Position, std::uint8_t>> inside;  // a position, and the class's state there
  for (const Position position : between) inside.emplace_back(position, std::uint8_t{0});
  after_.clear();
  for (std::size_t i = 0; i < inside.size(); ++i) {
    const auto [position, state] = inside[i];
    for (const ClassStep& step : steps[state]) {
      const Position next = automaton_.step(position, step.byte);
      if (next == kNowhere) return false;
      if (step.next == 0) {
        if (std::ranges::count(after_, next) == 0) after_.push_back(next);
      } else if (std::ranges::count(inside, std::pair(next, step.next)) == 0) {
        inside.emplace_back(next, step.next);
      }
    }
    if (after_.size() > kFewPositions || inside.size() > 4 * kFewPositions) return false;
  }
  between = after_;
  return true;
}

void Constraint::try_tokens(Position position, const TokenGroup& group, TokenMask& mask) {
  path_[0] = position;
  const std::vector<TrieNode>& trie = group.trie;
  for (std::size_t i = 0; i < trie.size();) {
    const TrieNode& node = trie[i];
    const Position next = automaton_.step(path_[node.depth], node.byte);
    if (next == kNowhere) {
      i = node.end;
      continue;
    }
    path_[node.depth + std::size_t{1}] = next;
    if (node.token >= 0) allow(mask, node.token);
    ++i;
  }
}

}  // namespace puna
