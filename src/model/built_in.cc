// SPDX-License-Identifier: Apache-2.0
#include "model/built_in.h"

// Made by cmake/puna.cmake from models/nano/nano.gguf.
extern "C" const std::byte puna_nano_begin[], puna_nano_end[];

namespace puna {

std::span<const std::byte> built_in_gguf() { return {puna_nano_begin, puna_nano_end}; }

}  // namespace puna
