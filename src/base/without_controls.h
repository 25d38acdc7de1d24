// SPDX-License-Identifier: Apache-2.0
// What a model, a file or a hub says may hold control sequences that retitle, recolour or reprogram a terminal.
#pragma once

#include <string>
#include <string_view>

namespace puna {

// Control characters but newline and tab become symbols: ESC is shown as ␛ (U+2400 + code), C1 controls as U+FFFD. Expects whole
// UTF-8 characters; bytes that are not UTF-8 become U+FFFD too.
std::string without_controls(std::string_view text);

}  // namespace puna
