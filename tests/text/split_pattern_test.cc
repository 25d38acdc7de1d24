// SPDX-License-Identifier: Apache-2.0
// The hand-written split against the regular expression itself, run by PCRE2. Two differences between PCRE2 and the Rust engine of
// tiktoken are taken out of the comparison: \s is spelt out as White_Space (PCRE2 counts U+180E in), and characters newer than
// PCRE2's Unicode 14 are not drawn.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/split_pattern.h"

#include <gtest/gtest.h>
#include <pcre2.h>
#include <unicode/uchar.h>

#include <memory>

#include "base/random.h"
#include "text/unicode.h"

namespace puna {
namespace {

const std::string kSpaceClass = R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

class Regex {
 public:
  explicit Regex(std::string pattern) {
    pattern = replace_all(pattern, R"([^\s\p{L}\p{N}])", "[^" + kSpaceClass + R"(\p{L}\p{N}])");
    pattern = replace_all(pattern, R"(\S)", "[^" + kSpaceClass + "]");
    pattern = replace_all(pattern, R"(\s)", "[" + kSpaceClass + "]");
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error, &offset,
                              nullptr));
    EXPECT_NE(code_, nullptr) << pattern << " at " << offset;
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
    match_.reset(pcre2_match_data_create(1, nullptr));
  }

  std::vector<std::string> split(const std::string& text) const {
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size();) {
      const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, PCRE2_ANCHORED,
                                    match_.get(), nullptr);
      if (found < 1) {
        pieces.push_back("no match");
        break;
      }
      const PCRE2_SIZE end = pcre2_get_ovector_pointer(match_.get())[1];
      pieces.push_back(text.substr(at, end - at));
      at = end;
    }
    return pieces;
  }

 private:
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code_{nullptr, pcre2_code_free};
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match_{nullptr, pcre2_match_data_free};
};

std::vector<std::string> split(SplitPattern pattern, std::string_view text) {
  std::vector<std::string> pieces;
  split_text(pattern, text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

bool is_drawable(char32_t code) {
  if (code >= 0xD800 && code < 0xE000) return false;
  UVersionInfo version;
  u_charAge(static_cast<UChar32>(code), version);
  return version[0] <= 14;
}

const char* const kGpt2Regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class SplitAgainstRegex : public testing::TestWithParam<SplitPattern> {
 protected:
  const Regex regex_{GetParam() == SplitPattern::kLlama3 ? std::string(kLlama3Regex) : std::string(kGpt2Regex)};
};

TEST_P(SplitAgainstRegex, EveryCodePoint) {
  // Each character alone, in a word, before a word, after a space and before line ends.
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (!is_drawable(code)) continue;
    std::string c;
    append_utf8(code, c);
    const std::string text = c + "a" + c + c + " " + c + "1" + c + "\n" + c;
    ASSERT_EQ(split(GetParam(), text), regex_.split(text)) << std::hex << static_cast<std::uint32_t>(code);
  }
}

TEST_P(SplitAgainstRegex, RandomMixtures) {
  const std::vector<std::string> parts = {
      "a",  "Z",  "é",      "ſ", "s", "S",  "'",  "'",  "t",      "re",   "RE", "ve",     "ll",     "lL",     "m",      "d",
      "1",  "22", "٣",      "Ⅷ", "²", "中", "ไ",  "्",   "\u0301", "ǅ",    "𝔘",  "😀",      ".",      "-",      "_",      "(",
      "<|", "€",  "\u200d", " ", " ", "  ", "\t", "\n", "\r",     "\r\n", "\v", "\u0085", "\u00a0", "\u2028", "\u3000", "\u200b"};
  for (std::uint64_t round = 0; round < 100000; ++round) {
    std::string text;
    const std::uint64_t length = 1 + random_bits(1, round, 0) % 14;
    for (std::uint64_t i = 1; i <= length; ++i) text += parts[random_bits(1, round, i) % parts.size()];
    ASSERT_EQ(split(GetParam(), text), regex_.split(text)) << round << ": " << text;
  }
}

TEST_P(SplitAgainstRegex, RandomCodePoints) {
  for (std::uint64_t round = 0; round < 20000; ++round) {
    std::string text;
    for (std::uint64_t i = 0; i < 30; ++i) {
      const std::uint64_t bits = random_bits(2, round, i);
      const auto code = static_cast<char32_t>((bits >> 8) % ((bits & 3) == 0 ? 0x110000 : (bits & 3) == 1 ? 0x3100 : 0x80));
      if (is_drawable(code)) append_utf8(code, text);
    }
    ASSERT_EQ(split(GetParam(), text), regex_.split(text)) << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, SplitAgainstRegex, testing::Values(SplitPattern::kLlama3, SplitPattern::kGpt2),
                         [](const auto& tested) { return tested.param == SplitPattern::kLlama3 ? "Llama3" : "Gpt2"; });

TEST(SplitPattern, FollowsRustWherePcre2Differs) {
  // U+180E is not White_Space, so it joins punctuation; the long s folds to s.
  EXPECT_EQ(split(SplitPattern::kLlama3, "\u180e!"), (std::vector<std::string>{"\u180e!"}));
  EXPECT_EQ(split(SplitPattern::kLlama3, "it'ſ"), (std::vector<std::string>{"it", "'ſ"}));
  EXPECT_EQ(split(SplitPattern::kGpt2, "it'ſ"), (std::vector<std::string>{"it", "'", "ſ"}));
}

TEST(Unicode, FindsTheValidPrefix) {
  EXPECT_EQ(valid_utf8_prefix("plain ascii text of some length"), 31u);
  EXPECT_EQ(valid_utf8_prefix("aé中😀"), 10u);
  for (const char* bad :
       {"\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\x80", "\xE4\xB8", "\xFF"}) {
    EXPECT_EQ(valid_utf8_prefix("ok" + std::string(bad)), 2u);
    EXPECT_EQ(decode_utf8(bad).bytes, 0);
  }
  for (char32_t code : {0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    std::string text;
    append_utf8(code, text);
    EXPECT_EQ(decode_utf8(text).code, code);
    EXPECT_EQ(decode_utf8(text).bytes, static_cast<int>(text.size()));
  }
}

TEST(Unicode, StripsAsPythonDoes) {
  EXPECT_EQ(strip_space(" \t\n\u3000\x1f a b \u00a0\r\n"), "a b");
  EXPECT_EQ(strip_space("\u200bx\u200b"), "\u200bx\u200b");  // no white space
  EXPECT_EQ(strip_space(" \n "), "");
  EXPECT_EQ(strip_space("x\xA0"), "x\xA0");  // a byte that is not a character
}

}  // namespace
}  // namespace puna
