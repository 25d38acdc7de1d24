// SPDX-License-Identifier: Apache-2.0
// What a bar draws on a terminal of its own.
#include "base/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <string>

namespace puna {
namespace {

// What `draw` writes to standard error while that is a terminal.
template <typename Draw>
std::string on_terminal(const Draw& draw) {
  int ours = -1, terminal = -1;
  EXPECT_EQ(::openpty(&ours, &terminal, nullptr, nullptr, nullptr), 0);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(terminal, STDERR_FILENO);
  draw();
  ::dup2(before, STDERR_FILENO);
  std::string text(4096, '\0');
  text.resize(static_cast<std::size_t>(::read(ours, text.data(), text.size())));
  for (const int descriptor : {before, terminal, ours}) ::close(descriptor);
  return text;
}

TEST(ProgressBar, ShowsTheControlCharactersOfALabelAsSymbols) {
  const std::string seen = on_terminal([] {
    ProgressBar bar("a\x1b]0;b\x07\xc2\x9b", 10, "bytes");
    bar.set(5);
  });
  EXPECT_THAT(seen, testing::HasSubstr("a␛]0;b␇\xEF\xBF\xBD ["));
  EXPECT_THAT(seen, testing::HasSubstr("5 bytes of 10 bytes"));
}

}  // namespace
}  // namespace puna
