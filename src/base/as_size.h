// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace puna {

// Counts and indices are signed, as differences of them are; containers ask for std::size_t. Of numbers from 0 up.
constexpr std::size_t as_size(std::int64_t count) { return static_cast<std::size_t>(count); }

}  // namespace puna
