// SPDX-License-Identifier: Apache-2.0
// The network against an independent double-precision one, and against itself: however a text is cut into batches, its logits stay.
#include "model/llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "count_allocations.h"
#include "expect_error.h"
#include "kernels/matmul.h"
#include "model/llama_oracle.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using testing::HasSubstr;

// A network with its own threads and cache.
struct Rig {
  explicit Rig(std::shared_ptr<const Checkpoint> checkpoint, int threads = 2, Format kv_format = Format::kF32,
               std::int64_t positions = 512, std::int64_t max_rows = 128)
      : pool(threads), cache(checkpoint->config, kv_format, positions), model(checkpoint, Device{pool}, max_rows, max_rows) {}

  // Logits [rows, V] of all rows, or of the given ones.
  std::vector<float> run(std::span<const Batch::Part> parts, std::span<const Token> tokens) {
    std::vector<std::int32_t> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    return run(parts, tokens, rows);
  }
  std::vector<float> run(std::span<const Batch::Part> parts, std::span<const Token> tokens, std::span<const std::int32_t> rows) {
    const std::span<const float> logits = model.forward({.tokens = tokens, .parts = parts, .logit_rows = rows}, cache);
    return {logits.begin(), logits.end()};
  }
  // Appends tokens to a sequence in chunks; logits of all rows.
  std::vector<float> append(int sequence, std::span<const Token> tokens, std::size_t chunk) {
    std::vector<float> logits;
    for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
      const auto part = tokens.subspan(begin, std::min(chunk, tokens.size() - begin));
      const std::vector<float> rows = run(std::array<Batch::Part, 1>{{{sequence, static_cast<std::int64_t>(part.size())}}}, part);
      logits.insert(logits.end(), rows.begin(), rows.end());
    }
    return logits;
  }

  ThreadPool pool;
  KvCache cache;
  Llama model;
};

// The largest difference, in parts of the largest logit.
double relative_distance(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference = std::max(difference, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
  }
  return std::isfinite(largest) && largest > 0 ? difference / largest : INFINITY;
}

std::vector<float> flat(const std::vector<LlamaOracle::Row>& rows) {
  std::vector<float> result;
  for (const LlamaOracle::Row& row : rows) result.insert(result.end(), row.begin(), row.end());
  return result;
}

class LlamaFormats : public testing::TestWithParam<Format> {};

TEST_P(LlamaFormats, AgreesWithTheDoublePrecisionNetwork) {
  const bool rounds = info(GetParam()).block_values > 1 && has_integer_dots();
  const auto checkpoint = tiny_checkpoint(tiny_config(), GetParam());
  const std::vector<Token> tokens = random_tokens(40, 96);
  const std::vector<float> expected = flat(LlamaOracle(*checkpoint, rounds).logits(tokens));
  for (const std::size_t chunk : {40, 1, 7}) {
    Rig rig(checkpoint);
    const double found = relative_distance(rig.append(rig.cache.add_sequence(), tokens, chunk), expected);
    // Exact weights leave F32 rounding; rounded activations may fall to the other side of a half.
    EXPECT_LT(found, rounds ? 5e-2 : 2e-5) << "chunks of " << chunk;
    RecordProperty("distance", std::to_string(found));
  }
}

TEST_P(LlamaFormats, OneAndTwoThreadsGiveEqualBits) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), GetParam());
  const std::vector<Token> tokens = random_tokens(30, 96);
  Rig one(checkpoint, 1), two(checkpoint, 2);
  EXPECT_EQ(one.append(one.cache.add_sequence(), tokens, 19), two.append(two.cache.add_sequence(), tokens, 19));
  EXPECT_EQ(one.append(0, tokens, 1), two.append(0, tokens, 1));
}

std::vector<Format> all_formats() {
  std::vector<Format> result;
  for (const FormatInfo& row : formats()) result.push_back(row.format);
  return result;
}
INSTANTIATE_TEST_SUITE_P(All, LlamaFormats, testing::ValuesIn(all_formats()),
                         [](const auto& parameter) { return std::string(puna::info(parameter.param).name); });

TEST(Llama, PairsHalvesToo) {
  ModelConfig config = tiny_config();
  config.rope_pairing = RopePairing::kHalves;
  const auto checkpoint = tiny_checkpoint(config, Format::kF32);
  const std::vector<Token> tokens = random_tokens(20, 96);
  Rig rig(checkpoint);
  EXPECT_LT(
      relative_distance(rig.append(rig.cache.add_sequence(), tokens, 20), flat(LlamaOracle(*checkpoint, false).logits(tokens))),
      2e-5);
}

TEST(Llama, RunsWithoutGroups) {  // as many key/value heads as query heads, and heads not as wide as the model
  ModelConfig config = tiny_config();
  config.kv_heads = 8;
  config.head_width = 16;
  const auto checkpoint = tiny_checkpoint(config, Format::kBF16);
  const std::vector<Token> tokens = random_tokens(20, 96);
  Rig rig(checkpoint);
  EXPECT_LT(
      relative_distance(rig.append(rig.cache.add_sequence(), tokens, 20), flat(LlamaOracle(*checkpoint, false).logits(tokens))),
      2e-5);
}

TEST(Llama, ChunksOfAnySizeGiveTheSameLogits) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(100, 96);  // over a page's end
  Rig rig(checkpoint, 2, Format::kF32, 5 * 2 * kPagePositions);
  const std::vector<float> whole = rig.append(rig.cache.add_sequence(), tokens, 100);
  for (const std::size_t chunk : {1, 3, 8, 64}) {
    EXPECT_LT(relative_distance(rig.append(rig.cache.add_sequence(), tokens, chunk), whole), 1e-5) << chunk;
  }
}

TEST(Llama, ARaggedBatchIsItsSequencesOneByOne) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kQ8_0);
  Rig together(checkpoint), apart(checkpoint);
  const std::vector<Token> tokens = random_tokens(90, 96);
  const std::span<const Token> all = tokens;
  for (Rig* rig : {&together, &apart}) {
    for (int s = 0; s < 3; ++s) rig->cache.add_sequence();
    rig->append(1, all.first(70), 35);  // sequence 1 goes on at position 70
  }
  // 1 + 3 + 2 rows: below the rows where products change their order of summing, so bits are equal.
  const std::vector<Batch::Part> parts{{2, 1}, {0, 3}, {1, 2}};
  const std::vector<float> ragged = together.run(parts, all.last(6));
  std::vector<float> expected = apart.append(2, all.subspan(84, 1), 1);
  const std::vector<float> second = apart.append(0, all.subspan(85, 3), 3), third = apart.append(1, all.subspan(88, 2), 2);
  expected.insert(expected.end(), second.begin(), second.end());
  expected.insert(expected.end(), third.begin(), third.end());
  EXPECT_EQ(ragged, expected);
  EXPECT_EQ(together.cache.length(0), 3);
  EXPECT_EQ(together.cache.length(1), 72);
  EXPECT_EQ(together.cache.length(2), 1);
}

TEST(Llama, LogitRowsAreASubsetOfAllRows) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  Rig rig(checkpoint);
  const std::vector<Token> tokens = random_tokens(60, 96);
  const std::vector<Batch::Part> parts{{0, 25}, {1, 35}};
  const auto fresh = [&] {
    for (int s = 0; s < 2; ++s) rig.cache.truncate(s, 0);
  };
  rig.cache.add_sequence(), rig.cache.add_sequence();
  const std::vector<float> all = rig.run(parts, tokens);
  const std::vector<std::vector<std::int32_t>> cases{
      {59}, {0}, {24, 25}, {23, 24, 25, 26}, {3, 4, 5, 9, 10, 24, 30, 31, 32, 33, 58, 59}, {}};
  for (const std::vector<std::int32_t>& rows : cases) {
    fresh();
    const std::vector<float> some = rig.run(parts, tokens, rows);
    ASSERT_EQ(some.size(), rows.size() * 96);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::span<const float> expected = std::span(all).subspan(static_cast<std::size_t>(rows[i]) * 96, 96);
      EXPECT_LT(relative_distance(std::span(some).subspan(i * 96, 96), expected), 1e-5)
          << "row " << rows[i] << " of " << rows.size();
    }
    // The cache holds everything whatever was asked for.
    const std::vector<Token> more = random_tokens(2, 96, 8);
    const std::vector<float> next = rig.run(std::vector<Batch::Part>{{0, 1}, {1, 1}}, more);
    fresh();
    rig.run(parts, tokens);
    EXPECT_LT(relative_distance(next, rig.run(std::vector<Batch::Part>{{0, 1}, {1, 1}}, more)), 1e-5);
  }
}

TEST(Llama, NarrowCachesStayClose) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(80, 96);
  Rig exact(checkpoint), half(checkpoint, 2, Format::kF16), eight(checkpoint, 2, Format::kQ8_0);
  const std::vector<float> expected = exact.append(exact.cache.add_sequence(), tokens, 80);
  const double half_distance = relative_distance(half.append(half.cache.add_sequence(), tokens, 80), expected);
  const double eight_distance = relative_distance(eight.append(eight.cache.add_sequence(), tokens, 80), expected);
  EXPECT_LT(half_distance, 2e-3);
  EXPECT_GT(half_distance, 0);
  EXPECT_LT(eight_distance, 4e-2);
  EXPECT_GT(eight_distance, half_distance);
}

TEST(Llama, RefillingAfterTruncationIsAsFresh) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const std::vector<Token> first = random_tokens(90, 96, 1), second = random_tokens(90, 96, 2);
  Rig used(checkpoint), fresh(checkpoint);
  used.append(used.cache.add_sequence(), first, 90);
  used.cache.truncate(0, 70);
  const std::span<const Token> rest = std::span(second).first(5);
  const std::vector<float> refilled = used.append(0, rest, 5);
  fresh.append(fresh.cache.add_sequence(), std::span(first).first(70), 70);
  EXPECT_LT(relative_distance(refilled, fresh.append(0, rest, 5)), 1e-6);
}

TEST(Llama, ATokenOutsideTheVocabularyChangesNothing) {
  Rig rig(tiny_checkpoint(tiny_config(), Format::kF32));
  rig.append(rig.cache.add_sequence(), random_tokens(3, 96), 3);
  for (const int outside : {96, -1}) {
    try {
      rig.append(0, std::vector<Token>{Token{5}, Token{outside}}, 2);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      EXPECT_EQ(std::string(error.what()),
                "[tokens] token " + std::to_string(outside) + " is outside the vocabulary: ids are 0 to 95");
    }
    EXPECT_EQ(rig.cache.length(0), 3);
  }
}

TEST(Llama, AFullCacheChangesNothing) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  Rig rig(checkpoint, 2, Format::kF32, 3 * kPagePositions), fresh(checkpoint);
  for (int s = 0; s < 2; ++s) rig.cache.add_sequence();
  const std::vector<Token> tokens = random_tokens(128, 96);
  const std::span<const Token> all = tokens;
  rig.append(0, all.first(60), 60);
  // Sequence 0 fits (a second page), sequence 1 does not (a third and a fourth).
  try {
    rig.run(std::vector<Batch::Part>{{0, 10}, {1, 100}}, all.first(110));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNoRoom);
  }
  EXPECT_EQ(rig.cache.length(0), 60);
  EXPECT_EQ(rig.cache.length(1), 0);
  rig.append(1, all, 128);  // both pages are there again
  fresh.append(fresh.cache.add_sequence(), all.first(60), 60);
  EXPECT_LT(relative_distance(rig.append(0, all.first(4), 4), fresh.append(0, all.first(4), 4)), 1e-6);
}

TEST(Llama, ADecodeStepAllocatesNothing) {
  Rig rig(tiny_checkpoint(tiny_config(), Format::kQ4_0), 2, Format::kF16);
  const std::vector<Token> tokens = random_tokens(40, 96);
  const std::vector<Batch::Part> one{{rig.cache.add_sequence(), 1}};
  const std::vector<std::int32_t> row{0};
  const std::vector<RowDraw> draw{{0.5, 1}};
  rig.model.make_shortlists();
  rig.append(0, tokens, 20);
  const auto step = [&](int number, std::span<const RowDraw> draws) {
    const auto token = std::span(tokens).subspan(static_cast<std::size_t>(number), 1);
    rig.model.forward({.tokens = token, .parts = one, .logit_rows = row, .draws = draws, .known_tokens = 96}, rig.cache);
  };
  step(0, draw);
  const std::int64_t before = allocations;
  for (int number = 1; number < 40; ++number) {  // over the end of a page
    step(number, {});
    step(number, draw);
    rig.model.row_logits(0);
  }
  EXPECT_EQ(allocations - before, 0);
}

TEST(Llama, AllocatesWhatItsPlanSays) {
  const ModelConfig config = tiny_config();
  const std::int64_t small = LlamaRank::activation_bytes(config, 1, 1, 1, false),
                     rows = LlamaRank::activation_bytes(config, 1, 65, 1, false);
  const std::int64_t logits = LlamaRank::activation_bytes(config, 1, 65, 65, false);
  // Per row: x, norm, delta [D], q k v [(H + 2 G) E], attention [H E], gate and up [F], the table [E], and the forms of F values.
  EXPECT_GT(rows - small, 64 * 4 * (3 * 256 + 384 + 256 + 2 * 512 + 32));
  EXPECT_LT(rows - small, 100 * 4 * (3 * 256 + 384 + 256 + 2 * 512 + 32 + 2 * 512));
  EXPECT_NEAR(static_cast<double>(logits - rows), 64 * (4 * 96 + sizeof(Shortlist)), 64 * 64);
}

TEST(Llama, ChecksTheShapeOfABatch) {
  Rig rig(tiny_checkpoint(tiny_config(), Format::kF32), 1, Format::kF32, 128, 16);
  rig.cache.add_sequence();
  const std::vector<Token> tokens = random_tokens(20, 96);
  const std::span<const Token> all = tokens;
  const auto message = [&](std::vector<Batch::Part> parts, std::span<const Token> given,
                           std::vector<std::int32_t> rows) -> std::string {
    try {
      rig.run(parts, given, rows);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInternal);
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message({{0, 20}}, all, {}), HasSubstr("a batch of 20 rows, expected 1 to 16"));
  EXPECT_THAT(message({}, {}, {}), HasSubstr("a batch of 0 rows"));
  EXPECT_THAT(message({{0, 3}}, all.first(4), {}), HasSubstr("the parts have 3 rows, the batch has 4 tokens"));
  EXPECT_THAT(message({{0, 2}, {0, 2}}, all.first(4), {}), HasSubstr("sequence 0 is twice in the batch"));
  EXPECT_THAT(message({{0, 0}}, all.first(1), {}), HasSubstr("has 0 rows"));
  EXPECT_THAT(message({{0, 4}}, all.first(4), {2, 1}), HasSubstr("expected ascending rows"));
  EXPECT_THAT(message({{0, 4}}, all.first(4), {4}), HasSubstr("expected ascending rows"));
  const std::vector<Batch::Part> parts{{0, 4}};
  const std::vector<std::int32_t> rows{2, 3};
  const std::vector<RowDraw> draws{{0.5, 1}};
  expect_error(ErrorKind::kInternal, "1 draws of 2 rows of logits", [&] {
    rig.model.forward({.tokens = all.first(4), .parts = parts, .logit_rows = rows, .draws = draws, .known_tokens = 96}, rig.cache);
  });
  expect_error(ErrorKind::kInternal, "logits of row 0 of 0 with draws", [&] { rig.model.row_logits(0); });
  EXPECT_EQ(rig.cache.length(0), 0);
}

}  // namespace
}  // namespace puna
