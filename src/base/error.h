// SPDX-License-Identifier: Apache-2.0
// The one error type that ends a command or a request. A message says where, what was found, what was expected, what to do:
//   [model.gguf] tensor blk.3.ffn_up.weight ends at byte 612368384, past the end of the file (611000320): download it again
// Errors are caught in three places only: cli/main, the server's request wrapper, the thread pool (which rethrows on the caller).
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace puna {

// What kind of thing went wrong. The value is the exit code of the command line (docs/guide/exit-codes.md).
enum class ErrorKind : int {
  kInternal = 1,     // a defect in Puna: a check that failed
  kUsage = 2,        // a wrong flag or argument
  kBadInput = 3,     // a file or text whose bytes are not what they should be
  kNotFound = 4,     // a file, model or repository that is not there
  kNoRoom = 5,       // it does not fit in memory, in the context or on the disk
  kNetwork = 6,      // a server could not be reached, or answered with an error
  kUnsupported = 7,  // well-formed, but nothing here can run it
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& where, const std::string& what)
      : std::runtime_error(where.empty() ? what : "[" + where + "] " + what), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// Throws Error with a formatted message. `where` is a file name, a flag or an operation: what stands in the brackets.
template <typename... Args>
[[noreturn]] void fail(ErrorKind kind, const std::string& where, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(kind, where, fmt::format(text, std::forward<Args>(args)...));
}

// A programmer's expectation: throws kInternal when it does not hold. Never used on data from outside.
#define PUNA_CHECK(condition, where, ...)                                             \
  do {                                                                                \
    if (!(condition)) ::puna::fail(::puna::ErrorKind::kInternal, where, __VA_ARGS__); \
  } while (false)

}  // namespace puna
