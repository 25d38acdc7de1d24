// SPDX-License-Identifier: Apache-2.0
// What an enum lists, found by what a value is: 1 is 1.0, and members of objects may stand in any order.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"

namespace puna {

class ListedValues {
 public:
  explicit ListedValues(const std::vector<Json>& values);
  bool contains(const Json& value) const;

 private:
  std::set<std::string> written_;  // ordered: nobody can choose values that all meet in one bucket
};

// What it costs to copy a value or to look for it, in steps of a CompileBudget.
std::size_t value_steps(const Json& value);

}  // namespace puna
