// SPDX-License-Identifier: Apache-2.0
// Regular expressions: the part of ECMA 262's syntax (with its `u` flag: characters are code points) that describes a set of texts.
//   a|b  ab  (a) (?:a) (?<name>a)          alternatives, sequences, groups; groups capture nothing
//   a* a+ a? a{n} a{n,} a{n,m}             repetitions; a ? behind one changes nothing, since the set of texts stays the same
//   . [abc] [^a-z]                         . is every character but \n \r U+2028 U+2029; [] is none, [^] every one
//   \d \D \w \W \s \S                      [0-9], [A-Za-z0-9_], ECMA's white space and line ends
//   \p{L} \P{Letter}                       Unicode's general categories, by short or long name, also gc=… and Any
//   \t \n \v \f \r \0 \cX \xHH \uHHHH \u{H} \uD83D\uDE00
//   \/ \- \. …                             a backslash before punctuation takes it as it is; so do { } ] where they mean nothing
//   else ^ $                                    begin and end of the text; not inside a repetition other than ?
// Refused with its position: look-around, back-references, \b and \B, flags, properties other than general categories.
#pragma once

#include <string>
#include <string_view>

#include "grammar/expression.h"
#include "grammar/grammar.h"

namespace puna {

// What must match: the whole text, or some part of it, as JSON Schema's `pattern` has it.
enum class RegexMatch { kWhole, kPart };

// The set of texts that match, without anchors.
struct Regex {
  ExpressionTree tree;
  ExpressionId root = 0;
};

// `where` stands in the brackets of messages. Throws kBadInput for what is no regular expression, kUnsupported for what cannot be
// followed, both with the position as "character 5"; kUnsupported above kMaxRegexBytes, kMaxRegexDepth or kMaxRepeatCount.
Regex parse_regex(std::string_view pattern, const std::string& where, RegexMatch match);

// Texts that match as a whole, in UTF-8.
Grammar regex_grammar(std::string_view pattern, const std::string& where);

inline constexpr std::size_t kMaxRegexBytes = 10'000;
inline constexpr int kMaxRegexDepth = 64;
inline constexpr std::uint32_t kMaxRepeatCount = 1'000'000;

}  // namespace puna
