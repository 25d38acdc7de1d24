// SPDX-License-Identifier: Apache-2.0
// A token of a vocabulary: its own type, so that it is not taken for a count, a position or a character.
#pragma once

#include <cstdint>

namespace puna {

enum class Token : std::int32_t {};

constexpr std::int32_t id(Token token) { return static_cast<std::int32_t>(token); }

}  // namespace puna
