// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"

#include <CLI/CLI.hpp>
#include <csignal>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verb.h"

namespace puna {
namespace {

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

// The action to run; empty where help or the version was asked for and has been printed.
VerbAction parse(int argc, char** argv) {
  VerbAction chosen;
  const std::unique_ptr<CLI::App> app = make_app(chosen);
  try {
    app->parse(argc, argv);
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

}  // namespace

int run_command_line(int argc, char** argv) {
  handle_interrupts();
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe comes back as an error of write(), and a closed socket as one of libcurl
  try {
    if (const VerbAction action = parse(argc, argv)) action();
    return 0;
  } catch (const Error& error) {
    write_error(error.what());
    return static_cast<int>(error.kind());
  } catch (const Interrupted&) {
    return kInterruptedExit;
  } catch (const OutputClosed&) {
    return kOutputClosedExit;
  } catch (const std::bad_alloc&) {
    write_error("the machine has no memory left for this");
    return static_cast<int>(ErrorKind::kNoRoom);
  } catch (const std::exception& error) {
    write_error(std::string("a defect in puna, please report it: ") + error.what());
    return static_cast<int>(ErrorKind::kInternal);
  }
}

}  // namespace puna
