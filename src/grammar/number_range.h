// SPDX-License-Identifier: Apache-2.0
// Numbers of JSON between bounds, exactly. A number is written without exponent, as digits; a bound becomes a comparison of digits
// from the left, so the automaton remembers only whether they still equal the bound's.
//   integers    up to 18 digits; may be asked to be multiples of m: then the remainder of the digits so far is remembered too
//   others      up to 15 digits in all, before and behind the point: such numbers are all different as 64-bit floating point
//               (DBL_DIG), so that what holds for the digits holds for what a program reads
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "grammar/grammar_builder.h"

namespace puna {

struct NumberBound {
  Json value;              // a number
  bool exclusive = false;  // the number itself is outside
  std::string place;       // for messages
};

struct NumberRange {
  std::vector<NumberBound> low, high;  // all of them hold
  std::uint32_t multiple_of = 1;       // only where whole
  bool whole = false;                  // integers only; written without a point

  bool bounded() const { return !low.empty() || !high.empty() || multiple_of > 1; }
};

// Adds the numbers of the range, which is bounded, behind `from`, and returns the state behind them: one that nothing leads to
// where there are none. Throws kUnsupported naming the bound for one of more digits than can be compared.
int add_number_range(GrammarBuilder& builder, int from, const NumberRange& range);

// A number of JSON, as its decimal digits: (-1)^negative × digits × 10^exponent; "0" is zero.
struct DecimalNumber {
  bool negative = false;
  std::string digits;  // no zeros at the front, none at the end
  int exponent = 0;
};
DecimalNumber decimal_number(const Json& value);
// -1, 0 or 1 as a is less than b, equal, or greater.
int compare_numbers(const Json& a, const Json& b);
bool is_whole_number(const Json& value);

inline constexpr std::uint32_t kMaxMultipleOf = 1000;

}  // namespace puna
