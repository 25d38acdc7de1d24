// SPDX-License-Identifier: Apache-2.0
// Finds the names of special and added tokens in text: leftmost first, and the longest name at a place.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/token.h"

namespace puna {

class NameMatcher {
 public:
  NameMatcher() = default;
  explicit NameMatcher(std::vector<std::pair<std::string, Token>> names);  // empty names are left out

  struct Match {
    std::size_t begin = 0, size = 0;
    Token token{};
  };

  bool empty() const { return names_.empty(); }
  std::optional<Token> find(std::string_view name) const;    // exactly this name
  std::optional<Match> prefix(std::string_view text) const;  // the longest name the text starts with; begin = 0
  std::optional<Match> next(std::string_view text, std::size_t from) const;

 private:
  std::vector<std::pair<std::string, Token>> names_;  // sorted by name
  std::array<bool, 256> starts_{};                    // bytes some name starts with
  int only_start_ = -1;                               // that byte, where there is but one
};

}  // namespace puna
