// SPDX-License-Identifier: Apache-2.0
#include "grammar/number_range.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

constexpr int kWholeDigits = 18, kDecimalDigits = 15;

std::int64_t power_of_ten(int exponent) {
  std::int64_t power = 1;
  for (int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

// |number| × 10^scale: its whole part, and whether there is more behind it. Nothing where it has more than kWholeDigits digits.
struct Scaled {
  std::int64_t whole = 0;
  bool more = false;
};
std::optional<Scaled> scaled(const DecimalNumber& number, int scale) {
  const int shift = number.exponent + scale, size = static_cast<int>(number.digits.size());
  if (number.digits == "0") return Scaled{};
  if (size + shift > kWholeDigits) return std::nullopt;
  if (size + shift <= 0) return Scaled{0, true};
  Scaled result;
  for (int i = 0; i < size + shift; ++i)
    result.whole = result.whole * 10 + (i < size ? number.digits[static_cast<std::size_t>(i)] - '0' : 0);
  result.more = shift < 0;  // the last digit is not 0
  return result;
}

constexpr std::int64_t kBeyond = 1'000'000'000'000'000'000;  // above every number that is written

// The least integer that bound × 10^scale allows, or with `high` the greatest; beyond what is written where it is far outside.
std::int64_t first_allowed(const NumberBound& bound, int scale, bool high) {
  const DecimalNumber number = decimal_number(bound.value);
  const auto size = scaled(number, scale);
  if (!size) return number.negative ? -kBeyond : kBeyond;
  std::int64_t value = number.negative ? -size->whole : size->whole;
  if (!size->more) return bound.exclusive ? value + (high ? -1 : 1) : value;
  if (high == number.negative) value += number.negative ? -1 : 1;  // away from zero
  return value;
}

// Numbers of one sign, as digits with a point in between. X = |number| × 10^fraction lies in [low, high].
class DigitWriter {
 public:
  DigitWriter(GrammarBuilder& builder, std::uint32_t multiple_of, int to) : builder_(builder), multiple_of_(multiple_of), to_(to) {}

  void add(int from, int whole_digits, int fraction_digits, std::int64_t low, std::int64_t high) {
    const std::int64_t one = power_of_ten(fraction_digits);
    low = std::max(low, whole_digits == 1 ? 0 : power_of_ten(whole_digits - 1) * one);
    high = std::min(high, power_of_ten(whole_digits) * one - 1);
    if (low > high) return;
    low_ = padded(low, whole_digits + fraction_digits);
    high_ = padded(high, whole_digits + fraction_digits);
    whole_digits_ = whole_digits;
    bound_.clear();
    write(from, {0, true, true, 0});
  }

 private:
  // How far the digits are: how many, whether they equal those of the bounds so far, and their remainder.
  struct Place {
    int digits = 0;
    bool equals_low = true, equals_high = true;
    std::uint32_t remainder = 0;
    auto operator<=>(const Place&) const = default;
  };

  static std::string padded(std::int64_t value, int digits) {
    std::string text = std::to_string(value);
    return std::string(static_cast<std::size_t>(digits) - text.size(), '0') + text;
  }

  void write(int from, const Place& first) {
    std::vector<std::pair<int, Place>> work = {{from, first}};
    while (!work.empty()) {
      const auto [state, place] = work.back();
      work.pop_back();
      const auto at = static_cast<std::size_t>(place.digits);
      if (place.digits >= whole_digits_ && may_end(place)) builder_.add_empty(state, to_);
      if (at == low_.size()) continue;
      int before = state;
      if (place.digits == whole_digits_) before = builder_.add_text(state, ".");
      const char least = place.equals_low ? low_[at] : '0', greatest = place.equals_high ? high_[at] : '9';
      int run_target = -1;  // digits in a row that lead to one state become one edge
      char run_first = least;
      const auto add_run = [&](char last) {
        if (run_target >= 0)
          builder_.add_bytes(before, static_cast<std::uint8_t>(run_first), static_cast<std::uint8_t>(last), run_target);
      };
      for (char digit = least; digit <= greatest; ++digit) {
        const Place next{place.digits + 1, place.equals_low && digit == least, place.equals_high && digit == greatest,
                         (place.remainder * 10 + static_cast<std::uint32_t>(digit - '0')) % multiple_of_};
        const auto [target, fresh] = state_of(next);
        if (fresh) work.emplace_back(target, next);
        if (target == run_target) continue;
        add_run(static_cast<char>(digit - 1));
        run_target = target, run_first = digit;
      }
      add_run(greatest);
    }
  }

  // The digits that are left out are zeros.
  bool may_end(const Place& place) const {
    const bool zeros = low_.find_first_not_of('0', static_cast<std::size_t>(place.digits)) == std::string::npos;
    return (!place.equals_low || zeros) && place.remainder == 0;
  }

  // Places that are clear of both bounds are the same for all lengths: what counts is how many digits may follow.
  std::pair<int, bool> state_of(const Place& place) {
    if (place.equals_low || place.equals_high) {
      const auto [known, fresh] = bound_.try_emplace(place, 0);
      if (fresh) known->second = builder_.add_state();
      return {known->second, fresh};
    }
    const auto [known, fresh] =
        free_.try_emplace({whole_digits_ - place.digits, static_cast<int>(low_.size()) - place.digits, place.remainder}, 0);
    if (fresh) known->second = builder_.add_state();
    return {known->second, fresh};
  }

  GrammarBuilder& builder_;
  std::uint32_t multiple_of_;
  int to_;
  std::string low_, high_;  // digits of the bounds
  int whole_digits_ = 1;
  std::map<Place, int> bound_;
  std::map<std::tuple<int, int, std::uint32_t>, int> free_;  // (digits before the point still, digits in all still, remainder)
};

void check_bounds(const std::vector<NumberBound>& bounds) {
  for (const NumberBound& bound : bounds) {
    const DecimalNumber number = decimal_number(bound.value);
    const int size = static_cast<int>(number.digits.size());
    if (bound.exclusive && size > kDecimalDigits) {
      fail(ErrorKind::kUnsupported, bound.place, "{} has {} digits, at most {} can be told apart from their neighbours: round it",
           dump_json(bound.value), size, kDecimalDigits);
    }
  }
}

}  // namespace

DecimalNumber decimal_number(const Json& value) {
  DecimalNumber number;
  std::string text = dump_json(value);  // the shortest that reads back as the same
  number.negative = text.starts_with('-');
  if (number.negative) text.erase(0, 1);
  if (const std::size_t e = text.find_first_of("eE"); e != std::string::npos) {
    number.exponent = std::stoi(text.substr(e + 1));
    text.resize(e);
  }
  if (const std::size_t point = text.find('.'); point != std::string::npos) {
    number.exponent -= static_cast<int>(text.size() - point - 1);
    text.erase(point, 1);
  }
  text.erase(0, std::min(text.find_first_not_of('0'), text.size()));
  while (text.ends_with('0')) text.pop_back(), ++number.exponent;
  if (text.empty()) return {false, "0", 0};
  number.digits = text;
  return number;
}

int compare_numbers(const Json& a, const Json& b) {
  const DecimalNumber x = decimal_number(a), y = decimal_number(b);
  if (x.digits == "0" && y.digits == "0") return 0;
  const int sign_x = x.digits == "0" ? 0 : x.negative ? -1 : 1, sign_y = y.digits == "0" ? 0 : y.negative ? -1 : 1;
  if (sign_x != sign_y) return sign_x < sign_y ? -1 : 1;
  const int size_x = static_cast<int>(x.digits.size()) + x.exponent, size_y = static_cast<int>(y.digits.size()) + y.exponent;
  const int magnitude = size_x != size_y ? (size_x < size_y ? -1 : 1) : x.digits.compare(y.digits);
  return magnitude == 0 ? 0 : (magnitude < 0) == (sign_x > 0) ? -1 : 1;
}

bool is_whole_number(const Json& value) { return value.is_number_integer() || decimal_number(value).exponent >= 0; }

int add_number_range(GrammarBuilder& builder, int from, const NumberRange& range) {
  const int to = builder.add_state();
  if (!range.whole) check_bounds(range.low), check_bounds(range.high);
  const int digits = range.whole ? kWholeDigits : kDecimalDigits;
  DigitWriter positive(builder, range.multiple_of, to), negative(builder, range.multiple_of, to);
  const int minus = builder.add_text(from, "-");
  for (int size = 1; size <= digits; ++size) {
    const int fraction = range.whole ? 0 : digits - size;
    std::int64_t low = -kBeyond, high = kBeyond;
    for (const NumberBound& bound : range.low) low = std::max(low, first_allowed(bound, fraction, false));
    for (const NumberBound& bound : range.high) high = std::min(high, first_allowed(bound, fraction, true));
    positive.add(from, size, fraction, low, high);
    negative.add(minus, size, fraction, std::max<std::int64_t>(1, -high), -low);
  }
  return to;
}

}  // namespace puna
