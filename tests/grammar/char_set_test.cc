// SPDX-License-Identifier: Apache-2.0
// Sets of characters against a table of all code points, and their UTF-8 against decode_utf8().
#include "grammar/char_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unicode/uchar.h>

#include <bitset>
#include <memory>
#include <string>

#include "base/random.h"
#include "text/unicode.h"

namespace puna {
namespace {

constexpr std::size_t kCodes = 0x110000;
using Table = std::bitset<kCodes>;

std::unique_ptr<Table> table_of(const CharSet& set) {
  auto table = std::make_unique<Table>();
  for (const CharRange& range : set.ranges()) {
    for (char32_t code = range.first; code <= range.last; ++code) table->set(code);
  }
  return table;
}

bool is_surrogate(char32_t code) { return code >= 0xD800 && code <= 0xDFFF; }

char32_t random_code(std::uint64_t index) {
  const std::uint64_t bits = random_bits(11, 0, index);
  return static_cast<char32_t>((bits >> 8) % (index % 3 == 0 ? kCodes : 0x300));
}

TEST(CharSet, AddsAndNegatesLikeATableOfAllCodes) {
  for (std::uint64_t round = 0; round < 40; ++round) {
    CharSet set;
    Table expected;
    for (std::uint64_t i = 0; i < 12; ++i) {
      const char32_t first = random_code(100 * round + 2 * i);
      const char32_t last = std::min<char32_t>(first + static_cast<char32_t>(random_bits(12, round, i) % 40), 0x10FFFF);
      set.add(first, last);
      for (char32_t code = first; code <= last; ++code) expected.set(code);
    }
    ASSERT_EQ(*table_of(set), expected) << round;
    for (std::size_t i = 1; i < set.ranges().size(); ++i) EXPECT_GT(set.ranges()[i].first, set.ranges()[i - 1].last + 1);
    const auto negated = table_of(set.negated());
    for (char32_t code = 0; code < kCodes; code += 7) {
      EXPECT_EQ(set.contains(code), expected[code]);
      EXPECT_EQ((*negated)[code], !expected[code] && !is_surrogate(code)) << std::hex << static_cast<std::uint32_t>(code);
    }
  }
}

TEST(CharSet, IntersectsAndTakesAway) {
  const CharSet a = {{'a', 'm'}, {'x', 'z'}}, b = {{'c', 'e'}, {'l', 'y'}};
  EXPECT_EQ(a.intersected(b), (CharSet{{'c', 'e'}, {'l', 'm'}, {'x', 'y'}}));
  EXPECT_EQ(a.without(b), (CharSet{{'a', 'b'}, {'f', 'k'}, {'z', 'z'}}));
  EXPECT_TRUE(a.intersected({}).empty());
  EXPECT_EQ(a.without({}), a);
}

TEST(CharSet, JoinsNeighbours) {
  EXPECT_EQ((CharSet{{'b', 'b'}, {'a', 'a'}, {'c', 'd'}}), (CharSet{{'a', 'd'}}));
  CharSet set = {{0x10FFFF, 0x10FFFF}};
  set.add(0, 0);
  EXPECT_EQ(set.ranges().size(), 2u);
}

// Every character of the set is spelled by exactly one sequence, and no sequence spells another one.
TEST(CharSet, SpellsItsCharactersInUtf8) {
  const std::vector<CharSet> sets = {CharSet::all(),     {{0x7F, 0x80}, {0x7FE, 0x801}, {0xFFFE, 0x10001}},
                                     {{0x2028, 0x2029}}, CharSet{{0x2028, 0x2029}}.negated(),
                                     {{0, 0x10FFFF}},    {{0xE9, 0xE9}, {0x4E2D, 0x6587}, {0x1F600, 0x1F64F}}};
  for (const CharSet& set : sets) {
    std::uint64_t spelled = 0, expected = 0;
    for (const Utf8Sequence& sequence : utf8_sequences(set)) {
      std::uint64_t product = 1;
      std::string low, high;
      for (std::size_t i = 0; i < static_cast<std::size_t>(sequence.size); ++i) {
        product *= sequence.bytes[i].last - sequence.bytes[i].first + 1u;
        low += static_cast<char>(sequence.bytes[i].first);
        high += static_cast<char>(sequence.bytes[i].last);
      }
      spelled += product;
      for (const std::string& bytes : {low, high}) {
        const DecodedChar code = decode_utf8(bytes);
        EXPECT_EQ(code.bytes, sequence.size);
        EXPECT_TRUE(set.contains(code.code)) << std::hex << static_cast<std::uint32_t>(code.code);
      }
    }
    for (char32_t code = 0; code < kCodes; ++code) expected += set.contains(code) && !is_surrogate(code) ? 1 : 0;
    EXPECT_EQ(spelled, expected);
  }
}

TEST(CharSet, KnowsGeneralCategories) {
  const CharSet letters = chars_with_property("L"), upper = chars_with_property("Lu");
  for (char32_t code = 0; code < kCodes; code += 3) {
    if (is_surrogate(code)) continue;
    EXPECT_EQ(letters.contains(code), u_isalpha(static_cast<UChar32>(code)) != 0) << std::hex << static_cast<std::uint32_t>(code);
    EXPECT_EQ(upper.contains(code), u_charType(static_cast<UChar32>(code)) == U_UPPERCASE_LETTER);
  }
  EXPECT_EQ(chars_with_property("Letter"), letters);
  EXPECT_EQ(chars_with_property("gc=Lu"), upper);
  EXPECT_EQ(chars_with_property("Uppercase_Letter"), upper);
  EXPECT_EQ(chars_with_property("Any"), CharSet::all());
  for (const char* name : {"letter", "LETTER", "Greek", "Script=Greek", "", "L "})
    EXPECT_TRUE(chars_with_property(name).empty()) << name;
}

}  // namespace
}  // namespace puna
