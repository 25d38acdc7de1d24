// SPDX-License-Identifier: Apache-2.0
// What is said of words that cannot be read. That values arrive where they should is seen through the shell, in tests/e2e.
#include "cli/parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/verb.h"
#include "expect_error.h"

namespace puna {
namespace {

using testing::HasSubstr;

VerbAction parse(std::vector<const char*> words) {
  words.insert(words.begin(), "puna");
  return parse_command_line(static_cast<int>(words.size()), words.data());
}

void expect_usage(const char* message, const std::vector<const char*>& words) {
  expect_error(ErrorKind::kUsage, message, [&] { parse(words); });
}

TEST(Parser, ReadsAVerbWithItsFlags) {
  EXPECT_TRUE(parse({"show", "model.gguf", "--json", "-c", "16", "--kv=q8_0"}));
  EXPECT_TRUE(parse({"run", "model.gguf", "--stop", "a", "--stop", "b", "-n", "-1"}));
  EXPECT_TRUE(parse({"run", "model.gguf", "-n", "-08", "--seed", "18446744073709551615"}));
}

TEST(Parser, NamesWhatDoesNotFit) {
  expect_usage("give a verb, for example puna run MODEL (see puna --help)", {});
  expect_usage("unknown verb 'shwo': did you mean show? (see puna --help)", {"shwo"});
  expect_usage("[show] unknown flag '--tensor': did you mean --tensors? (see puna help show)", {"show", "m", "--tensor=1"});
  expect_usage("[show] unexpected argument 'n' (see puna help show)", {"show", "m", "n"});
}

TEST(Parser, ChecksValues) {
  expect_usage("[score] MODEL is required", {"score"});
  expect_usage("[quantize] --type is required", {"quantize", "m", "o.gguf"});
  expect_usage("[run] --threads: Value 1025 not in range 0 to 1024", {"run", "m", "-t", "1025"});
  expect_usage("[run] --max-tokens = many: this is not a number that it can take", {"run", "m", "-n", "many"});
  for (const char* word : {"0x10", "1e2", "7 ", "+7", "99999999999999999999", ""})
    expect_usage("this is not a number that it can take", {"run", "m", "-n", word});
  expect_usage("[run] --threads: Value 2000 not in range 0 to 1024", {"run", "m", "-t", "02000"});  // in octal, 1024
  expect_usage("[run] --temp: At Most 1 required but received 2", {"run", "m", "--temp", "1", "--temp", "2"});
  expect_usage("[run] --stop: 1 required TEXT missing", {"run", "m", "--stop"});
}

TEST(HelpText, HasEveryVerbAndItsNotes) {
  const std::string help = help_text();
  EXPECT_THAT(help, HasSubstr(std::string(kProgramAbout)));
  for (const Verb& verb : verbs()) EXPECT_THAT(help, HasSubstr("\n  " + std::string(verb.name) + " "));
  EXPECT_THAT(help_text("quantize"), HasSubstr("Types:\n"));
  EXPECT_THAT(help_text("score"), HasSubstr("-c,--context N"));
}

}  // namespace
}  // namespace puna
