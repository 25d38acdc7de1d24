// SPDX-License-Identifier: Apache-2.0
// Where the rows of a text begin. Each function returns the offset of every row and, last, the end of the last row; a row lies
// between two offsets and may have white space (in arrays, also commas) behind it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace puna {

std::vector<std::uint64_t> line_offsets(std::string_view text);   // lines that are not blank
std::vector<std::uint64_t> block_offsets(std::string_view text);  // what stands between blank lines
// Parts of about `size` bytes, cut behind line ends where the next line does not begin with white space, so that no tokenizer's
// piece is cut; where there is none, between characters.
std::vector<std::uint64_t> part_offsets(std::string_view text, std::uint64_t size);
// Elements of a JSON array, found by brackets and quotes alone. Throws kBadInput naming `where` for an array that is not closed, or
// with text behind it.
std::vector<std::uint64_t> element_offsets(std::string_view text, const std::string& where);

}  // namespace puna
