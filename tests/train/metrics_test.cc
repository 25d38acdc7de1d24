// SPDX-License-Identifier: Apache-2.0
#include "train/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace puna {
namespace {

namespace fs = std::filesystem;

std::string bytes(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text += static_cast<char>(value);
  return text;
}

// RFC 3720, appendix B.4.
TEST(TensorBoard, Crc32cOfThePublishedExamples) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
}

// Written out by hand from tensorflow/core/util/event.proto and the wire format: 09 double wall_time, 10 varint step, 2a summary
// {0a value {0a tag, 15 float}}.
TEST(TensorBoard, AScalarEvent) {
  EXPECT_EQ(tensorboard_scalar(1.0, 300, "a/b", 0.5f),
            bytes({0x09, 0,    0,    0,    0,    0,   0,   0xf0, 0x3f, 0x10, 0xac, 0x02, 0x2a,
                   0x0c, 0x0a, 0x0a, 0x0a, 0x03, 'a', '/', 'b',  0x15, 0,    0,    0,    0x3f}));
}

TEST(TensorBoard, ARecordHasItsLengthAndTwoSums) {
  const std::string record = tensorboard_record("abc");
  ASSERT_EQ(record.size(), 8u + 4u + 3u + 4u);
  EXPECT_EQ(record.substr(0, 8), bytes({3, 0, 0, 0, 0, 0, 0, 0}));
  const auto sum_at = [&](std::size_t at) {
    std::uint32_t sum = 0;
    std::memcpy(&sum, record.data() + at, 4);
    return sum;
  };
  const auto masked = [](std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; };
  EXPECT_EQ(sum_at(8), masked(crc32c(record.substr(0, 8))));
  EXPECT_EQ(sum_at(15), masked(crc32c("abc")));
}

class MetricsTest : public testing::Test {
 protected:
  MetricsTest() : folder_(fs::temp_directory_path() / ("puna-metrics-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~MetricsTest() override { fs::remove_all(folder_); }
  std::string lines() const {
    std::ifstream file(folder_ / "metrics.jsonl");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  fs::path folder_;
};

TEST_F(MetricsTest, OneLinePerStep) {
  MetricsLog log(folder_, 0);
  log.add(1, "train", {{"loss", 2.5}, {"norm", NAN}});
  log.add_text(1, "sample", "Once", "upon\n");
  EXPECT_EQ(lines(),
            "{\"step\":1,\"kind\":\"train\",\"loss\":2.5,\"norm\":null}\n"
            "{\"step\":1,\"kind\":\"sample\",\"name\":\"Once\",\"text\":\"upon\\n\"}\n");
}

TEST_F(MetricsTest, AResumedRunForgetsWhatItDoesAgain) {
  {
    MetricsLog log(folder_, 0);
    for (int step = 1; step <= 5; ++step) log.add(step, "train", {{"loss", 1.0}});
  }
  std::ofstream(folder_ / "metrics.jsonl", std::ios::app) << "{\"step\":6,\"ki";  // torn by a kill
  MetricsLog log(folder_, 3);
  log.add(4, "train", {{"loss", 9.0}});
  EXPECT_THAT(lines(),
              ::testing::EndsWith("{\"step\":3,\"kind\":\"train\",\"loss\":1.0}\n{\"step\":4,\"kind\":\"train\",\"loss\":9.0}\n"));
}

TEST_F(MetricsTest, ARunThatGoesBackForgetsWhatItTakesAgain) {
  {
    MetricsLog log(folder_, 0);
    for (int step = 1; step <= 6; ++step) log.add(step, "train", {{"loss", 1.0}});
    log.cut(3);
    log.add_text(3, "fault", "roll_back", "step 7");
    for (int step = 4; step <= 5; ++step) log.add(step, "train", {{"loss", 9.0}});
  }
  const MetricsLog resumed(folder_, 4);
  EXPECT_THAT(lines(), ::testing::EndsWith("{\"step\":3,\"kind\":\"train\",\"loss\":1.0}\n"
                                           "{\"step\":3,\"kind\":\"fault\",\"name\":\"roll_back\",\"text\":\"step 7\"}\n"
                                           "{\"step\":4,\"kind\":\"train\",\"loss\":9.0}\n"));
}

}  // namespace
}  // namespace puna
