// SPDX-License-Identifier: Apache-2.0
// Mapped files, SHA-256 against FIPS 180-2 and OpenSSL's command line, checked arithmetic, sizes for people.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "base/sha256.h"

namespace puna {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("puna-mapped-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  std::filesystem::path folder_;
};

std::string text(const MappedFile& file) { return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}; }

TEST_F(MappedFileTest, ShowsTheBytes) {
  const MappedFile file(write("a", std::string("x\0y", 3)));
  EXPECT_EQ(text(file), std::string("x\0y", 3));
  EXPECT_EQ(file.path(), folder_ / "a");
}

TEST_F(MappedFileTest, AnEmptyFileHasNoBytes) {
  const MappedFile file(write("empty", ""));
  EXPECT_TRUE(file.bytes().empty());
  file.prefetch();
  file.release(0, 100);
}

TEST_F(MappedFileTest, Moves) {
  MappedFile a(write("a", "first"));
  MappedFile b(write("b", "second"));
  b = std::move(a);
  EXPECT_EQ(text(b), "first");
  const MappedFile c(std::move(b));
  EXPECT_EQ(text(c), "first");
}

TEST_F(MappedFileTest, ReleasedPagesReadTheSame) {
  std::string content(100000, 'a');
  content[50000] = 'b';
  const MappedFile file(write("large", content));
  EXPECT_EQ(text(file), content);
  file.release(0, content.size());
  file.release(4096, std::numeric_limits<std::size_t>::max());
  file.release(std::numeric_limits<std::size_t>::max(), 4096);
  EXPECT_EQ(text(file), content);
}

TEST_F(MappedFileTest, SaysWhyItCannotOpen) {
  const auto refusal = [](const std::filesystem::path& path, ErrorKind kind) -> std::string {
    try {
      MappedFile file(path);
      return "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      EXPECT_THAT(error.what(), StartsWith("[" + path.string() + "] "));
      return error.what();
    }
  };
  EXPECT_THAT(refusal(folder_ / "absent", ErrorKind::kNotFound), HasSubstr("No such file or directory"));
  EXPECT_THAT(refusal(folder_, ErrorKind::kBadInput), HasSubstr("this is a directory, expected a regular file"));
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(refusal(folder_ / "pipe", ErrorKind::kBadInput), HasSubstr("a pipe or device"));  // and does not wait for a writer
}

std::string sha256(const std::string& text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.finish();
}

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PartsGiveTheSameAsTheWhole) {
  const std::string text(1'000'000, 'a');
  Sha256 hash;
  for (std::size_t at = 0; at < text.size(); at += 7777)
    hash.update(std::as_bytes(std::span(text)).subspan(at, std::min<std::size_t>(7777, text.size() - at)));
  EXPECT_EQ(hash.finish(), sha256(text));
}

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

TEST(CheckedMath, RefusesToWrap) {
  EXPECT_EQ(checked_add(2, 3), 5u);
  EXPECT_EQ(checked_add(kMost, 0), kMost);
  EXPECT_EQ(checked_add(kMost, 1), std::nullopt);
  EXPECT_EQ(checked_multiply(1ull << 32, 1ull << 31), 1ull << 63);
  EXPECT_EQ(checked_multiply(1ull << 32, 1ull << 32), std::nullopt);
  EXPECT_EQ(checked_multiply(0, kMost), 0u);
}

TEST(CheckedMath, RangeFits) {
  EXPECT_TRUE(range_fits(0, 10, 10));
  EXPECT_TRUE(range_fits(10, 0, 10));
  EXPECT_FALSE(range_fits(11, 0, 10));
  EXPECT_FALSE(range_fits(1, 10, 10));
  EXPECT_FALSE(range_fits(kMost, kMost, 10));
  EXPECT_FALSE(range_fits(5, kMost, 10));
}

TEST(HumanBytes, PicksTheUnit) {
  EXPECT_EQ(human_bytes(0), "0 bytes");
  EXPECT_EQ(human_bytes(999), "999 bytes");
  EXPECT_EQ(human_bytes(1000), "1.0 KB");
  EXPECT_EQ(human_bytes(17'240), "17.2 KB");
  EXPECT_EQ(human_bytes(999'999), "1.0 MB");
  EXPECT_EQ(human_bytes(340'000'000), "340.0 MB");
  EXPECT_EQ(human_bytes(999'999'999), "1.00 GB");
  EXPECT_EQ(human_bytes(2'476'584'096), "2.48 GB");
  EXPECT_EQ(human_bytes(140'000'000'000), "140.00 GB");
}

TEST(ProgressBar, IsSilentWhereThereIsNoTerminal) {
  testing::internal::CaptureStderr();
  {
    ProgressBar bar("reading", 100, "bytes");
    bar.advance(50);
    bar.set(100);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Error, PutsThePlaceInBrackets) {
  EXPECT_STREQ(Error(ErrorKind::kUsage, "--top-k", "-1 is not a count").what(), "[--top-k] -1 is not a count");
  EXPECT_STREQ(Error(ErrorKind::kInternal, "", "no place").what(), "no place");
  try {
    fail(ErrorKind::kNoRoom, "model.gguf", "{} of {} bytes", 3, 4);
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), 5);
    EXPECT_STREQ(error.what(), "[model.gguf] 3 of 4 bytes");
  }
}

}  // namespace
}  // namespace puna
