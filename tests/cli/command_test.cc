// SPDX-License-Identifier: Apache-2.0
// The verbs, their flags, and all that is written from them: completion, the man page, and that the guide has a page per verb.
#include "cli/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <variant>

#include "cli/completion.h"
#include "cli/man_page.h"
#include "cli/verb.h"
#include "expect_error.h"
#include "shared_data.h"
#include "train/recipe.h"

namespace puna {
namespace {

using testing::HasSubstr;

const std::vector<Command>& commands() {
  static const std::vector<Command> declared = declare_verbs();
  return declared;
}

std::filesystem::path guide(const std::string& page) { return std::filesystem::path(PUNA_SOURCE_DIR) / "docs" / "guide" / page; }

TEST(Command, HoldsWhatWasDeclared) {
  std::int64_t context = 3;
  bool json = false, given = false;
  std::string model;
  Command command("show", "Look into a model", "what a model is");
  command.positional("MODEL", &model, "a model").required = true;
  command.flag("-c,--context", "N", &context, "positions").range = {0, 8};
  command.flag("--json", &json, "print JSON").given = &given;
  ASSERT_EQ(command.flags.size(), 4U);
  EXPECT_EQ(command.flags[0].names, (std::vector<std::string>{"-h", "--help"}));
  EXPECT_FALSE(command.flags[0].takes_value());
  EXPECT_TRUE(command.flags[1].positional && command.flags[1].required && command.flags[1].takes_value());
  EXPECT_EQ(command.flags[2].names, (std::vector<std::string>{"-c", "--context"}));
  EXPECT_EQ(command.flags[2].range->high, 8);
  EXPECT_EQ(std::get<std::int64_t*>(command.flags[2].target), &context);
  EXPECT_TRUE(command.flags[2].choices().empty());
  EXPECT_FALSE(command.flags[3].takes_value());
  EXPECT_EQ(command.flags[3].given, &given);
}

TEST(Verbs, EachFlagIsExplainedAndNamedOnce) {
  ASSERT_EQ(commands().size(), verbs().size());
  for (const Command& verb : commands()) {
    EXPECT_FALSE(verb.about.empty()) << verb.name;
    EXPECT_FALSE(verb.about.ends_with('.')) << verb.name;
    std::set<std::string> names;
    for (const Flag& flag : verb.flags) {
      EXPECT_FALSE(flag.about.empty()) << verb.name << " " << flag.names.back();
      EXPECT_EQ(flag.takes_value() && !flag.positional, !flag.value.empty() && !flag.positional)
          << verb.name << " " << flag.names.back();
      for (const std::string& name : flag.names) EXPECT_TRUE(names.insert(name).second) << verb.name << " " << name;
    }
    EXPECT_TRUE(names.count("--help")) << verb.name;
  }
}

TEST(Verbs, FlagsSayWhatTheyTake) {
  const auto verb = std::find_if(commands().begin(), commands().end(), [](const Command& v) { return v.name == "run"; });
  ASSERT_NE(verb, commands().end());
  const auto flag = [&](const std::string& name) {
    for (const Flag& candidate : verb->flags) {
      if (std::find(candidate.names.begin(), candidate.names.end(), name) != candidate.names.end()) return candidate;
    }
    ADD_FAILURE() << name;
    return Flag();
  };
  EXPECT_EQ(flag("--kv").choices(), (std::vector<std::string>{"f32", "f16", "bf16", "q8_0", "f8_e4m3"}));
  EXPECT_FALSE(flag("--raw").takes_value());
  EXPECT_TRUE(flag("--tools").takes_file());
  EXPECT_TRUE(flag("MODEL").positional && !flag("MODEL").required && flag("MODEL").takes_file());
  EXPECT_EQ(flag("-t").names, (std::vector<std::string>{"-t", "--threads"}));
}

// The name that a page explains a flag under: the fields of a recipe, each a flag of `puna train`, share one row.
std::string explained_name(const Command& verb, const std::string& name) {
  static const std::set<std::string> fields = [] {
    Recipe recipe;
    std::set<std::string> names;
    for (const RecipeField& field : recipe_fields(recipe)) names.insert("--" + std::string(field.name));
    return names;
  }();
  return verb.name == "train" && fields.count(name) ? "--KEY=VALUE" : name;
}

TEST(Guide, HasAPageForEachVerbThatNamesEachFlag) {
  for (const Command& verb : commands()) {
    const std::string page = read_text(guide(verb.name + ".md"));
    ASSERT_FALSE(page.empty()) << "docs/guide/" << verb.name << ".md is missing";
    EXPECT_TRUE(page.starts_with("# ")) << verb.name;
    EXPECT_THAT(page, HasSubstr("```sh\n"));
    for (const Flag& flag : verb.flags) {
      if (flag.positional || flag.names.back() == "--help") continue;
      for (const std::string& own_name : flag.names) {
        const std::string name = explained_name(verb, own_name);
        EXPECT_TRUE(page.find("`" + name + "`") != std::string::npos || page.find("`" + name + " ") != std::string::npos)
            << "docs/guide/" << verb.name << ".md does not explain " << name;
      }
    }
    EXPECT_THAT(read_text(guide("README.md")), HasSubstr("(" + verb.name + ".md)"));
  }
}

TEST(Guide, NamesNoFlagThatIsNotThere) {
  for (const Command& verb : commands()) {
    std::set<std::string> known;
    for (const Flag& flag : verb.flags) {
      for (const std::string& name : flag.names) known.insert(explained_name(verb, name));
    }
    const std::string page = read_text(guide(verb.name + ".md"));
    for (std::size_t at = page.find("| `-"); at != std::string::npos; at = page.find("| `-", at + 1)) {
      const std::size_t begin = at + 3;
      const std::string name = page.substr(begin, page.find_first_of(" `", begin) - begin);
      EXPECT_TRUE(known.count(name)) << "docs/guide/" << verb.name << ".md explains " << name << ", which is no flag";
    }
  }
}

TEST(Guide, ListsEveryExitCode) {
  const std::string page = read_text(guide("exit-codes.md"));
  for (int code = 0; code <= static_cast<int>(ErrorKind::kUnsupported); ++code) {
    EXPECT_THAT(page, HasSubstr("\n| " + std::to_string(code) + " |"));
  }
}

TEST(Completion, NamesEveryVerbAndFlag) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = completion_script(commands(), shell);
    for (const Command& verb : commands()) {
      EXPECT_THAT(script, HasSubstr(verb.name)) << shell;
      for (const Flag& flag : verb.flags) {
        if (flag.positional) continue;
        const std::string name = flag.names.back();
        EXPECT_THAT(script, HasSubstr(std::string(shell) == "fish" ? "-l " + name.substr(2) : name)) << shell;
      }
    }
  }
  expect_error(ErrorKind::kUsage, "'bsh' is not one of bash, zsh and fish: did you mean bash?",
               [] { completion_script(commands(), "bsh"); });
}

TEST(ManPage, NamesEveryVerbAndFlag) {
  const std::string page = man_page(commands());
  EXPECT_TRUE(page.starts_with(".TH PUNA 1"));
  for (const Command& verb : commands()) {
    std::string heading = verb.name;
    if (const std::size_t dash = heading.find('-'); dash != std::string::npos) heading.replace(dash, 1, "\\-");
    EXPECT_THAT(page, HasSubstr(".SS " + heading + "\n"));
  }
  EXPECT_THAT(page, HasSubstr("\\fB\\-t\\fR, \\fB\\-\\-threads\\fR \\fIN\\fR"));
}

}  // namespace
}  // namespace puna
