// SPDX-License-Identifier: Apache-2.0
#include "grammar/gbnf.h"

#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "grammar/expression.h"
#include "grammar/regex.h"
#include "text/unicode.h"

namespace puna {
namespace {

constexpr int kMaxGroupDepth = 64;
constexpr int kMaxSigns = 8;  // of repetition, behind one thing

bool is_name_char(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

struct GbnfRule {
  std::string name;
  std::size_t mentioned = 0;  // where it is first used or defined
  int line = 0;               // of its definition; 0: none yet
  ExpressionTree tree;
  ExpressionId root = 0;
};

class GbnfReader {
 public:
  GbnfReader(std::string_view text, const std::string& where) : where_(where) {
    if (text.size() > kMaxGbnfBytes)
      fail(ErrorKind::kUnsupported, where, "the grammar has {} bytes, at most {} can be held", text.size(), kMaxGbnfBytes);
    while (!text.empty()) {
      const DecodedChar next = decode_utf8(text);
      if (next.bytes == 0) bad(text_.size(), "this is not UTF-8");
      text_.push_back(next.code);
      text.remove_prefix(static_cast<std::size_t>(next.bytes));
    }
  }

  // By number, as kRule expressions name them.
  std::deque<GbnfRule> read() {
    skip_space(true);
    while (more()) read_rule();
    for (const GbnfRule& rule : rules_) {
      if (rule.line == 0) bad(rule.mentioned, fmt::format("the rule '{}' is used here, and defined nowhere", rule.name));
    }
    if (!numbers_.contains("root")) fail(ErrorKind::kBadInput, where_, "there is no rule 'root', where a text begins");
    return std::move(rules_);
  }

  int root() const { return numbers_.at("root"); }

 private:
  bool more() const { return at_ < text_.size(); }
  char32_t peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : U'\0'; }
  bool take(char32_t c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::pair<int, int> line_and_column(std::size_t position) const {
    int line = 1, column = 1;
    for (std::size_t i = 0; i < position; ++i) {
      ++column;
      if (text_[i] == '\n') ++line, column = 1;
    }
    return {line, column};
  }
  int line_of(std::size_t position) {  // positions in ascending order: a grammar may have many rules
    for (; counted_ < position; ++counted_) line_ += text_[counted_] == '\n' ? 1 : 0;
    return line_;
  }
  [[noreturn]] void bad(std::size_t position, std::string_view what, ErrorKind kind = ErrorKind::kBadInput) const {
    const auto [line, column] = line_and_column(position);
    fail(kind, where_, "line {}, column {}: {}", line, column, what);
  }

  void skip_space(bool over_lines);
  std::string name();
  int number_of(const std::string& name, std::size_t position);
  void read_rule();
  ExpressionId alternatives(int depth);
  ExpressionId sequence(int depth);
  bool symbol(int depth, ExpressionId& expression);
  ExpressionId literal();
  ExpressionId char_class();
  ExpressionId repeated(ExpressionId part);
  std::uint32_t count();
  char32_t character();
  char32_t hex(int digits);

  std::string where_;
  std::u32string text_;
  std::size_t at_ = 0;
  std::size_t counted_ = 0;  // up to here line_of() has counted
  int line_ = 1;
  std::deque<GbnfRule> rules_;
  std::map<std::string, int, std::less<>> numbers_;
  ExpressionTree* tree_ = nullptr;  // of the rule that is being read
};

void GbnfReader::skip_space(bool over_lines) {
  while (more()) {
    const char32_t c = peek();
    if (c == '#') {
      while (more() && peek() != '\n' && peek() != '\r') ++at_;
    } else if (c == ' ' || c == '\t' || (over_lines && (c == '\n' || c == '\r'))) {
      ++at_;
    } else {
      return;
    }
  }
}

std::string GbnfReader::name() {
  std::string text;
  while (is_name_char(peek())) text += static_cast<char>(text_[at_++]);
  if (text.empty()) bad(at_, "expected the name of a rule: letters, digits, - and _");
  return text;
}

int GbnfReader::number_of(const std::string& name, std::size_t position) {
  const auto [known, fresh] = numbers_.try_emplace(name, static_cast<int>(rules_.size()));
  if (fresh) rules_.push_back({.name = name, .mentioned = position, .line = 0, .tree = {}, .root = 0});
  return known->second;
}

void GbnfReader::read_rule() {
  const std::size_t begin = at_;
  const std::string text = name();
  const int number = number_of(text, begin);
  GbnfRule& rule = rules_[static_cast<std::size_t>(number)];
  if (rule.line != 0) bad(begin, fmt::format("the rule '{}' is defined a second time, first in line {}", text, rule.line));
  rule.line = line_of(begin);
  skip_space(false);
  if (!(take(':') && take(':') && take('='))) bad(at_, fmt::format("expected ::= behind the name '{}'", text));
  skip_space(true);
  tree_ = &rule.tree;
  rule.root = alternatives(0);
  if (more() && !take('\n') && !take('\r')) bad(at_, "expected a symbol, | or the end of the line");
  skip_space(true);
}

ExpressionId GbnfReader::alternatives(int depth) {
  std::vector<ExpressionId> parts = {sequence(depth)};
  while (take('|')) {
    skip_space(true);
    parts.push_back(sequence(depth));
  }
  return parts.size() == 1 ? parts.front() : tree_->choice(std::move(parts));
}

ExpressionId GbnfReader::sequence(int depth) {
  std::vector<ExpressionId> parts;
  ExpressionId part = 0;
  while (symbol(depth, part)) {
    skip_space(depth > 0);
    parts.push_back(repeated(part));
    skip_space(depth > 0);
  }
  const char32_t c = peek();
  if (parts.empty() && (c == '*' || c == '+' || c == '?' || c == '{')) bad(at_, "there is nothing before this repetition");
  return parts.size() == 1 ? parts.front() : tree_->sequence(std::move(parts));
}

// False where no symbol begins.
bool GbnfReader::symbol(int depth, ExpressionId& expression) {
  const std::size_t begin = at_;
  const char32_t c = peek();
  if (c == '"') {
    expression = literal();
  } else if (c == '[') {
    expression = char_class();
  } else if (take('.')) {
    expression = tree_->chars(CharSet::all());
  } else if (is_name_char(c)) {
    expression = tree_->rule(number_of(name(), begin));
  } else if (take('(')) {
    if (depth == kMaxGroupDepth)
      bad(begin, fmt::format("groups stand in each other more than {} deep", kMaxGroupDepth), ErrorKind::kUnsupported);
    skip_space(true);
    expression = alternatives(depth + 1);
    if (!take(')')) bad(begin, "this group is not closed");
  } else if (c == '<' || (c == '!' && peek(1) == '<')) {
    bad(begin, "references to tokens cannot be followed: write the text", ErrorKind::kUnsupported);
  } else {
    return false;
  }
  return true;
}

ExpressionId GbnfReader::literal() {
  const std::size_t begin = at_++;
  std::vector<ExpressionId> parts;
  while (!take('"')) {
    if (!more()) bad(begin, "this text has no \" at its end");
    const char32_t code = character();
    parts.push_back(tree_->chars({{code, code}}));
  }
  return tree_->sequence(std::move(parts));
}

ExpressionId GbnfReader::char_class() {
  const std::size_t begin = at_++;
  const bool negated = take('^');
  CharSet set;
  while (!take(']')) {
    if (!more()) bad(begin, "this class of characters has no ] at its end");
    const std::size_t position = at_;
    const char32_t first = character();
    char32_t last = first;
    if (peek() == '-' && peek(1) != ']' && at_ + 1 < text_.size()) {
      ++at_;
      last = character();
    }
    if (first > last) bad(position, "the range in this class runs backwards");
    set.add(first, last);
  }
  return tree_->chars(negated ? set.negated() : set.intersected(CharSet::all()));
}

// With the repetitions that stand behind it, one after another: x?* is (x?)*.
ExpressionId GbnfReader::repeated(ExpressionId part) {
  for (int depth = 0;; ++depth) {
    const std::size_t begin = at_;
    std::uint32_t min = 0, max = kUnlimited;
    if (take('+')) {
      min = 1;
    } else if (take('?')) {
      max = 1;
    } else if (take('{')) {
      skip_space(false);
      min = max = count();
      skip_space(false);
      if (take(',')) {
        skip_space(false);
        max = peek() == '}' ? kUnlimited : count();
        skip_space(false);
      }
      if (!take('}')) bad(at_, "expected } behind the number of repetitions");
      if (min > max) bad(begin, fmt::format("from {} to {} times is no repetition", min, max));
    } else if (!take('*')) {
      return part;
    }
    if (depth == kMaxSigns) bad(begin, fmt::format("more than {} repetitions of one thing", kMaxSigns), ErrorKind::kUnsupported);
    part = tree_->repeat(part, min, max);
    skip_space(false);
  }
}

std::uint32_t GbnfReader::count() {
  const std::size_t begin = at_;
  std::uint32_t value = 0;
  for (; peek() >= '0' && peek() <= '9'; ++at_) {
    value = value * 10 + (peek() - '0');
    if (value > kMaxRepeatCount)
      bad(begin, fmt::format("at most {} repetitions can be counted", kMaxRepeatCount), ErrorKind::kUnsupported);
  }
  if (at_ == begin) bad(begin, "expected a number of repetitions");
  return value;
}

char32_t GbnfReader::character() {
  const std::size_t begin = at_;
  const char32_t c = text_[at_++];
  if (c != '\\') return c;
  if (!more()) bad(begin, "a backslash at the end takes nothing");
  switch (const char32_t kind = text_[at_++]; kind) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
      return kind;
    case 'x':
      return hex(2);
    case 'u':
      return hex(4);
    case 'U':
      return hex(8);
    default:
      bad(begin, "this escape is not known: there are \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\xHH \\uHHHH \\UHHHHHHHH");
  }
}

char32_t GbnfReader::hex(int digits) {
  const std::size_t begin = at_;
  char32_t value = 0;
  for (int i = 0; i < digits; ++i) {
    const char32_t c = peek(), low = c | 0x20;
    const bool digit = c >= '0' && c <= '9', letter = low >= 'a' && low <= 'f';
    if (!digit && !letter) bad(begin, fmt::format("expected {} hexadecimal digits", digits));
    value = value * 16 + (digit ? c - '0' : low - 'a' + 10);
    ++at_;
  }
  if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) bad(begin, "this number is no character's");
  return value;
}

}  // namespace

Grammar gbnf_grammar(std::string_view text, const std::string& where) {
  GbnfReader reader(text, where);
  const std::deque<GbnfRule> rules = reader.read();
  GrammarBuilder builder(where);
  for (const GbnfRule& rule : rules) builder.add_rule(fmt::format("the rule '{}' (line {})", rule.name, rule.line));
  for (int i = 0; i < static_cast<int>(rules.size()); ++i) {
    const GbnfRule& rule = rules[static_cast<std::size_t>(i)];
    builder.add_empty(add_expression(builder, rule.tree, rule.root, builder.start_of(i), spell_plain), builder.end_of(i));
  }
  return builder.finish(reader.root(), kMaxGbnfNesting);
}

}  // namespace puna
