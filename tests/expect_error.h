// SPDX-License-Identifier: Apache-2.0
// Asserts that something throws a puna::Error of one kind whose message contains a text.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace puna {

template <typename Action>
void expect_error(ErrorKind kind, std::string_view message, Action&& action) {
  try {
    action();
    ADD_FAILURE() << "nothing was thrown, expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(std::string(message)));
  }
}

}  // namespace puna
