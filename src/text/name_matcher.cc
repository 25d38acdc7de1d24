// SPDX-License-Identifier: Apache-2.0
#include "text/name_matcher.h"

#include <algorithm>
#include <cstring>

namespace puna {

NameMatcher::NameMatcher(std::vector<std::pair<std::string, Token>> names) : names_(std::move(names)) {
  std::erase_if(names_, [](const auto& entry) { return entry.first.empty(); });
  std::stable_sort(names_.begin(), names_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [name, token] : names_) starts_[static_cast<unsigned char>(name[0])] = true;
  if (std::count(starts_.begin(), starts_.end(), true) == 1) {
    only_start_ = static_cast<int>(std::find(starts_.begin(), starts_.end(), true) - starts_.begin());
  }
}

std::optional<Token> NameMatcher::find(std::string_view name) const {
  const auto at =
      std::lower_bound(names_.begin(), names_.end(), name, [](const auto& entry, std::string_view n) { return entry.first < n; });
  if (at == names_.end() || at->first != name) return std::nullopt;
  return at->second;
}

// Narrows the range of names that share the text's first n bytes, one byte at a time. The shortest of a range comes first.
std::optional<NameMatcher::Match> NameMatcher::prefix(std::string_view text) const {
  std::optional<Match> longest;
  auto begin = names_.begin(), end = names_.end();
  for (std::size_t n = 0; n < text.size() && begin != end; ++n) {
    const auto byte = static_cast<unsigned char>(text[n]);
    const auto at = [n](const auto& entry) { return static_cast<unsigned char>(entry.first[n]); };
    begin = std::lower_bound(begin, end, byte, [&](const auto& entry, unsigned char b) { return at(entry) < b; });
    end = std::upper_bound(begin, end, byte, [&](unsigned char b, const auto& entry) { return b < at(entry); });
    for (; begin != end && begin->first.size() == n + 1; ++begin) {
      if (!longest || longest->size < n + 1) longest = Match{0, n + 1, begin->second};
    }
  }
  return longest;
}

std::optional<NameMatcher::Match> NameMatcher::next(std::string_view text, std::size_t from) const {
  if (names_.empty()) return std::nullopt;
  for (std::size_t at = from; at < text.size(); ++at) {
    if (only_start_ >= 0) {
      const void* hit = std::memchr(text.data() + at, only_start_, text.size() - at);
      if (hit == nullptr) return std::nullopt;
      at = static_cast<std::size_t>(static_cast<const char*>(hit) - text.data());
    } else if (!starts_[static_cast<unsigned char>(text[at])]) {
      continue;
    }
    if (auto match = prefix(text.substr(at))) {
      match->begin = at;
      return match;
    }
  }
  return std::nullopt;
}

}  // namespace puna
