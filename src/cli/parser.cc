// SPDX-License-Identifier: Apache-2.0
// The only file that includes CLI11: its headers cost three seconds wherever they are read.
#include "cli/parser.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <memory>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/output.h"
#include "cli/verb.h"

namespace puna {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

// CLI11 would read 010 as eight and 0x10 as sixteen: here a whole number is decimal, and all of the word.
template <typename Whole>
void read_as_decimal(CLI::Option& option) {
  option.transform([&option](const std::string& word) {
    Whole value = 0;
    const char* const end = word.data() + word.size();
    const auto [rest, error] = std::from_chars(word.data(), end, value);
    if (error != std::errc() || rest != end) throw CLI::ConversionError(option.get_name(), std::vector<std::string>{word});
    return std::to_string(value);
  });
}

template <typename Value>
void add_valued(CLI::App& app, const Flag& flag, Value& value) {
  CLI::Option* option = app.add_option(joined(flag.names), value, flag.about);
  option->type_name(flag.value)->required(flag.required);
  if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
    if (!flag.positional) option->expected(1)->allow_extra_args(false)->take_all();
  }
  if (!flag.may_be_empty)
    option->check([](const std::string& word) { return word.empty() ? "the value is empty: give one, or leave it out" : ""; });
  if (flag.range) option->check(CLI::Range(flag.range->low, flag.range->high).description(""));
  if constexpr (std::is_integral_v<Value>) read_as_decimal<Value>(*option);
  if (flag.given != nullptr) option->each([given = flag.given](const std::string&) { *given = true; });
}

void add_flag(CLI::App& app, const Flag& flag) {
  std::visit(
      [&](auto target) {
        if constexpr (std::is_same_v<decltype(target), std::monostate>) {
          app.set_help_flag(joined(flag.names), flag.about);
        } else if constexpr (std::is_same_v<decltype(target), bool*>) {
          app.add_flag(joined(flag.names), *target, flag.about);
        } else {
          add_valued(app, flag, *target);
        }
      },
      flag.target);
}

// Parsing leaves the chosen verb's action in `chosen`, which outlives the app.
std::unique_ptr<CLI::App> make_app(VerbAction& chosen) {
  auto app = std::make_unique<CLI::App>(std::string(kProgramAbout), "puna");
  app->get_formatter()->column_width(34);
  app->get_formatter()->label("SUBCOMMAND", "VERB");
  app->get_formatter()->label("REQUIRED", "");
  app->require_subcommand(0, 1);  // one verb: behind it, a word that is also a verb is an argument
  app->set_help_flag("-h,--help", "print this help");
  app->set_version_flag("--version", "puna " PUNA_VERSION, "print the version");
  app->footer("puna help VERB explains a verb. The guide is in docs/guide/.");
  for (const Command& command : declare_verbs()) {
    CLI::App* verb = app->add_subcommand(command.name, command.about);
    verb->group(command.group);
    verb->footer(command.notes);
    for (const Flag& flag : command.flags) add_flag(*verb, flag);
    verb->callback([&chosen, action = command.action] { chosen = action; });
  }
  return app;
}

bool takes_value(const CLI::App& verb, const std::string& flag) {
  const CLI::Option* option = flag.starts_with("-") ? verb.get_option_no_throw(flag) : nullptr;
  return option != nullptr && option->get_items_expected_max() > 0;
}

// The words, last first, as CLI11 takes them. It would read the word behind "--flag=" as its value: here that is "--flag" and "".
std::vector<std::string> reversed_words(const CLI::App& app, int argc, const char* const* argv) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  const auto verb = app.get_subcommands([&](const CLI::App* each) { return !words.empty() && each->get_name() == words.front(); });
  for (std::size_t i = 1; !verb.empty() && i < words.size() && words[i] != "--"; ++i) {
    const std::string flag = words[i].substr(0, words[i].find('='));
    if (!takes_value(*verb.front(), flag)) continue;
    if (flag.starts_with("--") && words[i] == flag + "=") {
      words[i] = flag;
      words.insert(words.begin() + static_cast<std::ptrdiff_t>(i) + 1, "");
    }
    if (words[i] == flag) ++i;  // the word behind it is its value, whatever it looks like
  }
  std::reverse(words.begin(), words.end());
  return words;
}

std::vector<std::string> flag_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

// CLI11 says what is wrong with values; words that fit nowhere are named here, with the nearest that would.
[[noreturn]] void fail_usage(CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  CLI::App& level = chosen.empty() ? app : *chosen.front();
  const std::string where = chosen.empty() ? "" : level.get_name();
  const std::string help = chosen.empty() ? "see puna --help" : "see puna help " + level.get_name();
  for (const std::string& word : level.remaining(true)) {
    if (word.size() > 1 && word.front() == '-') {
      const std::string flag = word.substr(0, word.find('='));
      fail(ErrorKind::kUsage, where, "unknown flag '{}'{} ({})", flag, did_you_mean(flag, flag_names(level)), help);
    }
    if (chosen.empty()) {
      std::vector<std::string> names;
      for (const Verb& verb : verbs()) names.emplace_back(verb.name);
      fail(ErrorKind::kUsage, where, "unknown verb '{}'{} ({})", word, did_you_mean(word, names), help);
    }
    fail(ErrorKind::kUsage, where, "unexpected argument '{}' ({})", word, help);
  }
  std::string problem = error.what();
  constexpr std::string_view kNotConverted = "Could not convert: ";
  if (problem.starts_with(kNotConverted))
    problem = problem.substr(kNotConverted.size()) + ": this is not a number that it can take";
  fail(ErrorKind::kUsage, where, "{} ({})", problem, help);
}

}  // namespace

VerbAction parse_command_line(int argc, const char* const* argv) {
  VerbAction chosen;
  const std::unique_ptr<CLI::App> app = make_app(chosen);
  try {
    app->parse(reversed_words(*app, argc, argv));
  } catch (const CLI::CallForHelp&) {
    write_out(app->help());  // of the chosen verb, where there is one
    return {};
  } catch (const CLI::CallForVersion& version) {
    write_out(std::string(version.what()) + "\n");
    return {};
  } catch (const CLI::ParseError& error) {
    fail_usage(*app, error);
  }
  if (!chosen) fail(ErrorKind::kUsage, "", "give a verb, for example puna run MODEL (see puna --help)");
  return chosen;
}

std::string help_text(const std::string& verb) {
  VerbAction unused;
  const std::unique_ptr<CLI::App> app = make_app(unused);
  return verb.empty() ? app->help() : app->get_subcommand(verb)->help("puna");
}

}  // namespace puna
