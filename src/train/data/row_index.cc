// SPDX-License-Identifier: Apache-2.0
#include "train/data/row_index.h"

#include <algorithm>

#include "base/error.h"

namespace puna {
namespace {

constexpr std::string_view kBlank = " \t\r\n\v\f";

bool is_blank(std::string_view line) { return line.find_first_not_of(kBlank) == std::string_view::npos; }

// Behind the line that begins at `begin`.
std::size_t line_end(std::string_view text, std::size_t begin) {
  const std::size_t end = text.find('\n', begin);
  return end == std::string_view::npos ? text.size() : end + 1;
}

// Behind the text in quotes that begins at `at`.
std::size_t string_end(std::string_view text, std::size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return std::min(at + 1, text.size());
}

// The comma or bracket behind the value that begins at `at`, or the text's end.
std::size_t value_end(std::string_view text, std::size_t at) {
  std::int64_t depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (depth == 0 && (c == ',' || c == ']' || c == '}')) return at;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    at = c == '"' ? string_end(text, at) : at + 1;
  }
  return at;
}

}  // namespace

std::vector<std::uint64_t> line_offsets(std::string_view text) {
  std::vector<std::uint64_t> offsets;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = line_end(text, begin);
    if (!is_blank(text.substr(begin, end - begin))) offsets.push_back(begin);
    begin = end;
  }
  offsets.push_back(text.size());
  return offsets;
}

std::vector<std::uint64_t> block_offsets(std::string_view text) {
  std::vector<std::uint64_t> offsets;
  bool after_blank = true;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = line_end(text, begin);
    const bool blank = is_blank(text.substr(begin, end - begin));
    if (!blank && after_blank) offsets.push_back(begin);
    after_blank = blank;
    begin = end;
  }
  offsets.push_back(text.size());
  return offsets;
}

std::vector<std::uint64_t> part_offsets(std::string_view text, std::uint64_t size) {
  std::vector<std::uint64_t> offsets;
  std::size_t begin = 0;
  while (begin < text.size()) {
    offsets.push_back(begin);
    if (text.size() - begin <= size) break;
    std::size_t cut = begin + size;
    while (cut > begin && !(text[cut - 1] == '\n' && kBlank.find(text[cut]) == std::string_view::npos)) --cut;
    if (cut == begin) {
      cut = begin + size;
      while (cut > begin + 1 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
    }
    begin = cut;
  }
  offsets.push_back(text.size());
  return offsets;
}

std::vector<std::uint64_t> element_offsets(std::string_view text, const std::string& where) {
  std::vector<std::uint64_t> offsets;
  std::size_t at = text.find_first_not_of(kBlank);  // of the opening bracket
  while (true) {
    at = text.find_first_not_of(kBlank, at + 1);
    if (at == std::string_view::npos) break;
    if (text[at] == ']' && offsets.empty()) break;  // an empty array
    offsets.push_back(at);
    at = value_end(text, at);
    if (at == text.size() || text[at] != ',') break;
  }
  if (at == std::string_view::npos || at >= text.size() || text[at] != ']') {
    fail(ErrorKind::kBadInput, where, "the JSON array is not closed after {} elements: the file is incomplete or broken",
         offsets.size());
  }
  if (const std::size_t more = text.find_first_not_of(kBlank, at + 1); more != std::string_view::npos) {
    fail(ErrorKind::kBadInput, where, "there is text behind the JSON array, at byte {}: expected one array, or one object per line",
         more);
  }
  offsets.push_back(at);
  return offsets;
}

}  // namespace puna
