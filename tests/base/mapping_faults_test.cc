// SPDX-License-Identifier: Apache-2.0
#include "base/mapping_faults.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "base/thread_pool.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

class MappingFaults : public testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::path(testing::TempDir()) / (std::string("mapped_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    write(path_);
  }
  void TearDown() override { fs::remove(path_); }

  static void write(const fs::path& path) { std::ofstream(path) << std::string(100'000, 'x'); }
  bool is_cut() const { return was_cut_short(std::vector<fs::path>{path_}); }
  static int last_of(const MappedFile& file) { return std::to_integer<int>(*(&file.bytes().back())); }

  fs::path path_;
};

using MappingFaultsDeathTest = MappingFaults;

TEST_F(MappingFaultsDeathTest, AFileThatIsCutShortEndsTheProgramWithItsName) {
  EXPECT_EXIT(
      {
        tell_of_mapping_faults();
        const MappedFile file(path_);
        fs::resize_file(path_, 10);
        ::_exit(last_of(file));
      },
      testing::ExitedWithCode(3),
      "puna: \\[.*mapped_.*\\] the file was cut short .* has 10 bytes, and had 100000: write files beside");
}

TEST_F(MappingFaultsDeathTest, AWorkerMayBeTheOneThatTouchesIt) {
  EXPECT_EXIT(
      {
        tell_of_mapping_faults();
        const MappedFile file(path_);
        fs::resize_file(path_, 10);
        ThreadPool pool(2);
        pool.run([&](int thread) {
          if (thread == 1) ::_exit(last_of(file));
        });
      },
      testing::ExitedWithCode(3), "has 10 bytes, and had 100000");
}

TEST_F(MappingFaultsDeathTest, AMappingThatMovesIsStillKnown) {
  EXPECT_EXIT(
      {
        tell_of_mapping_faults();
        MappedFile first(path_);
        const MappedFile file(std::move(first));
        fs::resize_file(path_, 0);
        ::_exit(last_of(file));
      },
      testing::ExitedWithCode(3), "has 0 bytes, and had 100000");
}

TEST_F(MappingFaultsDeathTest, OtherBusErrorsAreWhatTheyWere) {
  EXPECT_EXIT(
      {
        tell_of_mapping_faults();
        const MappedFile file(path_);
        ::raise(SIGBUS);
        ::raise(SIGBUS);
        ::_exit(0);
      },
      testing::KilledBySignal(SIGBUS), "");
}

TEST_F(MappingFaults, KnowsWhatWasCutShortBeforeItIsTouched) {
  EXPECT_FALSE(is_cut()) << "nobody has mapped it";
  {
    const MappedFile file(path_);
    EXPECT_FALSE(is_cut());
    fs::resize_file(path_, 99'999);
    EXPECT_TRUE(is_cut());
    fs::resize_file(path_, 100'000);
    EXPECT_FALSE(is_cut());
    fs::resize_file(path_, 10);
  }
  EXPECT_FALSE(is_cut()) << "nobody has it mapped any more";
}

TEST_F(MappingFaults, AFileThatIsReplacedIsTheOneThatWasThereBefore) {
  const MappedFile file(path_);
  const fs::path other = path_.string() + ".new";
  std::ofstream(other) << "short";
  fs::rename(other, path_);
  EXPECT_FALSE(is_cut());
  EXPECT_EQ(last_of(file), 'x');
  fs::remove(path_);
  EXPECT_FALSE(is_cut());
  write(path_);
}

}  // namespace
}  // namespace puna
