// SPDX-License-Identifier: Apache-2.0
#include "grammar/vocabulary_index.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

CharClassAutomaton automaton_of(const CharSet& set) {
  constexpr std::uint8_t kStop = CharClassAutomaton::kStop;
  CharClassAutomaton automaton;
  const auto add_state = [&] {
    automaton.next.emplace_back().fill(kStop);
    return static_cast<std::uint8_t>(automaton.next.size() - 1);
  };
  add_state();
  for (const Utf8Sequence& sequence : utf8_sequences(set)) {
    std::size_t state = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(sequence.size); ++i) {
      const ByteRange range = sequence.bytes[i];
      // Ranges of one place are equal or apart, and only a range of one byte leads on to several others.
      std::uint8_t next = automaton.next[state][range.first];
      if (next == kStop) next = i + 1 == static_cast<std::size_t>(sequence.size) ? 0 : add_state();
      for (std::size_t byte = range.first; byte <= range.last; ++byte) automaton.next[state][byte] = next;
      state = next;
    }
  }
  return automaton;
}

// Characters that `bytes` begins, if they are all of the class; the last may lack its end. Else -1.
int chars_of_class(const CharClassAutomaton& automaton, std::string_view bytes) {
  std::size_t state = 0;
  int chars = 0;
  for (const char byte : bytes) {
    if (state == 0) ++chars;
    state = automaton.next[state][static_cast<unsigned char>(byte)];
    if (state == CharClassAutomaton::kStop) return -1;
  }
  return chars;
}

CharSet plain_chars() { return {{' ', ' '}, {'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }

// What JSON strings hold unescaped, but the three characters that a dot in a pattern, or a grammar's own idea of a string, leaves
// out.
CharSet text_chars() {
  return CharSet{{' ', 0x10FFFF}}.intersected(CharSet::all()).without({{'"', '"'}, {'\\', '\\'}, {0x7F, 0x7F}, {0x2028, 0x2029}});
}

}  // namespace

VocabularyIndex::VocabularyIndex(const Tokenizer& tokenizer) : end_tokens_(tokenizer.end_tokens()) {
  const auto size = static_cast<std::size_t>(tokenizer.size());
  starts_.reserve(size + 1);
  starts_.push_back(0);
  for (std::size_t i = 0; i < size; ++i) {
    const auto token = static_cast<Token>(i);
    const std::string bytes = tokenizer.is_special(token) ? std::string() : tokenizer.piece(token);
    if (bytes.size() > std::numeric_limits<std::uint16_t>::max()) {
      fail(ErrorKind::kUnsupported, "grammar", "token {} of the vocabulary has {} bytes, at most {} can be held", i, bytes.size(),
           std::numeric_limits<std::uint16_t>::max());
    }
    longest_ = std::max(longest_, static_cast<std::uint32_t>(bytes.size()));
    text_.insert(text_.end(), bytes.begin(), bytes.end());
    starts_.push_back(static_cast<std::uint32_t>(text_.size()));
  }
  classes_ = {automaton_of(plain_chars()), automaton_of(text_chars())};
  build_groups();
}

std::string_view VocabularyIndex::bytes(Token token) const {
  const auto at = static_cast<std::size_t>(id(token));
  if (id(token) < 0 || at + 1 >= starts_.size()) return {};
  return {text_.data() + starts_[at], starts_[at + 1] - starts_[at]};
}

void VocabularyIndex::build_groups() {
  std::vector<std::int32_t> order;
  for (int i = 0; i < size(); ++i) {
    if (!bytes(Token{i}).empty()) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const int less = bytes(Token{a}).compare(bytes(Token{b}));
    return less < 0 || (less == 0 && a < b);
  });
  std::map<std::pair<int, int>, std::vector<std::int32_t>> members;  // (class, length) -> tokens in the order of their bytes
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::string_view text = bytes(Token{order[i]});
    const std::string_view before = i == 0 ? std::string_view() : bytes(Token{order[i - 1]});
    if (text == before) {
      const std::int32_t first = !twins_.empty() && twins_.back().first == order[i - 1] ? twins_.back().second : order[i - 1];
      twins_.emplace_back(order[i], first);
      continue;
    }
    int char_class = -1, chars = 0;
    for (int c = kClasses - 1; c >= 0; --c) {
      const int count = chars_of_class(classes_[static_cast<std::size_t>(c)], text);
      if (count > 0) char_class = c, chars = count;
    }
    members[{char_class, std::min(chars, kLongestGroup + 1)}].push_back(order[i]);
  }
  for (const auto& [key, tokens] : members) {
    TokenGroup& group = groups_.emplace_back();
    group.char_class = key.first;
    if (key.first >= 0) group.mask.resize(words());
    std::vector<std::uint32_t> path;  // nodes from the root
    for (const std::int32_t token : tokens) {
      const std::string_view text = bytes(Token{token});
      std::size_t common = 0;
      while (common < path.size() && static_cast<std::uint8_t>(text[common]) == group.trie[path[common]].byte) ++common;
      for (; path.size() > common; path.pop_back()) group.trie[path.back()].end = static_cast<std::uint32_t>(group.trie.size());
      for (std::size_t i = common; i < text.size(); ++i) {
        path.push_back(static_cast<std::uint32_t>(group.trie.size()));
        group.trie.push_back({.depth = static_cast<std::uint16_t>(i), .byte = static_cast<std::uint8_t>(text[i])});
      }
      group.trie[path.back()].token = token;
      if (key.first < 0) continue;
      group.mask[static_cast<std::size_t>(token) / 32] |= 1u << (token % 32);
      group.chars = std::max(group.chars, chars_of_class(classes_[static_cast<std::size_t>(key.first)], text));
    }
    for (; !path.empty(); path.pop_back()) group.trie[path.back()].end = static_cast<std::uint32_t>(group.trie.size());
    group.trie.shrink_to_fit();
  }
}

std::size_t VocabularyIndex::memory() const {
  std::size_t bytes = starts_.capacity() * sizeof(starts_[0]) + text_.capacity() + twins_.capacity() * sizeof(twins_[0]);
  for (const TokenGroup& group : groups_)
    bytes += group.trie.capacity() * sizeof(TrieNode) + group.mask.capacity() * sizeof(std::uint32_t);
  return bytes;
}

}  // namespace puna
