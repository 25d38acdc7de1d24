// SPDX-License-Identifier: Apache-2.0
#include "server/places.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <string>

#include "base/error.h"

namespace puna {
namespace {

// 429 for who lacks `wanted` places of `most`, where others have taken so many.
ApiError no_room(std::int64_t taken, std::int64_t most, std::int64_t wanted) {
  // A little later for each, so that they do not all come back at once.
  thread_local std::minstd_rand random{std::random_device{}()};
  const int milliseconds = 500 + static_cast<int>(random() % 1500);
  ApiError error(
      429, "overloaded", "",
      fmt::format("{} answers are being written or wait, of {} that are taken at once, and this request needs room for {}: "
                  "try again",
                  taken, most, wanted));
  error.with_header("Retry-After", milliseconds > 1000 ? "2" : "1");
  error.with_header("retry-after-ms", std::to_string(milliseconds));
  return error;
}

}  // namespace

ApiError Places::overloaded(std::int64_t wanted) const { return no_room(taken(), most_, wanted); }

std::int64_t Places::take(std::int64_t least, std::int64_t wanted) {
  std::int64_t taken = taken_;
  while (true) {
    const std::int64_t count = std::min(wanted, most_ - taken);
    if (count < least || count <= 0) return 0;
    if (taken_.compare_exchange_weak(taken, taken + count)) return count;
  }
}

Places::Held Places::take() {
  if (take(1, 1) == 0) return {};
  ++requests_;
  return Held(this);
}

Places::Held& Places::Held::operator=(Held&& other) noexcept {
  std::swap(places_, other.places_);
  std::swap(count_, other.count_);
  return *this;
}

void Places::Held::need(std::int64_t count, const std::string& param) {
  if (count <= count_) return;
  if (places_ == nullptr) fail(ErrorKind::kInternal, "places", "{} are needed for a request that has none", count);
  if (count > places_->most_) {
    throw ApiError(
        400, "too_many_answers", param,
        fmt::format("the request asks for {} answers, and this server takes {} at once (--max-in-flight): ask for fewer in "
                    "one request",
                    count, places_->most_));
  }
  if (places_->take(count - count_, count - count_) == 0) throw no_room(places_->taken() - count_, places_->most_, count);
  count_ = count;
}

void Places::Held::take_free(std::int64_t count) {
  if (places_ != nullptr && count > count_) count_ += places_->take(0, count - count_);
}

void Places::Held::give_back(std::int64_t count) {
  count = std::min(count, count_);
  if (count <= 0) return;
  count_ -= count;
  places_->taken_ -= count;
  if (count_ == 0) --std::exchange(places_, nullptr)->requests_;
}

}  // namespace puna
