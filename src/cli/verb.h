// SPDX-License-Identifier: Apache-2.0
// The verbs of the command line: one row each in verbs.cc, one file each in commands/. `puna --help`, `puna help`, the completion
// scripts, the man page and the test that each verb has a page in docs/guide/ all walk the same rows.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

namespace puna {

// What a verb does once its flags are read.
using VerbAction = std::function<void()>;

struct Verb {
  std::string_view name;                 // "prompt-format"
  std::string_view group;                // the heading it stands under in `puna --help`
  std::string_view about;                // one line
  VerbAction (*declare)(CLI::App& app);  // declares the flags on the verb's own app
};
std::span<const Verb> verbs();

// The whole command line. Parsing it leaves the chosen verb's action in `chosen`, which outlives the app.
std::unique_ptr<CLI::App> make_app(VerbAction& chosen);

}  // namespace puna
