// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.h"

#include <unistd.h>

#include <csignal>

namespace puna {
namespace {

std::atomic<bool> raised{false};
std::atomic<bool> twice{false};
std::atomic<bool> terminated{false};
std::atomic<bool> polled{false};       // inside a scope
std::atomic<bool> second_ends{false};  // the scope's SecondPress
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may take no lock");

void on_interrupt(int signal) {
  if (signal == SIGTERM) terminated = true;  // before the flag, which whoever takes it down then asks about
  const bool second = raised.exchange(true);
  if (second) twice = true;
  if (!polled || (second && second_ends)) ::_exit(128 + signal);
}

}  // namespace

void handle_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);  // no SA_RESTART: a read of the terminal returns, so that the line editor sees the flag
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

InterruptScope::InterruptScope(SecondPress second) {
  raised = false;
  twice = false;
  terminated = false;
  second_ends = second == SecondPress::kEndsProcess;
  polled = true;
}

InterruptScope::~InterruptScope() { polled = false; }

std::atomic<bool>& interrupt_flag() { return raised; }

bool is_terminated() { return terminated; }

void stop_if_terminated() {
  if (terminated) throw Terminated();
}

bool interrupted_twice() { return twice; }

}  // namespace puna
