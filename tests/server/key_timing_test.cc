// SPDX-License-Identifier: Apache-2.0
// Whether the time in which a key is refused says how much of it was right (Reparaz, Balasch and Verbauwhede, 2017, "Dude, is my
// code constant time?"): keys of two classes in random order, and Welch's t between their times. What surprises: nothing here
// compares a time with a clock on the wall, only two classes with each other that ran in turns, so a busy machine slows both.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "server/access.h"

namespace puna {
namespace {

constexpr std::size_t kKeyLength = 32, kProbes = 100'000, kDifferentKeys = 256;
// With so many probes 10 is a difference of a nanosecond or two; what leaves a loop early is beyond 50.
constexpr double kAlike = 10, kDifferent = 50;

using Keys = std::vector<std::string>;

class Letters {
 public:
  std::string some(std::size_t count) {
    std::string text(count, ' ');
    for (char& letter : text) letter = static_cast<char>('a' + random_() % 26);
    return text;
  }
  // Wrong keys whose first `right` letters are `key`'s.
  Keys wrong(const std::string& key, std::size_t right) {
    Keys keys;
    for (std::size_t i = 0; i < kDifferentKeys; ++i) {
      keys.push_back(key.substr(0, right) + some(kKeyLength - right));
      if (right < kKeyLength) keys.back()[right] = static_cast<char>(key[right] ^ 1);
    }
    return keys;
  }

 private:
  std::mt19937_64 random_{7};
};

// Welch's t between the quicker half of all: what the system did meanwhile makes the other half.
double welch_t(const std::array<std::vector<double>, 2>& times) {
  std::vector<double> all(times[0]);
  all.insert(all.end(), times[1].begin(), times[1].end());
  std::ranges::nth_element(all, all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2));
  const double median = all[all.size() / 2];
  std::array<double, 2> mean{}, error{};
  for (std::size_t c = 0; c < 2; ++c) {
    double count = 0, sum = 0, squares = 0;
    for (const double time : times[c]) {
      if (time > median) continue;
      ++count;
      sum += time;
      squares += time * time;
    }
    if (count < 2) return std::numeric_limits<double>::infinity();  // one class has no quick ones at all
    mean[c] = sum / count;
    error[c] = (squares / count - mean[c] * mean[c]) / count;
  }
  const double both = std::sqrt(error[0] + error[1]);
  return both > 0 ? (mean[0] - mean[1]) / both : mean[0] == mean[1] ? 0 : std::numeric_limits<double>::infinity();
}

// |t| between two classes of keys; `compare` sees every key in the same place.
double difference(const std::function<bool(const HttpRequest&)>& compare, const std::array<Keys, 2>& classes) {
  HttpRequest request{.method = "GET", .path = "/v1/models", .query = "", .headers = {}, .body = "", .peer = "127.0.0.1"};
  request.headers.emplace_back("authorization", "Bearer " + std::string(kKeyLength, ' '));
  std::string& header = request.headers.front().second;
  std::array<std::vector<double>, 2> times;
  std::mt19937_64 random(11);
  [[maybe_unused]] volatile bool seen = false;
  for (std::size_t i = 0; i < kProbes; ++i) {
    const std::uint64_t draw = random();
    const std::string& key = classes[draw & 1][(draw >> 1) % classes[draw & 1].size()];
    std::ranges::copy(key, header.end() - kKeyLength);
    const auto begin = std::chrono::steady_clock::now();
    seen = compare(request);
    const auto end = std::chrono::steady_clock::now();
    times[draw & 1].push_back(std::chrono::duration<double, std::nano>(end - begin).count());
  }
  return std::abs(welch_t(times));
}

// What shows once may be chance, or the machine's; what is there shows every time.
double least_difference(const std::function<bool(const HttpRequest&)>& compare, const std::array<Keys, 2>& classes) {
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 5 && least >= kAlike; ++i) least = std::min(least, difference(compare, classes));
  return least;
}

class KeyTiming : public testing::Test {
 protected:
  KeyTiming() {
    for (int i = 0; i < 64; ++i) keys_.push_back(letters_.some(kKeyLength));
  }
  static std::function<bool(const HttpRequest&)> comparison_with(const Access& access) {
    return [&access](const HttpRequest& request) { return access.right_of(request) != Right::kNone; };
  }

  Letters letters_;
  Keys keys_;
};

TEST_F(KeyTiming, DoesNotSayHowMuchOfAKeyIsRight) {
  const Access access({.infer_keys = {keys_.front()}}, "0.0.0.0", false);
  for (const std::size_t right : {1U, 16U, 31U}) {
    const double t = least_difference(comparison_with(access), {letters_.wrong(keys_[0], 0), letters_.wrong(keys_[0], right)});
    EXPECT_LT(t, kAlike) << right << " letters";
    RecordProperty("t_of_" + std::to_string(right), std::to_string(t));
  }
}

TEST_F(KeyTiming, DoesNotSayWhichOfManyKeysIsNearlyGiven) {
  const Access access({.infer_keys = keys_}, "0.0.0.0", false);
  EXPECT_LT(least_difference(comparison_with(access), {letters_.wrong(keys_.front(), 31), letters_.wrong(keys_.back(), 31)}),
            kAlike);
}

TEST_F(KeyTiming, DoesNotSayWhichOfManyKeysIsGiven) {
  const Access access({.infer_keys = keys_}, "0.0.0.0", false);
  EXPECT_LT(least_difference(comparison_with(access), {Keys{keys_.front()}, Keys{keys_.back()}}), kAlike);
}

// That a leak would be seen: the same measurement of a comparison that stops at the first wrong letter.
TEST_F(KeyTiming, WouldSayOfAComparisonThatEndsEarly) {
  const std::string& right = keys_.front();
  const auto leaky = [&](const HttpRequest& request) {
    const std::string_view given = request.header("authorization").substr(7);
    for (std::size_t i = 0; i < given.size(); ++i) {
      if (static_cast<const volatile char&>(given[i]) != right[i]) return false;
    }
    return true;
  };
  double most = 0;
  for (int i = 0; i < 5 && most <= kDifferent; ++i)
    most = std::max(most, difference(leaky, {letters_.wrong(right, 0), letters_.wrong(right, 31)}));
  EXPECT_GT(most, kDifferent);
}

}  // namespace
}  // namespace puna
