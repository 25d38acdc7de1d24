// SPDX-License-Identifier: Apache-2.0
// A set of Unicode characters as ranges of code points, and the byte sequences that UTF-8 spells it with.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace puna {

struct CharRange {
  char32_t first = 0, last = 0;  // both belong to it
  bool operator==(const CharRange&) const = default;
};

class CharSet {
 public:
  CharSet() = default;
  CharSet(std::initializer_list<CharRange> ranges);
  static CharSet all();  // every code point that is a character of its own: all but the surrogates

  void add(char32_t first, char32_t last);
  void add(const CharSet& other);
  CharSet negated() const;  // within all()
  CharSet intersected(const CharSet& other) const;
  CharSet without(const CharSet& other) const { return intersected(other.negated()); }

  bool contains(char32_t code) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<CharRange>& ranges() const { return ranges_; }  // ascending, with a gap between each two
  bool operator==(const CharSet&) const = default;

 private:
  std::vector<CharRange> ranges_;
};

// The characters with a property of the Unicode standard, by what ECMA 262 writes between the braces of \p{…}: general categories
// by their short or long name, "Lu", "Letter". An empty set for any other name.
CharSet chars_with_property(std::string_view name);

struct ByteRange {
  std::uint8_t first = 0, last = 0;
};
// The characters whose UTF-8 bytes lie each in its range.
struct Utf8Sequence {
  std::array<ByteRange, 4> bytes;
  int size = 0;
};
// Together exactly the characters of `set`; no byte sequence lies in two of them.
std::vector<Utf8Sequence> utf8_sequences(const CharSet& set);

}  // namespace puna
