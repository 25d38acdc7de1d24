// SPDX-License-Identifier: Apache-2.0
// What a load came to. Times are in seconds; the q-th percentile of n sorted values v is v[ceil(q n / 100) - 1], the nearest rank.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"

namespace puna {

// One request, as its client saw it.
struct LoadSample {
  int status = 0;            // HTTP's; 0: no answer
  std::string problem = {};  // why it is no whole answer, or empty
  double began = 0;          // since the load began; with a rate, when it was due
  double first = -1;         // the first text; -1: none came, or the answer came whole
  double ended = 0;
  std::vector<float> gaps = {};  // between one piece of text and the next
  std::int64_t prompt_tokens = 0, completion_tokens = 0;
};

struct Spread {
  std::int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, most = 0;
};
// Sorts the values.
Spread spread_of(std::vector<double> values);

struct LoadReport {
  double seconds = 0;  // from the first request to the last answer
  std::int64_t answered = 0, failed = 0, prompt_tokens = 0, completion_tokens = 0;
  Spread first_text, between_texts, whole;     // of those that were answered
  std::map<std::string, std::int64_t> errors;  // "429", "connection refused": how often
};
LoadReport summarize(std::span<const LoadSample> samples);

Json to_json(const LoadReport& report);
std::string to_text(const LoadReport& report);

}  // namespace puna
