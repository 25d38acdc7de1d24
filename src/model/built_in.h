// SPDX-License-Identifier: Apache-2.0
// The model inside the program: models/nano/nano.gguf, mapped with the program itself. open_checkpoint() and open_tokenizer() know
// it by this path, which is the path of no file.
#pragma once

#include <cstddef>
#include <span>

namespace puna {

constexpr const char* kBuiltInPath = "builtin:nano";
constexpr const char* kBuiltInName = "nano";  // what people call it

std::span<const std::byte> built_in_gguf();

}  // namespace puna
