// SPDX-License-Identifier: Apache-2.0
// The cases of tests/golden/model: tokens, and the logits of some of their rows that tools/golden/meta_reference.py computed in
// float64 after Meta's layer definitions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/kv_cache.h"
#include "model/llama.h"
#include "shared_data.h"

namespace puna {

struct GoldenLogits {
  std::vector<std::string> layouts;  // checkpoints of the same weights, below tests/golden/model
  std::vector<Token> tokens;         // [T]
  std::vector<std::int64_t> rows;    // those whose logits are known, ascending
  std::vector<float> expected;       // [rows, V]
};

// NumPy's version 1 layout: magic, header length in bytes 8 and 9, header, float32 values.
inline std::vector<float> read_npy(const std::string& name) {
  const std::string bytes = read_text(golden("model/" + name));
  const std::size_t start = 10 + static_cast<unsigned char>(bytes.at(8)) + 256 * static_cast<unsigned char>(bytes.at(9));
  std::vector<float> values((bytes.size() - start) / sizeof(float));
  std::memcpy(values.data(), bytes.data() + start, values.size() * sizeof(float));
  return values;
}

inline GoldenLogits read_golden_logits(const std::string& name) {
  const Json all = parse_json(read_text(golden("model/cases.json")), "cases.json");
  for (const Json& json : all["cases"]) {
    if (json["name"] != name) continue;
    GoldenLogits result{json["layouts"].get<std::vector<std::string>>(), {}, json["rows"].get<std::vector<std::int64_t>>(), {}};
    const auto vocabulary = json["vocabulary"].get<std::int64_t>();
    for (std::int64_t i = 0; i < json["tokens"].get<std::int64_t>(); ++i) {
      result.tokens.push_back(static_cast<Token>((7 * i * i + 13 * i + i / 32 + 5) % vocabulary));
    }
    result.expected = read_npy(name + ".npy");
    return result;
  }
  fail(ErrorKind::kNotFound, "cases.json", "has no case '{}'", name);
}

// The case as far as its first `rows` known rows.
inline GoldenLogits first_rows(GoldenLogits test, std::size_t rows) {
  test.expected.resize(test.expected.size() / test.rows.size() * rows);
  test.rows.resize(rows);
  test.tokens.resize(static_cast<std::size_t>(test.rows.back()) + 1);
  return test;
}

// Logits of the case's rows [rows, V] from an empty cache, the tokens going in `chunk` at a time.
inline std::vector<float> logits_of_rows(const GoldenLogits& test, Llama& llama, KvCache& cache, std::int64_t chunk) {
  const auto count = static_cast<std::int64_t>(test.tokens.size());
  const int sequence = cache.add_sequence();
  std::vector<float> logits;
  for (std::int64_t begin = 0; begin < count; begin += chunk) {
    const std::int64_t rows = std::min(chunk, count - begin);
    std::vector<std::int32_t> wanted;
    for (const std::int64_t row : test.rows) {
      if (row >= begin && row < begin + rows) wanted.push_back(static_cast<std::int32_t>(row - begin));
    }
    const Batch::Part part{sequence, rows};
    const std::span<const Token> tokens(test.tokens.data() + begin, static_cast<std::size_t>(rows));
    const std::span<const float> some = llama.forward({tokens, {&part, 1}, wanted}, cache);
    logits.insert(logits.end(), some.begin(), some.end());
  }
  return logits;
}

}  // namespace puna
