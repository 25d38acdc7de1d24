// SPDX-License-Identifier: Apache-2.0
#include "grammar/char_set.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <optional>
#include <string>

namespace puna {
namespace {

constexpr char32_t kLastCode = 0x10FFFF;

// UTF-8 bytes of `code` at a fixed length.
std::array<std::uint8_t, 4> encode(char32_t code, int size) {
  if (size == 1) return {static_cast<std::uint8_t>(code)};
  constexpr std::array<std::uint8_t, 5> kLead = {0, 0, 0xC0, 0xE0, 0xF0};
  std::array<std::uint8_t, 4> bytes{};
  for (int i = size - 1; i > 0; --i, code >>= 6)
    bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(0x80 | (code & 0x3F));
  bytes[0] = static_cast<std::uint8_t>(kLead[static_cast<std::size_t>(size)] | code);
  return bytes;
}

// Cuts a range of characters that take `size` bytes each, until below every differing byte all continuations are there.
void split(char32_t first, char32_t last, int size, std::vector<Utf8Sequence>& sequences) {
  for (int i = 1; i < size; ++i) {
    const char32_t mask = (char32_t{1} << (6 * i)) - 1;
    if ((first & ~mask) == (last & ~mask)) continue;
    if ((first & mask) != 0) {
      split(first, first | mask, size, sequences);
      return split((first | mask) + 1, last, size, sequences);
    }
    if ((last & mask) != mask) {
      split(first, (last & ~mask) - 1, size, sequences);
      return split(last & ~mask, last, size, sequences);
    }
  }
  const auto low = encode(first, size), high = encode(last, size);
  Utf8Sequence& sequence = sequences.emplace_back();
  sequence.size = size;
  for (std::size_t i = 0; i < static_cast<std::size_t>(size); ++i) sequence.bytes[i] = {low[i], high[i]};
}

// The category's mask, where `name` is spelled exactly as the standard's short or long name.
std::optional<std::uint32_t> category_mask(std::string_view name) {
  const std::string text(name);
  const std::int32_t value = u_getPropertyValueEnum(UCHAR_GENERAL_CATEGORY_MASK, text.c_str());
  if (value == UCHAR_INVALID_CODE) return std::nullopt;
  for (int choice = 0;
       const char* known = u_getPropertyValueName(UCHAR_GENERAL_CATEGORY_MASK, value, static_cast<UPropertyNameChoice>(choice));
       ++choice) {
    if (name == known) return static_cast<std::uint32_t>(value);
  }
  return std::nullopt;
}

struct PropertyWalk {
  std::uint32_t mask;
  CharSet set;
};

UBool add_matching(const void* context, UChar32 begin, UChar32 end, UCharCategory category) {
  auto* walk = static_cast<PropertyWalk*>(const_cast<void*>(context));
  if ((U_MASK(category) & walk->mask) != 0) walk->set.add(static_cast<char32_t>(begin), static_cast<char32_t>(end - 1));
  return 1;
}

}  // namespace

CharSet::CharSet(std::initializer_list<CharRange> ranges) {
  for (const CharRange& range : ranges) add(range.first, range.last);
}

CharSet CharSet::all() { return {{0, 0xD7FF}, {0xE000, kLastCode}}; }

void CharSet::add(char32_t first, char32_t last) {
  // The ranges that the new one overlaps or touches become one with it.
  auto begin = std::lower_bound(ranges_.begin(), ranges_.end(), first,
                                [](const CharRange& range, char32_t code) { return range.last < code && range.last + 1 < code; });
  auto end = begin;
  for (; end != ranges_.end() && end->first <= last + 1; ++end) {
    first = std::min(first, end->first);
    last = std::max(last, end->last);
  }
  ranges_.insert(ranges_.erase(begin, end), {first, last});
}

void CharSet::add(const CharSet& other) {
  for (const CharRange& range : other.ranges_) add(range.first, range.last);
}

CharSet CharSet::negated() const {
  CharSet gaps;
  char32_t next = 0;
  for (const CharRange& range : ranges_) {
    if (range.first > next) gaps.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCode) gaps.ranges_.push_back({next, kLastCode});
  return gaps.intersected(all());
}

CharSet CharSet::intersected(const CharSet& other) const {
  CharSet common;
  auto a = ranges_.begin();
  auto b = other.ranges_.begin();
  while (a != ranges_.end() && b != other.ranges_.end()) {
    const char32_t first = std::max(a->first, b->first), last = std::min(a->last, b->last);
    if (first <= last) common.ranges_.push_back({first, last});
    if (a->last < b->last) {
      ++a;
    } else {
      ++b;
    }
  }
  return common;
}

bool CharSet::contains(char32_t code) const {
  const auto at = std::lower_bound(ranges_.begin(), ranges_.end(), code,
                                   [](const CharRange& range, char32_t value) { return range.last < value; });
  return at != ranges_.end() && at->first <= code;
}

CharSet chars_with_property(std::string_view name) {
  for (const std::string_view prefix : {"General_Category=", "gc="}) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  }
  if (name == "Any") return CharSet::all();
  const auto mask = category_mask(name);
  if (!mask) return {};
  PropertyWalk walk{*mask, {}};
  u_enumCharTypes(add_matching, &walk);
  return walk.set.intersected(CharSet::all());
}

std::vector<Utf8Sequence> utf8_sequences(const CharSet& set) {
  constexpr std::array<char32_t, 5> kLast = {0, 0x7F, 0x7FF, 0xFFFF, kLastCode};  // of the characters that take so many bytes
  std::vector<Utf8Sequence> sequences;
  const CharSet characters = set.intersected(CharSet::all());
  for (const CharRange& range : characters.ranges()) {
    for (int size = 1; size <= 4; ++size) {
      const auto at = static_cast<std::size_t>(size);
      const char32_t shortest = size == 1 ? 0 : kLast[at - 1] + 1;
      const char32_t first = std::max(range.first, shortest), last = std::min(range.last, kLast[at]);
      if (first <= last) split(first, last, size, sequences);
    }
  }
  return sequences;
}

}  // namespace puna
