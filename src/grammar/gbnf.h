// SPDX-License-Identifier: Apache-2.0
// GBNF, the grammar language of llama.cpp (its grammars/README.md):
//   name ::= alternative | alternative     one rule a line; a line that ends in ::= or | goes on, and so does an open group
//   "text"  [a-z_]  [^"\\]  .              characters; . is any one, line ends among them
//   other-rule  (group)
//   x* x+ x? x{2} x{2,} x{2,5}             repeat what stands before
//   \n \r \t \\ \" \[ \] \- \xHH \uHHHH \UHHHHHHHH     in texts and classes; the numbers are code points
//   # to the end of the line               a comment
// Names are letters, digits, - and _. The text is one of the rule `root`, in UTF-8. Rules may nest kMaxGbnfNesting deep, where a
// rule that is called at the very end of another does not count; what would nest deeper is not allowed.
#pragma once

#include <string>
#include <string_view>

#include "grammar/grammar.h"

namespace puna {

// `where` stands in the brackets of messages. Throws kBadInput with "line 3, column 7" for what is no GBNF, for rules that are used
// and not defined or defined twice, and for a grammar of no text; kUnsupported for left recursion, for references to tokens (<…>),
// and above kMaxGbnfBytes or 64 groups in each other.
Grammar gbnf_grammar(std::string_view text, const std::string& where);

inline constexpr std::size_t kMaxGbnfBytes = std::size_t{1} << 20;
inline constexpr int kMaxGbnfNesting = 1000;

}  // namespace puna
