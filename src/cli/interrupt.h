// SPDX-License-Identifier: Apache-2.0
// Ctrl-C, and SIGTERM. Outside an InterruptScope they end the process at once with exit code 130, or 143; inside one they only
// raise a flag that the generation loop, the writers of models and the line editor look at; a verb that ends because of it throws
// Interrupted (base/interrupted.h), which run_command_line() catches. Where the scope says so, a second Ctrl-C before the flag is
// taken down ends the process.
#pragma once

#include <atomic>
#include <exception>

#include "base/interrupted.h"

namespace puna {

constexpr int kInterruptedExit = 130;
constexpr int kTerminatedExit = 143;

// Installs the handler; called once, before any verb runs.
void handle_interrupts();

enum class SecondPress { kEndsProcess, kIgnored };

class InterruptScope {
 public:
  explicit InterruptScope(SecondPress second);
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

// Raised by Ctrl-C inside a scope. A reader takes it down by storing false.
std::atomic<bool>& interrupt_flag();

class Terminated : public std::exception {
 public:
  const char* what() const noexcept override { return "terminated"; }
};
// Whether SIGTERM came inside a scope, for those that Ctrl-C does not end: it raises the flag too, and is not taken down with it.
bool is_terminated();
// Throws Terminated where it did; run_command_line() catches that.
void stop_if_terminated();

// Whether it came again since the scope began, for scopes that ignore the second press.
bool interrupted_twice();

}  // namespace puna
