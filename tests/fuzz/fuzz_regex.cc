// SPDX-License-Identifier: Apache-2.0
// Regular expressions from outside, and texts walked through them. The bytes up to the first line end are the pattern.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "grammar/char_automaton.h"
#include "grammar/pushdown.h"
#include "grammar/regex.h"
#include "text/unicode.h"

namespace {

// Both ways to follow a pattern agree on every text.
void follow(std::string_view pattern, std::string_view text) {
  const puna::Regex regex = puna::parse_regex(pattern, "pattern", puna::RegexMatch::kWhole);
  const puna::CharAutomaton chars = puna::CharAutomaton::from_expression(regex.tree, regex.root, "pattern");
  puna::Pushdown automaton(std::make_shared<const puna::Grammar>(puna::regex_grammar(pattern, "pattern")), 8);
  puna::Position position = automaton.start();
  for (const char byte : text) position = automaton.step(position, static_cast<std::uint8_t>(byte));
  if (puna::valid_utf8_prefix(text) == text.size() && automaton.may_end(position) != chars.matches(text)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string_view pattern = bytes.substr(0, bytes.find('\n'));
  try {
    follow(pattern, bytes.substr(std::min(pattern.size() + 1, bytes.size())));
  } catch (const puna::Error& error) {
    if (error.kind() == puna::ErrorKind::kInternal) throw;
  }
  return 0;
}
