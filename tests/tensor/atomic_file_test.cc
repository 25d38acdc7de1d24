// SPDX-License-Identifier: Apache-2.0
#include "tensor/atomic_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "expect_error.h"
#include "shared_data.h"
#include "temp_folder.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

TEST(AtomicFile, IsThereWhenItIsCommitted) {
  const TempFolder folder;
  std::ofstream(folder / "a") << "before";
  {
    AtomicFile file(folder / "a");
    file.write("after");
    EXPECT_EQ(read_text(folder / "a"), "before");
  }
  EXPECT_EQ(read_text(folder / "a"), "before") << "nobody committed";
  AtomicFile file(folder / "a");
  file.write("after");
  file.commit();
  EXPECT_EQ(read_text(folder / "a"), "after");
}

TEST(AtomicFile, ReplacesNoFolderAndNoDevice) {
  const TempFolder folder;
  expect_error(ErrorKind::kUsage, "is a folder: give the name of the file to write", [&] { AtomicFile file(folder.path()); });
  expect_error(ErrorKind::kUsage, "is no file: give the name of the file to write", [] { AtomicFile file("/dev/null"); });
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST(CheckNotRead, KnowsAFileByEveryName) {
  const TempFolder folder;
  std::ofstream(folder / "a") << "a";
  std::ofstream(folder / "b") << "b";
  fs::create_symlink(folder / "a", folder / "link");
  fs::create_hard_link(folder / "a", folder / "hard");
  const std::vector<fs::path> inputs{folder / "none", folder / "a"};
  for (const fs::path& out : {folder / "a", folder / "link", folder / "hard", folder.path() / "." / "a"})
    expect_error(ErrorKind::kUsage, "this file is read", [&] { check_not_read(out, inputs); });
  check_not_read(folder / "b", inputs);
  check_not_read(folder / "none", inputs);
}

}  // namespace
}  // namespace puna
