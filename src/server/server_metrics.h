// SPDX-License-Identifier: Apache-2.0
// What a server counts, in Prometheus' text form (exposition format 0.0.4). Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "infer/generation.h"
#include "server/model_registry.h"
#include "server/places.h"

namespace puna {

class Metrics {
 public:
  void count_request(std::string_view route, int status, double seconds);
  // Of one answer: the time from its request to its first text, and its tokens' own.
  void count_answer(double first_text_seconds, const Generation& generation);
  std::string text(const ModelRegistry& models, std::size_t connections, const Places& places) const;

 private:
  // Cumulative counts behind upper bounds, as Prometheus has them.
  struct Histogram {
    static constexpr std::array<double, 14> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60};
    std::array<std::uint64_t, kBounds.size()> counts{};
    std::uint64_t count = 0;
    double sum = 0;
    void add(double seconds);
    void write(std::string& text, std::string_view name, std::string_view about) const;
  };

  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, std::uint64_t> requests_;  // by route and status
  Histogram request_seconds_, first_text_seconds_, token_seconds_;
};

}  // namespace puna
