// SPDX-License-Identifier: Apache-2.0
// What is said of words that cannot be read. That values arrive where they should is seen through the shell, in tests/e2e.
#include "cli/parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <variant>
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

// What an unset shell variable leaves, of every flag but the texts that may be empty.
TEST(Parser, RefusesEmptyValues) {
  for (const Command& verb : declare_verbs()) {
    for (const Flag& flag : verb.flags) {
      const bool whole = std::holds_alternative<int*>(flag.target) || std::holds_alternative<std::int64_t*>(flag.target) ||
                         std::holds_alternative<std::uint64_t*>(flag.target);
      if (flag.positional || !flag.takes_value() || flag.may_be_empty || whole) continue;
      const std::string& name = flag.names.back();
      const std::string message = "[" + verb.name + "] " + name + ": the value is empty: give one, or leave it out";
      expect_usage(message.c_str(), {verb.name.c_str(), name.c_str(), ""});
      expect_usage(message.c_str(), {verb.name.c_str(), (name + "=").c_str(), "--help"});
    }
  }
  expect_usage("[run] --seed = : this is not a number", {"run", "m", "--seed=", "--json"});
  expect_usage("[stop] MODEL: the value is empty", {"stop", ""});  // it would stop the whole server
  expect_usage("[serve] MODEL: the value is empty", {"serve", "a", ""});
}

TEST(Parser, TakesTextsThatAreEmpty) {
  EXPECT_TRUE(parse({"run", "m", "--raw", "-p", ""}));
  EXPECT_TRUE(parse({"run", "m", "--prompt=", "--system=", "--json"}));
  EXPECT_TRUE(parse({"run", "m", "-p", "--stop=", "--stop", "--seed=", "-n", "1"}));  // values that look like flags
  EXPECT_TRUE(parse({"tokenize", "m", ""}));
  EXPECT_TRUE(parse({"tokenize", "m", "--", "--decode="}));
  EXPECT_TRUE(parse({"score", "m", "--text", ""}));
  EXPECT_TRUE(parse({"train", "r", "--distillation.teacher=", "--data", "[a.bin]"}));  // as docs/guide/distill-data.md has it
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
