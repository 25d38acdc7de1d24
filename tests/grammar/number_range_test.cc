// SPDX-License-Identifier: Apache-2.0
// Bounds of numbers against comparing every number one by one.
#include "grammar/number_range.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/random.h"
#include "grammar/grammar_walk.h"

namespace puna {
namespace {

GrammarWalk walk_of(const NumberRange& range) {
  GrammarBuilder builder("range");
  const int rule = builder.add_rule("number");
  builder.add_empty(add_number_range(builder, builder.start_of(rule), range), builder.end_of(rule));
  return GrammarWalk(builder.finish(rule, 8));
}

TEST(NumberRange, HoldsExactlyTheIntegersBetweenItsBounds) {
  for (std::uint64_t round = 0; round < 150; ++round) {
    const auto draw = [&](std::uint64_t index, std::uint64_t below) {
      return static_cast<std::int64_t>(random_bits(21, round, index) % below);
    };
    const std::int64_t size = draw(0, 3) == 0 ? 20 : 2500;
    const std::int64_t low = draw(1, static_cast<std::uint64_t>(2 * size)) - size,
                       high = low + draw(2, static_cast<std::uint64_t>(size));
    NumberRange range;
    range.whole = true;
    const bool has_low = draw(3, 4) != 0, has_high = !has_low || draw(4, 4) != 0, exclusive = draw(5, 2) == 0 && high > low + 2;
    if (has_low) range.low.push_back({low, exclusive, ""});
    if (has_high) range.high.push_back({high, exclusive, ""});
    range.multiple_of = draw(6, 3) == 0 ? static_cast<std::uint32_t>(1 + draw(7, 12)) : 1;
    const auto inside = [&](std::int64_t n) {
      return (!has_low || (exclusive ? n > low : n >= low)) && (!has_high || (exclusive ? n < high : n <= high)) &&
             n % range.multiple_of == 0;
    };
    bool some = !has_low || !has_high;
    for (std::int64_t n = low; n <= high; ++n) some = some || inside(n);
    if (!some) {
      expect_error(ErrorKind::kBadInput, "no text at all", [&] { walk_of(range); });
      continue;
    }
    GrammarWalk walk = walk_of(range);
    for (std::int64_t n = -3 * size; n <= 3 * size; n += size > 100 ? 7 : 1)
      ASSERT_EQ(walk.accepts(std::to_string(n)), inside(n)) << n << " in " << low << " " << high << " of " << range.multiple_of;
    for (const std::int64_t n : {low - 1, low, low + 1, high - 1, high, high + 1})
      ASSERT_EQ(walk.accepts(std::to_string(n)), inside(n)) << n;
    for (const char* text : {"-0", "00", "01", "+1", "1.0", "", "-"}) EXPECT_FALSE(walk.accepts(text));
  }
}

// Against what a program reads: a floating point number.
TEST(NumberRange, HoldsExactlyTheDecimalsBetweenItsBounds) {
  int inside = 0, outside = 0;
  for (std::uint64_t round = 0; round < 200; ++round) {
    const auto draw = [&](std::uint64_t index, std::uint64_t below) {
      return static_cast<std::int64_t>(random_bits(22, round, index) % below);
    };
    const double scale = draw(0, 2) == 0 ? 1000 : 8;  // both kinds of fractions: 0.125, and those that binary cannot hold
    const std::int64_t first = draw(1, 6000) - 3000, last = first + 1 + draw(2, 900);
    const double low = static_cast<double>(first) / scale, high = static_cast<double>(last) / scale;
    const bool open_low = draw(3, 2) == 0, open_high = draw(4, 2) == 0;
    NumberRange range;
    range.low.push_back({low, open_low, ""});
    range.high.push_back({high, open_high, ""});
    GrammarWalk walk = walk_of(range);
    std::vector<std::string> texts = {fmt::format("{}", low), fmt::format("{}", high), fmt::format("{:.9f}", low),
                                      fmt::format("{:.3f}", high)};
    for (std::uint64_t i = 0; i < 60; ++i)
      texts.push_back(
          fmt::format("{:.{}f}", low + (high - low) * static_cast<double>(draw(10 + i, 2000)) / 1000 - (high - low) / 2, i % 10));
    for (const std::string& text : texts) {
      const double value = std::stod(text);
      const bool expected = (open_low ? value > low : value >= low) && (open_high ? value < high : value <= high);
      const bool minus_zero = text[0] == '-' && value == 0;  // is not written
      ASSERT_EQ(walk.accepts(text), expected && !minus_zero) << text << " in " << low << " " << high << open_low << open_high;
      ++(expected ? inside : outside);
    }
  }
  EXPECT_GT(inside, 3000);
  EXPECT_GT(outside, 3000);
}

TEST(NumberRange, WritesUpToFifteenDigits) {
  NumberRange range;
  range.low.push_back({0, true, ""});
  GrammarWalk walk = walk_of(range);
  for (const char* text : {"999999999999999", "0.00000000000001", "1234567.12345678"}) EXPECT_TRUE(walk.accepts(text)) << text;
  for (const char* text : {"1000000000000000", "0.000000000000001", "1234567.123456789", "0", "0.0", "1e3", "1."})
    EXPECT_FALSE(walk.accepts(text)) << text;
  range.low.front().value = 1e300;
  expect_error(ErrorKind::kBadInput, "no text at all", [&] { walk_of(range); });
  range.low = {{0.1234567890123456, true, "here"}};
  expect_error(ErrorKind::kUnsupported, "[here] 0.1234567890123456 has 16 digits, at most 15", [&] { walk_of(range); });
}

TEST(NumberRange, ComparesNumbersAsTheyAreWritten) {
  const std::vector<Json> ascending = {-1e300, -123456789012LL,     -12.5, -12, -0.001, -1e-9, 0,   1e-300,
                                       0.1,    0.10000000000000002, 1,     1.5, 2,      10,    1e2, 12345678901234LL,
                                       1e300};
  for (std::size_t a = 0; a < ascending.size(); ++a) {
    for (std::size_t b = 0; b < ascending.size(); ++b)
      EXPECT_EQ(compare_numbers(ascending[a], ascending[b]), a < b ? -1 : a > b) << ascending[a] << " " << ascending[b];
  }
  EXPECT_EQ(compare_numbers(1.0, 1), 0);
  EXPECT_EQ(compare_numbers(-0.0, 0), 0);
  EXPECT_EQ(compare_numbers(1e2, 100), 0);
  EXPECT_TRUE(is_whole_number(5.0));
  EXPECT_TRUE(is_whole_number(1e20));
  EXPECT_FALSE(is_whole_number(0.5));
}

}  // namespace
}  // namespace puna
