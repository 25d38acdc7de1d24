// SPDX-License-Identifier: Apache-2.0
// Read by recursive descent. Anchors are resolved afterwards: what surprises is that they need no place in the automaton, since a
// text is matched as a whole: an expression falls into up to four parts, by whether it insists on the text's begin and end.
#include "grammar/regex.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace puna {
namespace {

CharSet digits() { return {{'0', '9'}}; }
CharSet word_chars() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
CharSet line_ends() { return {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}; }

// WhiteSpace and LineTerminator of ECMA 262.
CharSet white_space() {
  CharSet set = chars_with_property("Zs");
  set.add('\t', '\r');
  set.add(0xFEFF, 0xFEFF);
  set.add(line_ends());
  return set;
}

bool is_hex(char32_t c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
std::uint32_t hex_value(char32_t c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }
bool is_letter(char32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }

class RegexReader {
 public:
  RegexReader(std::string_view pattern, const std::string& where, ExpressionTree& tree) : where_(where), tree_(tree) {
    if (pattern.size() > kMaxRegexBytes) {
      fail(ErrorKind::kUnsupported, where, "the pattern has {} bytes, at most {} can be held", pattern.size(), kMaxRegexBytes);
    }
    while (!pattern.empty()) {
      const DecodedChar next = decode_utf8(pattern);
      if (next.bytes == 0) bad("this is not UTF-8");
      text_.push_back(next.code);
      ++at_;
      pattern.remove_prefix(static_cast<std::size_t>(next.bytes));
    }
    at_ = 0;
  }

  ExpressionId read() {
    const ExpressionId root = alternatives(0);
    if (at_ < text_.size()) bad("there is no group that this ) closes");
    return root;
  }

 private:
  bool more() const { return at_ < text_.size(); }
  char32_t peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : U'\0'; }
  bool next_is(std::u32string_view word) const { return std::u32string_view(text_).substr(at_).starts_with(word); }
  bool take(char32_t c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  [[noreturn]] void bad(std::string_view what) const { fail(ErrorKind::kBadInput, where_, "character {}: {}", at_ + 1, what); }
  [[noreturn]] void unsupported(std::string_view what) const {
    fail(ErrorKind::kUnsupported, where_, "character {}: {}", at_ + 1, what);
  }

  ExpressionId alternatives(int depth);
  ExpressionId sequence(int depth);
  ExpressionId term(int depth);
  ExpressionId group(int depth);
  ExpressionId repeated(ExpressionId part);
  std::optional<std::pair<std::uint32_t, std::uint32_t>> counts();
  std::optional<std::uint32_t> number();
  CharSet char_class();
  std::optional<char32_t> class_member(CharSet& set);
  std::optional<CharSet> class_escape();
  CharSet property(bool negated);
  char32_t escaped_char(bool in_class);
  char32_t hex(int digits);
  char32_t unicode_escape();

  std::string where_;
  ExpressionTree& tree_;
  std::u32string text_;
  std::size_t at_ = 0;
};

ExpressionId RegexReader::alternatives(int depth) {
  if (depth > kMaxRegexDepth) unsupported(fmt::format("groups stand in each other more than {} deep", kMaxRegexDepth));
  std::vector<ExpressionId> parts = {sequence(depth)};
  while (take('|')) parts.push_back(sequence(depth));
  return parts.size() == 1 ? parts.front() : tree_.choice(std::move(parts));
}

ExpressionId RegexReader::sequence(int depth) {
  std::vector<ExpressionId> parts;
  while (more() && peek() != '|' && peek() != ')') parts.push_back(repeated(term(depth)));
  return parts.size() == 1 ? parts.front() : tree_.sequence(std::move(parts));
}

ExpressionId RegexReader::term(int depth) {
  const std::size_t position = at_;
  const char32_t c = peek();
  if (c == '*' || c == '+' || c == '?' || (c == '{' && is_digit(peek(1)) && counts())) {
    at_ = position;
    bad("there is nothing before this repetition");
  }
  if (c == '^' || c == '$') {
    ++at_;
    const ExpressionId anchor = tree_.anchor(c == '^' ? ExpressionKind::kTextStart : ExpressionKind::kTextEnd);
    tree_.at(anchor).position = position;
    return anchor;
  }
  at_ = position;
  if (c == '(') return group(depth);
  if (c == '[') return tree_.chars(char_class());
  if (take('.')) return tree_.chars(line_ends().negated());
  if (c == '\\') {
    if (peek(1) == 'b' || peek(1) == 'B') unsupported("word boundaries (\\b) cannot be followed: spell out what may stand there");
    if (peek(1) >= '1' && peek(1) <= '9') unsupported("back-references cannot be followed: no automaton remembers a text");
    if (peek(1) == 'k') unsupported("back-references (\\k) cannot be followed: no automaton remembers a text");
    if (auto set = class_escape()) return tree_.chars(std::move(*set));
    const char32_t code = escaped_char(false);
    return tree_.chars({{code, code}});
  }
  ++at_;
  return tree_.chars({{c, c}});
}

ExpressionId RegexReader::group(int depth) {
  const std::size_t open = at_;
  if (next_is(U"(?=") || next_is(U"(?!")) unsupported("look-ahead cannot be followed: write the texts that are allowed");
  if (next_is(U"(?<=") || next_is(U"(?<!")) unsupported("look-behind cannot be followed: write the texts that are allowed");
  at_ += 1;
  if (next_is(U"?:")) {
    at_ += 2;
  } else if (next_is(U"?<")) {
    at_ += 2;
    const std::size_t name = at_;
    while (more() && (is_letter(peek()) || is_digit(peek()) || peek() == '_' || peek() == '$' || peek() > 0x7F)) ++at_;
    if (at_ == name || is_digit(text_[name]) || !take('>')) bad("expected a group's name and >");
  } else if (peek() == '?') {
    unsupported("this kind of group is not known: there are (…), (?:…) and (?<name>…)");
  }
  const ExpressionId inner = alternatives(depth + 1);
  if (!take(')')) {
    at_ = open;
    bad("this group is not closed");
  }
  return inner;
}

ExpressionId RegexReader::repeated(ExpressionId part) {
  const std::size_t position = at_;
  std::pair<std::uint32_t, std::uint32_t> range = {1, 1};
  if (take('*')) {
    range = {0, kUnlimited};
  } else if (take('+')) {
    range = {1, kUnlimited};
  } else if (take('?')) {
    range = {0, 1};
  } else if (peek() == '{' && is_digit(peek(1))) {
    const auto given = counts();
    if (!given) return part;  // a { that counts nothing
    range = *given;
  } else {
    return part;
  }
  take('?');
  if (range.first > range.second) {
    at_ = position;
    bad(fmt::format("from {} to {} times is no repetition", range.first, range.second));
  }
  const char32_t next = peek();
  if (next == '*' || next == '+' || next == '?') bad("there is nothing before this repetition");
  const ExpressionId repeat = tree_.repeat(part, range.first, range.second);
  tree_.at(repeat).position = position;
  return repeat;
}

// {n}, {n,} or {n,m}; where it is none of these, nothing is taken.
std::optional<std::pair<std::uint32_t, std::uint32_t>> RegexReader::counts() {
  const std::size_t position = at_;
  ++at_;
  const auto min = number();
  std::uint32_t max = min.value_or(0);
  if (min && take(',')) max = is_digit(peek()) ? number().value_or(0) : kUnlimited;
  if (min && take('}')) return std::pair(*min, max);
  at_ = position;
  return std::nullopt;
}

std::optional<std::uint32_t> RegexReader::number() {
  if (!is_digit(peek())) return std::nullopt;
  const std::size_t position = at_;
  std::uint32_t value = 0;
  while (is_digit(peek())) {
    value = value * 10 + (text_[at_++] - '0');
    if (value <= kMaxRepeatCount) continue;
    at_ = position;
    unsupported(fmt::format("at most {} repetitions can be counted", kMaxRepeatCount));
  }
  return value;
}

CharSet RegexReader::char_class() {
  const std::size_t open = at_;
  ++at_;
  const bool negated = take('^');
  CharSet set;
  while (more() && peek() != ']') {
    const std::size_t position = at_;
    const auto first = class_member(set);
    if (peek() != '-' || peek(1) == ']' || at_ + 1 >= text_.size()) {
      if (first) set.add(*first, *first);
      continue;
    }
    ++at_;
    const auto last = class_member(set);
    if (first && last && *first > *last) {
      at_ = position;
      bad("the range in this class runs backwards");
    }
    if (first && last) {
      set.add(*first, *last);
    } else {  // a class such as \d on one side: then the - stands for itself
      set.add('-', '-');
      if (first) set.add(*first, *first);
      if (last) set.add(*last, *last);
    }
  }
  if (!take(']')) {
    at_ = open;
    bad("this class of characters is not closed");
  }
  return negated ? set.negated() : set.intersected(CharSet::all());
}

// A character, or a whole class such as \d, which is added at once.
std::optional<char32_t> RegexReader::class_member(CharSet& set) {
  if (peek() != '\\') return text_[at_++];
  if (const auto whole = class_escape()) {
    set.add(*whole);
    return std::nullopt;
  }
  return escaped_char(true);
}

std::optional<CharSet> RegexReader::class_escape() {
  const char32_t kind = peek(1);
  std::optional<CharSet> set;
  if (kind == 'd' || kind == 'D') set = digits();
  if (kind == 'w' || kind == 'W') set = word_chars();
  if (kind == 's' || kind == 'S') set = white_space();
  if (kind == 'p' || kind == 'P') return property(kind == 'P');
  if (!set) return std::nullopt;
  at_ += 2;
  return kind >= 'A' && kind <= 'Z' ? set->negated() : set;
}

CharSet RegexReader::property(bool negated) {
  const std::size_t position = at_;
  at_ += 2;
  std::string name;
  if (!take('{')) bad("expected { and the name of a property");
  while (more() && peek() != '}' && peek() <= 0x7F) name += static_cast<char>(text_[at_++]);
  if (!take('}')) bad("expected } behind the name of a property");
  const CharSet set = chars_with_property(name);
  if (set.empty()) {
    at_ = position;
    unsupported(fmt::format("the property '{}' is not known: general categories such as L, Letter, Nd are", name));
  }
  return negated ? set.negated() : set;
}

// A backslash and what stands for one character.
char32_t RegexReader::escaped_char(bool in_class) {
  const std::size_t position = at_;
  ++at_;
  if (!more()) bad("a backslash at the end takes nothing");
  const char32_t c = text_[at_++];
  switch (c) {
    case 't':
      return '\t';
    case 'n':
      return '\n';
    case 'v':
      return '\v';
    case 'f':
      return '\f';
    case 'r':
      return '\r';
    case 'x':
      return hex(2);
    case 'u':
      return unicode_escape();
    case 'c':
      if (!is_letter(peek())) bad("expected a letter behind \\c");
      return text_[at_++] & 0x1F;
    case '0':
      if (!is_digit(peek())) return 0;
      break;
    case 'b':
      if (in_class) return '\b';
      break;
    default:
      if (!is_letter(c) && !is_digit(c)) return c;
  }
  at_ = position;
  unsupported(fmt::format("the escape \\{} is not known", is_letter(c) || is_digit(c) ? std::string(1, static_cast<char>(c)) : ""));
}

char32_t RegexReader::hex(int digits) {
  char32_t value = 0;
  for (int i = 0; i < digits; ++i) {
    if (!is_hex(peek())) bad(fmt::format("expected {} hexadecimal digits", digits));
    value = value * 16 + hex_value(text_[at_++]);
  }
  return value;
}

char32_t RegexReader::unicode_escape() {
  const std::size_t position = at_;
  char32_t code = 0;
  if (take('{')) {
    const std::size_t first = at_;
    for (; is_hex(peek()) && code <= 0x10FFFF; ++at_) code = code * 16 + hex_value(peek());
    if (at_ == first || !take('}')) bad("expected \\u{…} with a code point up to 10FFFF");
  } else {
    code = hex(4);
    if (code >= 0xD800 && code <= 0xDBFF && next_is(U"\\u")) {
      at_ += 2;
      const char32_t low = hex(4);
      if (low < 0xDC00 || low > 0xDFFF) at_ = position, bad("the second half of a surrogate pair is missing");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
  }
  if (code <= 0x10FFFF && !(code >= 0xD800 && code <= 0xDFFF)) return code;
  at_ = position;
  bad("half of a surrogate pair, or a number past 10FFFF, is no character");
}

// An expression in parts: [insists on the text's begin + 2 * on its end] -> the alternatives, without anchors.
using AnchoredParts = std::array<std::vector<ExpressionId>, 4>;
constexpr std::size_t kAtStart = 1, kAtEnd = 2;

class AnchorResolver {
 public:
  AnchorResolver(ExpressionTree& tree, const std::string& where) : tree_(tree), where_(where) {}

  AnchoredParts parts_of(ExpressionId id) {
    AnchoredParts parts;
    if (!has_anchors(id)) {
      parts[0] = {id};
      return parts;
    }
    const Expression expression = tree_.at(id);  // a copy: the tree grows
    switch (expression.kind) {
      case ExpressionKind::kTextStart:
      case ExpressionKind::kTextEnd:
        if (++anchors_ > kMaxAnchors)
          fail(ErrorKind::kUnsupported, where_, "there are more than {} anchors (^ and $) in the pattern", kMaxAnchors);
        parts[expression.kind == ExpressionKind::kTextStart ? kAtStart : kAtEnd] = {tree_.empty_text()};
        return parts;
      case ExpressionKind::kChoice:
        for (const ExpressionId part : expression.parts) {
          const AnchoredParts inner = parts_of(part);
          for (std::size_t i = 0; i < parts.size(); ++i) parts[i].insert(parts[i].end(), inner[i].begin(), inner[i].end());
        }
        return joined(std::move(parts));
      case ExpressionKind::kRepeat:
        if (expression.max != 1) {
          fail(ErrorKind::kUnsupported, where_, "character {}: ^ or $ inside a repetition cannot be followed: take it out",
               expression.position + 1);
        }
        parts = parts_of(expression.parts.front());
        if (expression.min == 0) parts[0].push_back(tree_.empty_text());
        return joined(std::move(parts));
      default:
        return parts_of_sequence(expression.parts);
    }
  }

  ExpressionId one(std::vector<ExpressionId> alternatives) {
    return alternatives.size() == 1 ? alternatives.front() : tree_.choice(std::move(alternatives));
  }

 private:
  static constexpr int kMaxAnchors = 100;

  bool has_anchors(ExpressionId id) const {
    const Expression& expression = tree_.at(id);
    if (expression.kind == ExpressionKind::kTextStart || expression.kind == ExpressionKind::kTextEnd) return true;
    return std::ranges::any_of(expression.parts, [&](ExpressionId part) { return has_anchors(part); });
  }

  AnchoredParts parts_of_sequence(const std::vector<ExpressionId>& sequence) {
    AnchoredParts parts;
    parts[0] = {tree_.empty_text()};
    std::vector<ExpressionId> plain;  // a run of what holds no anchors
    const auto add_plain = [&] {
      if (plain.empty()) return;
      AnchoredParts run;
      run[0] = {tree_.sequence(std::exchange(plain, {}))};
      parts = appended(parts, run);
    };
    for (const ExpressionId part : sequence) {
      if (!has_anchors(part)) {
        plain.push_back(part);
        continue;
      }
      add_plain();
      parts = appended(parts, parts_of(part));
    }
    add_plain();
    return parts;
  }

  AnchoredParts joined(AnchoredParts parts) {
    for (auto& alternatives : parts) {
      if (alternatives.size() > 1) alternatives = {one(std::move(alternatives))};
    }
    return parts;
  }

  // What stands behind the text's end, or before its begin, must be empty.
  AnchoredParts appended(const AnchoredParts& left, const AnchoredParts& right) {
    AnchoredParts parts;
    for (std::size_t l = 0; l < left.size(); ++l) {
      for (std::size_t r = 0; r < right.size(); ++r) {
        if (left[l].empty() || right[r].empty()) continue;
        const ExpressionId a = one(left[l]), b = one(right[r]);
        const bool drops_right = (l & kAtEnd) != 0, drops_left = (r & kAtStart) != 0;
        if ((drops_right && !matches_empty(tree_, b)) || (drops_left && !matches_empty(tree_, a))) continue;
        ExpressionId both = tree_.empty_text();
        if (!drops_left) both = a;
        if (!drops_right) both = drops_left ? b : both_of(a, b);
        if (std::ranges::count(parts[l | r], both) == 0) parts[l | r].push_back(both);
      }
    }
    return joined(std::move(parts));
  }

  ExpressionId both_of(ExpressionId a, ExpressionId b) {
    if (tree_.at(a).kind != ExpressionKind::kSequence) return tree_.sequence({a, b});
    std::vector<ExpressionId> parts = tree_.at(a).parts;
    parts.push_back(b);
    return tree_.sequence(std::move(parts));
  }

  ExpressionTree& tree_;
  const std::string& where_;
  int anchors_ = 0;
};

}  // namespace

Regex parse_regex(std::string_view pattern, const std::string& where, RegexMatch match) {
  Regex regex;
  const ExpressionId read = RegexReader(pattern, where, regex.tree).read();
  AnchorResolver resolver(regex.tree, where);
  const AnchoredParts parts = resolver.parts_of(read);
  std::vector<ExpressionId> whole;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].empty()) continue;
    const auto anything = [&] { return regex.tree.repeat(regex.tree.chars(CharSet::all()), 0, kUnlimited); };
    std::vector<ExpressionId> sequence;
    if (match == RegexMatch::kPart && (i & kAtStart) == 0) sequence.push_back(anything());
    sequence.push_back(resolver.one(parts[i]));
    if (match == RegexMatch::kPart && (i & kAtEnd) == 0) sequence.push_back(anything());
    whole.push_back(regex.tree.sequence(std::move(sequence)));
  }
  regex.root = resolver.one(std::move(whole));
  return regex;
}

Grammar regex_grammar(std::string_view pattern, const std::string& where) {
  constexpr int kMaxDepth = 2 * kMaxRegexDepth;  // repetitions that are counted, in each other
  const Regex regex = parse_regex(pattern, where, RegexMatch::kWhole);
  GrammarBuilder builder(where);
  const int rule = builder.add_rule("the pattern");
  const int end = add_expression(builder, regex.tree, regex.root, builder.start_of(rule), spell_plain);
  builder.add_empty(end, builder.end_of(rule));
  return builder.finish(rule, kMaxDepth);
}

}  // namespace puna
