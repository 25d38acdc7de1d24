// SPDX-License-Identifier: Apache-2.0
#include "server/line_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "expect_error.h"
#include "temp_folder.h"

namespace puna {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class LineFile : public ::testing::Test {
 protected:
  void write(std::string_view text) const { std::ofstream(path_, std::ios::binary) << text; }
  std::string text() const {
    std::ostringstream all;
    all << std::ifstream(path_, std::ios::binary).rdbuf();
    return all.str();
  }

  TempFolder folder_;
  std::filesystem::path path_ = folder_.path() / "lines";
};

TEST_F(LineFile, HoldsWhatIsAdded) {
  EXPECT_THAT(complete_lines(path_), IsEmpty());
  append_line(path_, "one");
  append_line(path_, "");
  append_line(path_, std::string(10'000, 'x'));
  EXPECT_EQ(text(), "one\n\n" + std::string(10'000, 'x') + "\n");
  EXPECT_THAT(complete_lines(path_), ElementsAre("one", "", std::string(10'000, 'x')));
}

TEST_F(LineFile, WhatWasCutOffIsNobodysAndGoes) {
  for (const std::size_t cut : {1, 4095, 4096, 4097, 9000}) {
    write("one\n" + std::string(cut, 'x'));
    EXPECT_THAT(complete_lines(path_), ElementsAre("one")) << cut;
    append_line(path_, "two");
    EXPECT_EQ(text(), "one\ntwo\n") << cut;
  }
  write("no end");
  append_line(path_, "two");
  EXPECT_EQ(text(), "two\n");
}

TEST_F(LineFile, SaysWhereThereIsNoRoom) {
  expect_error(ErrorKind::kNoRoom, "No space left", [] { append_line("/dev/full", "x"); });
  expect_error(ErrorKind::kNoRoom, "cannot write here", [&] { append_line(folder_.path() / "absent" / "lines", "x"); });
}

}  // namespace
}  // namespace puna
