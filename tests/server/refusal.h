// SPDX-License-Identifier: Apache-2.0
// What a request is refused for.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>

#include "server/api_error.h"

namespace puna {

// The param and the code of what `act` throws, which must say 400; "nothing" where it throws nothing.
inline std::pair<std::string, std::string> refused(const std::function<void()>& act) {
  try {
    act();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 400);
    return {error.param(), error.code()};
  }
  return {"nothing", "nothing"};
}

}  // namespace puna
