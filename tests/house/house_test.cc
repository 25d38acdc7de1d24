// SPDX-License-Identifier: Apache-2.0
// The rules of the house, checked on this repository, and each check tried on a small tree that breaks its rule.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "house/source_tree.h"

namespace puna::house {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const fs::path kRoot = PUNA_SOURCE_DIR;

TEST(House, IncludesRunDownOnly) {
  EXPECT_GE(floors(kRoot).size(), 8u);
  EXPECT_THAT(check_floors(kRoot), IsEmpty());
}
TEST(House, NoFilesInACircle) { EXPECT_THAT(check_circles(kRoot), IsEmpty()); }
TEST(House, FilesAreLicensedShortAndUniquelyNamed) { EXPECT_THAT(check_files(kRoot), IsEmpty()); }
TEST(House, LinksLeadSomewhere) { EXPECT_THAT(check_links(kRoot), IsEmpty()); }
TEST(House, TheReadmeIsShort) {
  EXPECT_GT(lines_of(kRoot / "README.md").size(), 0u);
  EXPECT_LE(lines_of(kRoot / "README.md").size(), 80u);
}

// A tree of two floors that keeps every rule, for tests to break.
class SmallHouse : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("puna-house-" + std::to_string(::getpid()));
    write("docs/ARCHITECTURE.md",
          "# Plan\n| 1 | `src/base/` | low |\n| 2 | `src/text/` | high |\n| 2 | `src/tensor/` | beside |\n");
    write("src/CMakeLists.txt",
          "puna_folder(base LIBRARIES x)\npuna_folder(text FLOORS base)\npuna_folder(tensor FLOORS base LIBRARIES y)\n");
    source("src/base/low.h", "");
    source("src/text/high.h", "#include <vector>\n#include \"base/low.h\"\n");
    source("src/tensor/view.h", "#include \"base/low.h\"\n");
    source("src/main.cc", "#include \"text/high.h\"\n");
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& file, const std::string& content) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file, std::ios::binary) << content;
  }
  void source(const std::string& file, const std::string& content) {
    write(file, "// SPDX-License-Identifier: Apache-2.0\n" + content);
  }

  fs::path root_;
};

TEST_F(SmallHouse, IsInOrder) {
  EXPECT_THAT(check_floors(root_), IsEmpty());
  EXPECT_THAT(check_circles(root_), IsEmpty());
  EXPECT_THAT(check_files(root_), IsEmpty());
  EXPECT_THAT(check_links(root_), IsEmpty());
}

TEST_F(SmallHouse, SeesAnArrowThatRunsUp) {
  source("src/base/low.h", "#  include \"text/high.h\"\n");
  EXPECT_THAT(check_floors(root_), ElementsAre("src/base/low.h:2: base (floor 1) includes text (floor 2)"));
}

TEST_F(SmallHouse, SeesAnArrowThatRunsSideways) {
  source("src/tensor/view.h", "#include \"text/high.h\"\n");
  EXPECT_THAT(check_floors(root_), ElementsAre("src/tensor/view.h:2: tensor (floor 2) includes text (floor 2)"));
}

TEST_F(SmallHouse, SeesWhereCMakeDisagrees) {
  write("src/CMakeLists.txt", "puna_folder(base)\npuna_folder(text)\npuna_folder(tensor FLOORS base text)\n");
  EXPECT_THAT(check_floors(root_), UnorderedElementsAre("src/CMakeLists.txt: tensor links text, which is not below it",
                                                        "src/text/high.h:3: text includes base, which CMake does not link to it"));
}

TEST_F(SmallHouse, SeesPathsThatDoNotStartFromSrc) {
  source("src/text/high.h", "#include \"low.h\"\n");
  EXPECT_THAT(check_floors(root_), ElementsAre("src/text/high.h:2: there is no src/low.h: paths start from src/"));
}

TEST_F(SmallHouse, SeesFoldersAndRowsWithoutEachOther) {
  source("src/extra/new.h", "");
  fs::remove_all(root_ / "src/tensor");
  EXPECT_THAT(check_floors(root_),
              ElementsAre("docs/ARCHITECTURE.md: there is no src/tensor/", "docs/ARCHITECTURE.md: no row for src/extra/"));
}

TEST_F(SmallHouse, SeesCircles) {
  source("src/text/a.h", "#include \"text/b.h\"\n");
  source("src/text/b.h", "#include \"text/c.h\"\n");
  source("src/text/c.h", "#include \"text/a.h\"\n");
  EXPECT_THAT(check_circles(root_), ElementsAre("src/text/a.h -> src/text/b.h -> src/text/c.h -> src/text/a.h"));
}

TEST_F(SmallHouse, SeesTwoHeadersOfOneName) {
  source("tests/text/low.h", "");
  EXPECT_THAT(check_files(root_), ElementsAre("src/base/low.h and tests/text/low.h have the same base name"));
}

TEST_F(SmallHouse, SeesLongAndUnlicensedFiles) {
  source("src/base/long.cc", std::string(800, '\n'));
  write("tools/plot.py", "#!/usr/bin/env python3\nprint()\n");
  write("build/generated.h", "\n");
  write("bench/node_modules/their.h", "\n");
  EXPECT_THAT(check_files(root_),
              ElementsAre("src/base/long.cc: 801 lines, more than 800", "tools/plot.py: the SPDX line is missing"));
}

TEST_F(SmallHouse, SeesBrokenLinks) {
  write("README.md",
        "# Top\n[plan](docs/ARCHITECTURE.md#plan) [top](#top) [web](https://example.org/x)\n`[code](nowhere)`\n```\n"
        "[fenced](nowhere)\n```\n[gone](docs/GONE.md)\n[heading](docs/ARCHITECTURE.md#walls)\n");
  EXPECT_THAT(check_links(root_), ElementsAre("README.md:7: docs/GONE.md does not exist",
                                              "README.md:8: docs/ARCHITECTURE.md#walls has no such heading"));
}

}  // namespace
}  // namespace puna::house
