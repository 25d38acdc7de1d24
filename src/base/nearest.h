// SPDX-License-Identifier: Apache-2.0
// "Did you mean …?": the candidate with the fewest typing errors (Damerau-Levenshtein, adjacent letters swapped count once).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace puna {

std::size_t typing_errors(std::string_view a, std::string_view b);

// nullopt where nothing is closer than a third of the word's length (at least 2 errors are forgiven); a candidate that begins with
// the word, or that the word begins with, counts as one error.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

// ": did you mean X?" or an empty text.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace puna
