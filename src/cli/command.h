// SPDX-License-Identifier: Apache-2.0
// A verb and its flags as plain data. The parser, the help, the completion scripts, the man page and the test of the guide walk the
// same list, and only parser.cc knows the library that reads the words.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace puna {

// What a verb does once its flags are read.
using VerbAction = std::function<void()>;

struct WholeRange {
  std::int64_t low = 0, high = 0;  // both belong to it
};

struct Flag {
  // Where the value goes; what is there before is the default. bool: a switch, which takes no value. vector: may be repeated, and
  // a positional takes all words that are left. Nowhere: the flag that prints the help.
  using Target =
      std::variant<std::monostate, bool*, int*, std::int64_t*, std::uint64_t*, double*, std::string*, std::vector<std::string>*>;

  std::vector<std::string> names;  // "-t", "--threads"; the bare name of a positional
  std::string value;               // what help shows for the value: "N", "FILE"; with bars, "f32|f16|q8_0", what completion offers
  Target target;
  std::string about;
  bool positional = false, required = false;
  std::optional<WholeRange> range = {};  // of a number
  bool* given = nullptr;                 // set where the flag stands on the command line
  bool may_be_empty = false;             // "" is a value too; elsewhere it is refused, as an unset shell variable leaves it

  bool takes_value() const { return target.index() > 1; }
  std::vector<std::string> choices() const;  // of a value with bars, else none
  bool takes_file() const;                   // completes to file names
};

struct Command {
  Command(std::string_view its_name, std::string_view its_group, std::string_view its_about);  // with --help

  // Each returns what it adds, valid until the next, so that one more property can be set: flag(…).range = {0, 1024};
  Flag& flag(std::string_view names, std::string_view value, Flag::Target target, std::string_view help);  // names: "-t,--threads"
  Flag& flag(std::string_view names, bool* target, std::string_view help);
  Flag& positional(std::string_view word, Flag::Target target, std::string_view help);

  std::string name, group, about;
  std::string notes;  // below the flags in the help
  std::vector<Flag> flags;
  VerbAction action;
};

}  // namespace puna
