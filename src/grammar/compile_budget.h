// SPDX-License-Identifier: Apache-2.0
// What compiling one schema may cost, counted so that every machine refuses the same ones. A request holds a worker of the server
// while it is compiled, and a kilobyte can ask for years: combinations of anyOf grow as powers.
#pragma once

#include <cstddef>
#include <string>

#include "base/error.h"

namespace puna {

class CompileBudget {
 public:
  // Of 10 to 70 ns each: a second together, or less. Schemas of thousands of members take a hundredth.
  static constexpr std::size_t kMaxSteps = 20'000'000;

  static constexpr std::size_t kNumberSteps = 10;  // two numbers compared

  // Throws kUnsupported naming `where`, then and ever after, once the steps are more than kMaxSteps.
  void spend(std::size_t steps, const std::string& where) {
    if (steps > kMaxSteps - spent_) {
      spent_ = kMaxSteps;
      fail(ErrorKind::kUnsupported, where,
           "following the schema takes more than {} steps, which end here: write fewer alternatives, patterns and listed values",
           kMaxSteps);
    }
    spent_ += steps;
  }

 private:
  std::size_t spent_ = 0;
};

}  // namespace puna
