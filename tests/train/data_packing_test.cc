// SPDX-License-Identifier: Apache-2.0
// Packing by hand for small examples, and by its properties for thousands of random ones.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "base/random.h"
#include "train/data/packing.h"
#include "train/data/shuffle_order.h"

namespace puna {
namespace {

using testing::ElementsAre;

std::vector<int> packed_ids(const std::vector<Token>& tokens) {
  std::vector<int> numbers;
  for (const Token token : tokens) numbers.push_back(id(token));
  return numbers;
}

std::vector<Token> tokens(std::initializer_list<int> numbers) {
  std::vector<Token> list;
  for (const int number : numbers) list.push_back(Token{number});
  return list;
}

Unit unit(Example example, std::int64_t index = 0) {
  example.index = index;
  const std::int64_t rows = example.rows();
  Unit whole;
  whole.add({std::make_shared<const Example>(std::move(example)), 0, rows});
  return whole;
}

Example document(std::initializer_list<int> numbers, std::vector<bool> trained) {
  Example example;
  example.tokens = tokens(numbers);
  example.trained = std::move(trained);
  return example;
}

std::string segments(const PackedBatch& batch) {
  std::string text;
  for (const PackedSegment& s : batch.segments)
    text += fmt::format("{}+{}({}+{}) ", s.first_row, s.rows, s.prefix_row, s.prefix_rows);
  return text;
}

TEST(DataPacking, RowsPredictTheNextTokenOfTheirDocument) {
  const std::vector<Unit> units = {unit(document({1, 2, 3}, {false, false, true}), 7), unit(document({4, 5}, {false, true}), 8)};
  const StepBatches step = pack_units(units, 10, true);
  ASSERT_EQ(step.batches.size(), 1U);
  const PackedBatch& batch = step.batches[0];
  EXPECT_THAT(packed_ids(batch.tokens), ElementsAre(1, 2, 4));
  EXPECT_THAT(packed_ids(batch.targets), ElementsAre(2, 3, 5));
  EXPECT_THAT(batch.weights, ElementsAre(0, 1, 1));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 0));
  EXPECT_EQ(segments(batch), "0+2(0+0) 2+1(0+0) ");
  EXPECT_THAT(batch.examples, ElementsAre(7, 8));
  EXPECT_EQ(step.trained_tokens, 2);
  EXPECT_EQ(step.groups, 0);
}

TEST(DataPacking, AnswersContinueTheirPromptAndDoNotFollowEachOther) {
  Example pair;
  pair.tokens = tokens({1, 2, 3});
  pair.answers = {{tokens({4, 5}), {true, false}, 0}, {tokens({6}), {true}, 1}};
  EXPECT_EQ(pair.rows(), 7);
  EXPECT_EQ(pair.longest(), 5);
  Example short_prompt;
  short_prompt.tokens = tokens({9});
  short_prompt.answers = {{tokens({7}), {true}, 0}, {tokens({8}), {true}, 1}};
  const StepBatches step = pack_units(std::vector<Unit>{unit(short_prompt), unit(pair)}, 20, true);
  ASSERT_EQ(step.batches.size(), 1U);
  const PackedBatch& batch = step.batches[0];
  EXPECT_THAT(packed_ids(batch.tokens), ElementsAre(9, 7, 9, 8, 1, 2, 3, 4, 5, 3, 6));
  EXPECT_THAT(packed_ids(batch.targets), ElementsAre(7, 0, 8, 0, 2, 3, 4, 5, 0, 6, 0));
  EXPECT_THAT(batch.weights, ElementsAre(1, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 0, 1, 0, 1, 2, 3, 4, 2, 3));
  EXPECT_EQ(segments(batch), "0+2(0+0) 2+2(0+0) 4+2(0+0) 6+3(4+2) 9+2(4+2) ");
  ASSERT_EQ(batch.answers.size(), 4U);
  const Answer& chosen = batch.answers[2];
  EXPECT_EQ(chosen.first_row, 6);
  EXPECT_EQ(chosen.rows, 2);
  EXPECT_EQ(chosen.end_row, 8);  // holds its last token, 5
  EXPECT_EQ(chosen.group, 1);
  EXPECT_EQ(batch.answers[3].rank, 1);
  EXPECT_EQ(batch.answers[3].end_row, 10);
  EXPECT_EQ(step.groups, 2);
  EXPECT_EQ(step.trained_tokens, 4);
}

TEST(DataPacking, AnswersInOneRowFollowEachOther) {
  Example pair;
  pair.tokens = tokens({1, 2, 3});
  pair.answers = {{tokens({4, 5}), {true, false}, 0}, {tokens({6}), {true}, 1}};
  pair.one_row = true;
  EXPECT_EQ(pair.rows(), 6);
  EXPECT_EQ(pair.longest(), 6);
  const StepBatches step = pack_units(std::vector<Unit>{unit(document({8, 9}, {false, true})), unit(pair)}, 20, true);
  ASSERT_EQ(step.batches.size(), 1U);
  const PackedBatch& batch = step.batches[0];
  EXPECT_THAT(packed_ids(batch.tokens), ElementsAre(8, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(packed_ids(batch.targets), ElementsAre(9, 2, 3, 4, 5, 6, 0));
  EXPECT_THAT(batch.weights, ElementsAre(1, 0, 0, 1, 0, 1, 0));
  EXPECT_THAT(batch.positions, ElementsAre(0, 0, 1, 2, 3, 4, 5));
  EXPECT_EQ(segments(batch), "0+1(0+0) 1+6(0+0) ");
  ASSERT_EQ(batch.answers.size(), 2U);
  EXPECT_EQ(batch.answers[0].first_row, 3);
  EXPECT_EQ(batch.answers[0].end_row, 5);
  EXPECT_EQ(batch.answers[1].first_row, 5);
  EXPECT_EQ(batch.answers[1].end_row, 6);
  EXPECT_EQ(batch.answers[1].rank, 1);
}

TEST(DataPacking, PutsEachUnitWhereItFitsBest) {
  const auto of_rows = [](int rows) {
    Example example;
    for (int t = 0; t <= rows; ++t) example.tokens.push_back(Token{rows});
    example.trained.assign(example.tokens.size(), true);
    return unit(example, rows);
  };
  const std::vector<Unit> units = {of_rows(2), of_rows(6), of_rows(3), of_rows(7), of_rows(12)};
  const auto held = [&](bool pack) {
    std::vector<std::vector<std::int64_t>> batches;
    for (const PackedBatch& batch : pack_units(units, 10, pack).batches) batches.push_back(batch.examples);
    return batches;
  };
  EXPECT_THAT(held(true), ElementsAre(ElementsAre(2, 6), ElementsAre(3, 7), ElementsAre(12)));
  EXPECT_THAT(held(false), ElementsAre(ElementsAre(2), ElementsAre(6), ElementsAre(3), ElementsAre(7), ElementsAre(12)));
  EXPECT_TRUE(pack_units({}, 10, true).batches.empty());
}

// Every token but a document's first is the target of exactly one row, groups stay together, and batches keep to their size.
TEST(DataPacking, CoversTenThousandRandomExamplesOnce) {
  std::uint64_t draws = 0;
  const auto random = [&](std::uint64_t below) { return static_cast<std::int64_t>(random_bits(3, 1, draws++) % below); };
  std::vector<Unit> units;
  int next = 1;  // every token is used once in all the examples
  std::set<int> expected_targets, trained;
  const auto some = [&](std::int64_t count, bool targets) {
    std::vector<Token> list;
    for (std::int64_t i = 0; i < count; ++i) {
      if (targets || i > 0) expected_targets.insert(next);
      list.push_back(Token{next++});
    }
    return list;
  };
  const auto marks = [&](const std::vector<Token>& list) {
    std::vector<bool> marked;
    for (const Token token : list) {
      marked.push_back(random(2) == 1);
      if (marked.back()) trained.insert(id(token));
    }
    return marked;
  };
  for (int i = 0; i < 10000; ++i) {
    Example example;
    example.tokens = some(1 + random(40), false);
    if (random(2) == 1) {
      for (std::int64_t a = 0, answers = 2 + random(3); a < answers; ++a) {
        auto answer = some(1 + random(30), true);
        auto counted = marks(answer);
        example.answers.push_back({std::move(answer), std::move(counted), static_cast<int>(a)});
      }
    } else {
      const auto more = some(1, true);
      example.tokens.push_back(more[0]);
      example.trained = marks(example.tokens);
      trained.erase(id(example.tokens.front()));
    }
    units.push_back(unit(example, i));
  }
  const StepBatches step = pack_units(units, 256, true);
  std::multiset<int> targets;
  std::set<int> weighted;
  std::map<std::int64_t, std::set<std::size_t>> batches_of_group;
  std::int64_t rows = 0;
  for (std::size_t b = 0; b < step.batches.size(); ++b) {
    const PackedBatch& batch = step.batches[b];
    ASSERT_LE(batch.tokens.size(), 256U);
    rows += static_cast<std::int64_t>(batch.tokens.size());
    std::int64_t covered = 0;
    for (const PackedSegment& s : batch.segments) {
      ASSERT_EQ(s.first_row, covered);
      covered += s.rows;
      if (s.prefix_rows > 0) {
        ASSERT_LE(s.prefix_row + s.prefix_rows, s.first_row);
      }
      for (std::int64_t r = 0; r < s.rows; ++r) {
        const auto t = static_cast<std::size_t>(s.first_row + r);
        ASSERT_EQ(batch.positions[t], s.prefix_rows + r);
        const int target = id(batch.targets[t]);
        if (target != 0) targets.insert(target);
        if (batch.weights[t] != 0) weighted.insert(target);
        if (target != 0 && r + 1 < s.rows) {
          ASSERT_EQ(batch.tokens[t + 1], batch.targets[t]);
        }
      }
    }
    ASSERT_EQ(covered, static_cast<std::int64_t>(batch.tokens.size()));
    for (const Answer& answer : batch.answers) batches_of_group[answer.group].insert(b);
  }
  // A prompt's last token is predicted once, by the row before it, and repeated as a row of each answer.
  EXPECT_EQ(std::set<int>(targets.begin(), targets.end()), expected_targets);
  EXPECT_EQ(targets.size(), expected_targets.size());
  EXPECT_EQ(weighted, trained);
  EXPECT_EQ(step.trained_tokens, static_cast<double>(trained.size()));
  EXPECT_EQ(step.groups, static_cast<std::int64_t>(batches_of_group.size()));
  for (const auto& [group, batches] : batches_of_group) ASSERT_EQ(batches.size(), 1U);
  EXPECT_GT(static_cast<double>(rows) / (256.0 * static_cast<double>(step.batches.size())), 0.99);  // nearly full
}

TEST(DataShuffle, IsAPermutationThatDependsOnSeedStreamAndEpoch) {
  std::set<std::vector<std::int64_t>> orders;
  for (const std::int64_t n : {1, 2, 3, 5, 16, 17, 100, 1000, 4096, 5000}) {
    std::vector<std::int64_t> order;
    for (std::int64_t i = 0; i < n; ++i) order.push_back(ShuffleOrder(n, 1, 2, 3).at(i));
    EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), static_cast<std::size_t>(n));
    EXPECT_EQ(*std::max_element(order.begin(), order.end()), n - 1);
  }
  for (const auto& [seed, stream, epoch] : {std::tuple{1, 2, 3}, {2, 2, 3}, {1, 3, 3}, {1, 2, 4}, {2, 1, 3}}) {
    std::vector<std::int64_t> order;
    const ShuffleOrder shuffle(50, static_cast<std::uint64_t>(seed), static_cast<std::uint64_t>(stream),
                               static_cast<std::uint64_t>(epoch));
    for (std::int64_t i = 0; i < 50; ++i) order.push_back(shuffle.at(i));
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 5U);
}

// Over many keys each row comes to each place equally often: chi-squared over 10 x 10 cells, 81 degrees of freedom.
TEST(DataShuffle, IsFair) {
  constexpr int kRows = 10, kKeys = 5000;
  std::vector<std::vector<int>> counts(kRows, std::vector<int>(kRows, 0));
  for (int key = 0; key < kKeys; ++key) {
    const ShuffleOrder order(kRows, static_cast<std::uint64_t>(key), 0, 0);
    for (int i = 0; i < kRows; ++i) ++counts[static_cast<std::size_t>(i)][static_cast<std::size_t>(order.at(i))];
  }
  double chi = 0;
  for (const auto& row : counts) {
    for (const int count : row) chi += (count - kKeys / kRows) * (count - kKeys / kRows) / static_cast<double>(kKeys / kRows);
  }
  EXPECT_LT(chi, 132);  // one in ten thousand is above
}

}  // namespace
}  // namespace puna
