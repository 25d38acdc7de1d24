// SPDX-License-Identifier: Apache-2.0
// The order of examples, its exact continuation from a saved state, mixtures, epochs, and what is said of bad rows.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "data_fixture.h"
#include "expect_error.h"
#include "train/data/inspect.h"
#include "train/data/token_shard.h"

namespace puna {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string pairs(int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    lines +=
        dump_json(Json{{"prompt", "q" + std::to_string(i)}, {"chosen", std::string(1 + i % 7, 'y')}, {"rejected", "no"}}) + "\n";
  }
  return lines;
}

// All that an optimizer step is made of, as text.
std::string shown(const StepBatches& step) {
  std::string text = fmt::format("{} {}", step.trained_tokens, step.groups);
  for (const PackedBatch& batch : step.batches) {
    text += "\n";
    for (std::size_t t = 0; t < batch.tokens.size(); ++t) {
      text += fmt::format("{}@{}>{}*{} ", id(batch.tokens[t]), batch.positions[t], id(batch.targets[t]), batch.weights[t]);
    }
    for (const PackedSegment& s : batch.segments)
      text += fmt::format("[{} {} {} {}]", s.first_row, s.rows, s.prefix_row, s.prefix_rows);
    for (const Answer& a : batch.answers) text += fmt::format("({} {} {} {} {})", a.first_row, a.rows, a.end_row, a.group, a.rank);
  }
  return text;
}

class DataLoader : public DataFiles {
 protected:
  static std::vector<std::string> numbered(int count, int length = 8) {
    std::vector<std::string> texts;
    for (int i = 0; i < count; ++i) texts.push_back(fmt::format("{:0>{}}", i, length));
    return texts;
  }
  // The lines of the examples in the order in which they come, `count` of them.
  static std::vector<std::int64_t> order(Loader& from, int count) {
    std::vector<std::int64_t> indices;
    for (int i = 0; i < count; ++i) {
      const auto example = from.next_example();
      if (!example) break;
      indices.push_back(example->index);
    }
    return indices;
  }
  DataOptions mixed() {
    DataOptions all =
        options({write("a.jsonl", text_rows(numbered(23, 40))), write("p.jsonl", pairs(17)),
                 write("c.jsonl", R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})"
                                  "\n{}\nbroken\n")});
    all.sequence_length = 48;
    all.batch_tokens = 120;
    return all;
  }
};

TEST_F(DataLoader, FillsStepsOfTextExactlyAndLosesNoToken) {
  DataOptions text = options({write("a.jsonl", text_rows(numbered(50, 13)))});  // 15 tokens, 14 rows each
  text.sequence_length = 16;
  text.batch_tokens = 32;
  text.epochs = 1;
  const auto from = loader(text);
  std::map<std::int64_t, std::string> documents;
  std::int64_t rows = 0;
  while (true) {
    const StepBatches step = from->next(100);  // not a multiple of the sequence
    if (step.batches.empty()) break;
    std::int64_t step_rows = 0;
    for (const PackedBatch& batch : step.batches) {
      EXPECT_LE(batch.tokens.size(), 32U);
      step_rows += static_cast<std::int64_t>(batch.tokens.size());
      for (const PackedSegment& segment : batch.segments) {
        EXPECT_LE(segment.rows, 16);
        EXPECT_EQ(batch.positions[static_cast<std::size_t>(segment.first_row)], 0);
      }
      for (std::size_t t = 0; t < batch.tokens.size(); ++t) {
        EXPECT_EQ(batch.weights[t], 1);
        if (id(batch.targets[t]) < 256) documents[0] += static_cast<char>(id(batch.targets[t]));
      }
    }
    rows += step_rows;
    EXPECT_TRUE(step_rows == 100 || rows == 50 * 14) << step_rows;
    EXPECT_EQ(step.trained_tokens, static_cast<double>(step_rows));
  }
  EXPECT_EQ(rows, 50 * 14);
  EXPECT_EQ(documents[0].size(), 50U * 13U);
  EXPECT_EQ(std::count(documents[0].begin(), documents[0].end(), '4'), 5 + 10);  // 4, 14, …, 44 and 40 … 49
}

TEST_F(DataLoader, CountsTheStepsThatItMakes) {
  for (const double epochs : {1.0, 2.5}) {
    for (const std::int64_t step_tokens : {50, 100, 333}) {
      DataOptions all = mixed();
      all.epochs = epochs;
      const auto from = loader(all);
      const std::int64_t counted = from->count_steps(step_tokens);
      std::int64_t steps = 0;
      while (!from->next(step_tokens).batches.empty()) ++steps;
      EXPECT_EQ(counted, steps) << epochs << " epochs of " << step_tokens;
    }
  }
}

TEST_F(DataLoader, KeepsDocumentsWholeWhereAsked) {
  DataOptions text = options({write("a.jsonl", text_rows({"short", "much too long for a sequence", "middle"}))});
  text.sequence_length = 10;
  text.batch_tokens = 20;
  text.whole_documents = true;
  text.epochs = 1;
  const auto from = loader(text);
  const StepBatches step = from->next(1000);
  ASSERT_EQ(step.batches.size(), 1U);
  EXPECT_EQ(step.batches[0].segments.size(), 2U);
  EXPECT_EQ(from->report().of(DropReason::kOverLong).rows, 1);
}

TEST_F(DataLoader, CuttingAStepIntoBatchesChangesNothing) {
  DataOptions small = mixed();
  DataOptions large = small;
  large.batch_tokens = 1000;
  const auto one = loader(small), other = loader(large);
  for (int i = 0; i < 20; ++i) {
    const StepBatches a = one->next(400), b = other->next(400);
    EXPECT_GT(a.batches.size(), b.batches.size());
    EXPECT_EQ(a.trained_tokens, b.trained_tokens);
    EXPECT_EQ(a.groups, b.groups);
    std::multiset<std::string> segments[2];
    for (const StepBatches* step : {&a, &b}) {
      for (const PackedBatch& batch : step->batches) {
        for (const PackedSegment& s : batch.segments) {
          const auto begin = batch.tokens.begin() + s.first_row;
          segments[step == &b].insert(tokenizer_.decode(std::vector<Token>(begin, begin + s.rows), true));
        }
      }
    }
    EXPECT_EQ(segments[0], segments[1]);
  }
}

TEST_F(DataLoader, ContinuesExactlyFromEveryState) {
  const DataOptions all = mixed();
  const auto whole = loader(all);
  std::vector<std::string> steps, states;
  for (int i = 0; i < 30; ++i) {
    states.push_back(whole->state());
    steps.push_back(shown(whole->next(150)));
  }
  EXPECT_GT(whole->epochs(), 1.5);  // past the end of the data
  EXPECT_EQ(whole->report().dropped(), 2);
  for (std::size_t begin = 0; begin < states.size(); ++begin) {
    const auto resumed = loader(all);
    resumed->restore(states[begin]);
    EXPECT_EQ(resumed->state(), states[begin]);
    for (std::size_t i = begin; i < std::min(begin + 5, steps.size()); ++i) ASSERT_EQ(shown(resumed->next(150)), steps[i]) << begin;
  }
  const auto again = loader(all);
  again->restore(states.back());
  again->next(150);
  EXPECT_EQ(again->state(), whole->state());
  EXPECT_EQ(again->report().text(), whole->report().text());
}

TEST_F(DataLoader, ContinuesExactlyAfterTheMixtureChanged) {
  const auto whole = loader(mixed()), resumed = loader(mixed());
  whole->next(150);
  whole->set_weights(std::vector<double>{1, 0.5, 0});
  whole->set_lengths(64, 128);
  whole->next(150);
  resumed->restore(whole->state());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(shown(resumed->next(150)), shown(whole->next(150)));
}

TEST_F(DataLoader, RefusesTheStateOfOtherData) {
  const std::string state = loader(mixed())->state();
  DataOptions other = mixed();
  other.seed = 2;
  expect_error(ErrorKind::kBadInput, "[loader state] seed was 1 when it was saved and is 2 now",
               [&] { loader(other)->restore(state); });
  other = mixed();
  other.shuffle = false;
  expect_error(ErrorKind::kBadInput, "shuffle was true when it was saved and is false now", [&] { loader(other)->restore(state); });
  write("p.jsonl", pairs(18));
  expect_error(ErrorKind::kBadInput, "p.jsonl was 17 when it was saved and is 18 now", [&] {
    loader(options({path("a.jsonl"), path("p.jsonl"), path("c.jsonl")}))->restore(state);
  });
  expect_error(ErrorKind::kBadInput, "\"sources\" is not a list of 1", [&] { loader(options({path("a.jsonl")}))->restore(state); });
  for (const char* broken : {"", "[]", "{}", R"({"version": 2})"}) {
    EXPECT_THROW(loader(options({path("a.jsonl")}))->restore(broken), Error) << broken;
  }
}

TEST_F(DataLoader, EachEpochIsAnotherOrderOfAllRows) {
  DataOptions text = options({write("a.jsonl", text_rows(numbered(40)))});
  const auto from = loader(text);
  const auto first = order(*from, 40), second = order(*from, 40);
  EXPECT_EQ(std::set<std::int64_t>(first.begin(), first.end()).size(), 40U);
  EXPECT_EQ(std::set<std::int64_t>(second.begin(), second.end()).size(), 40U);
  EXPECT_NE(first, second);
  EXPECT_EQ(from->epochs(), 2);
  EXPECT_EQ(order(*loader(text), 40), first);
  text.seed = 2;
  EXPECT_NE(order(*loader(text), 40), first);
  text.shuffle = false;
  text.epochs = 1.25;
  EXPECT_THAT(order(*loader(text), 1000), testing::SizeIs(50));
  EXPECT_THAT(order(*loader(text), 3), ElementsAre(0, 1, 2));
}

TEST_F(DataLoader, ProcessesShareEachEpoch) {
  DataOptions text = options({write("a.jsonl", text_rows(numbered(41)))});
  text.ranks = 3;
  std::vector<std::int64_t> all;
  for (text.rank = 0; text.rank < 3; ++text.rank) {
    text.epochs = 1;
    const auto mine = order(*loader(text), 1000);
    EXPECT_EQ(mine.size(), text.rank == 2 ? 13U : 14U);
    all.insert(all.end(), mine.begin(), mine.end());
  }
  EXPECT_EQ(std::set<std::int64_t>(all.begin(), all.end()).size(), 41U);
  EXPECT_EQ(all.size(), 41U);
  text.rank = 3;
  expect_error(ErrorKind::kUsage, "[data] rank 3 of 3 is not possible", [&] { loader(text); });
  text.rank = 0, text.ranks = 42;
  expect_error(ErrorKind::kBadInput, "41 rows cannot be shared by 42 processes", [&] { loader(text); });
}

TEST_F(DataLoader, KeepsTheSharesOfTheMixture) {
  DataOptions text = options({write("a.jsonl", text_rows(numbered(30, 20))), write("b.jsonl", text_rows(numbered(300, 5)))});
  text.sources[0].weight = 3;
  text.sources[1].weight = 1;
  const auto from = loader(text);
  const auto share = [&](int count) {
    double rows[2] = {0, 0};
    for (int i = 0; i < count; ++i) {
      const auto example = from->next_example();
      rows[example->index >= 30] += static_cast<double>(example->rows());
    }
    return rows[0] / (rows[0] + rows[1]);
  };
  EXPECT_NEAR(share(400), 0.75, 0.01);  // in rows, not in examples; the small source is read again and again
  from->set_weights(std::vector<double>{1, 9});
  EXPECT_NEAR(share(400), 0.1, 0.01);
  from->set_weights(std::vector<double>{0, 1});
  EXPECT_EQ(share(50), 0);
  expect_error(ErrorKind::kUsage, "[data weights] 1 weights for 2 sources", [&] { from->set_weights(std::vector<double>{1}); });
  expect_error(ErrorKind::kUsage, "-1 is not a weight", [&] { from->set_weights(std::vector<double>{1, -1}); });
  expect_error(ErrorKind::kUsage, "all weights are 0", [&] { from->set_weights(std::vector<double>{0, 0}); });
  text.sources[1].weight.reset();
  expect_error(ErrorKind::kUsage, "[data] 1 of 2 sources have a weight", [&] { loader(text); });
}

TEST_F(DataLoader, WithoutWeightsSourcesEndTogether) {
  DataOptions text = options({write("a.jsonl", text_rows(numbered(10))), write("b.jsonl", text_rows(numbered(100)))});
  text.epochs = 1;
  const auto from = loader(text);
  const auto half = order(*from, 55);
  EXPECT_EQ(std::count_if(half.begin(), half.end(), [](std::int64_t i) { return i < 10; }), 5);
  EXPECT_EQ(order(*from, 1000).size(), 55U);
  EXPECT_EQ(from->sources()[0].epochs, 1);
  EXPECT_TRUE(from->next(100).batches.empty());
}

TEST_F(DataLoader, CountsBadRowsWithTheirLines) {
  const std::string chat = R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})"
                           "\n";
  std::string lines = chat + "{broken\n\n" +
                      R"({"messages": [{"role": "user", "content": "q"}]})"
                      "\n" +
                      R"({"messages": 3})"
                      "\n";
  for (int i = 0; i < 7; ++i) lines += "{}\n";
  DataOptions all = options({write("c.jsonl", lines)});
  all.epochs = 3;
  all.shuffle = false;
  const auto from = loader(all);
  while (!from->next(1000).batches.empty()) continue;
  const std::string name = path("c.jsonl");
  EXPECT_EQ(from->report().text(),
            "1 row used, 10 left out\n"
            "  broken JSON: 1 row\n    " +
                name + ":2: " + from->report().of(DropReason::kBrokenJson).first[0].substr(name.size() + 4) +
                "\n  a field is missing: 7 rows\n    " + name + ":6: \"messages\" is missing\n    " + name +
                ":7: \"messages\" is missing\n    " + name + ":8: \"messages\" is missing\n    " + name +
                ":9: \"messages\" is missing\n    " + name +
                ":10: \"messages\" is missing\n    and 2 more\n"
                "  a field of the wrong type: 1 row\n    " +
                name +
                ":5: \"messages\" is of type number, expected a list of messages\n"
                "  no trained token: 1 row\n    " +
                name + ":4: no token of it is trained\n");
  const Loader::Scan scan = from->scan();
  EXPECT_EQ(scan.report.dropped(), 10);
  EXPECT_EQ(scan.examples, 1);
  EXPECT_EQ(scan.trained_tokens, 2);
  all.strict = true;
  expect_error(ErrorKind::kBadInput, "c.jsonl:2] not valid JSON at byte 2", [&] { loader(all)->next(1000); });
  expect_error(ErrorKind::kBadInput, "mend or remove the row, or do without strict", [&] { loader(all)->scan(); });
}

TEST_F(DataLoader, SaysWhenThereIsNothingToTrainOn) {
  DataOptions all = options({write("c.jsonl", R"({"messages": [{"role": "user", "content": "q"}]})"
                                              "\n{}\n")});
  expect_error(ErrorKind::kBadInput, "none of its 2 rows can be trained on:\n0 rows used, 2 left out\n",
               [&] { loader(all)->next(100); });
  write("empty.jsonl", "");
  expect_error(ErrorKind::kBadInput, "the file has no rows", [&] { loader(options({path("empty.jsonl")})); });
  write("empty.txt", "");
  expect_error(ErrorKind::kBadInput, "there are no rows to train on", [&] { loader(options({path("empty.txt")})); });
  expect_error(ErrorKind::kUsage, "no sources are given", [&] { loader({}); });
}

TEST_F(DataLoader, ALaterLengthUnderWhichNoRowCanBeUsedIsRefused) {
  std::string rows;
  for (int i = 0; i < 12; ++i) rows += fmt::format(R"({{"prompt": "q", "completion": "{:030}"}})", i) + "\n";
  DataOptions all = options({write("long.jsonl", rows)});
  all.plain_strings = true;
  all.sequence_length = all.batch_tokens = 64;
  const auto alone = loader(all);
  EXPECT_EQ(order(*alone, 20).size(), 20U);
  alone->set_lengths(16, 64);
  const std::string why = "long.jsonl] none of its 12 rows can be trained on:\n0 rows used, 12 left out\n";
  expect_error(ErrorKind::kBadInput, why, [&] { alone->next(64); });
  all.sources.push_back({write("short.jsonl", text_rows(numbered(5))), DataKind::kAuto, std::nullopt});
  all.sources[0].weight = all.sources[1].weight = 1;
  const auto mixture = loader(all);
  EXPECT_EQ(order(*mixture, 20).size(), 20U);
  mixture->set_lengths(16, 64);
  expect_error(ErrorKind::kBadInput, why, [&] { order(*mixture, 20); });
}

// At the end of one epoch and the beginning of the next, more rows than an epoch has may follow each other unused.
TEST_F(DataLoader, OneUsableRowIsEnough) {
  std::string rows = "broken\n";
  for (int i = 0; i < 3; ++i) rows = "{}\n" + rows;
  DataOptions text = options({write("c.jsonl", rows + R"({"text": "good"})" + "\n")});
  text.sources[0].kind = DataKind::kTextRows;
  const auto from = loader(text);
  EXPECT_EQ(order(*from, 60), std::vector<std::int64_t>(60, 4));
}

TEST_F(DataLoader, RewindsToItsFirstExample) {
  DataOptions text = options({write("a.jsonl", text_rows(numbered(7)))});
  text.epochs = 1;
  const auto from = loader(text);
  const auto all = order(*from, 100);
  EXPECT_EQ(all.size(), 7U);
  EXPECT_TRUE(order(*from, 1).empty());
  from->rewind();
  EXPECT_EQ(order(*from, 100), all);
}

TEST_F(DataLoader, DropsCutsOrRefusesOverLongExamples) {
  DataOptions all = options({write("c.jsonl", R"({"prompt": "q", "completion": "0123456789"})"
                                              "\n"
                                              R"({"prompt": "q", "completion": "0"})"
                                              "\n")});
  all.plain_strings = true;
  all.sequence_length = all.batch_tokens = 8;
  all.epochs = 1;
  const auto dropped = loader(all);
  EXPECT_EQ(order(*dropped, 9).size(), 1U);
  EXPECT_THAT(dropped->report().text(), HasSubstr("c.jsonl:1: 12 tokens, more than the sequence length of 8"));
  all.over_long = OverLong::kTruncate;
  const auto cut = loader(all);
  EXPECT_EQ(order(*cut, 9).size(), 2U);
  EXPECT_THAT(cut->report().text(), HasSubstr("2 rows used, 0 left out\n  cut at the sequence length: 1 row\n"));
  all.over_long = OverLong::kError;
  expect_error(ErrorKind::kBadInput, "c.jsonl:1] 12 tokens, more than the sequence length of 8: shorten it",
               [&] { order(*loader(all), 9); });
  all.batch_tokens = 7;
  expect_error(ErrorKind::kUsage, "[batch_tokens] 7 rows cannot hold a sequence of 8", [&] { loader(all); });
}

// The ranks of a row's answers, as they follow each other.
std::string row_order(const Example& example) {
  std::string ranks;
  for (const AnswerTokens& answer : example.answers) ranks += std::to_string(answer.rank);
  return ranks;
}

TEST_F(DataLoader, AnswersInOneRowAreShuffledBySeedAndExample) {
  std::string rows;
  for (int i = 0; i < 600; ++i) rows += fmt::format(R"({{"prompt": "q{}", "answers": ["a", "bc", "def"]}})", i) + "\n";
  DataOptions all = options({write("r.jsonl", rows)});
  all.shuffle = false;
  all.one_row_answers = true;
  const auto orders = [&](std::uint64_t seed) {
    all.seed = seed;
    const auto from = loader(all);
    std::vector<std::string> seen;
    for (int i = 0; i < 600; ++i) seen.push_back(row_order(*from->next_example()));
    return seen;
  };
  const std::vector<std::string> first = orders(1);
  EXPECT_EQ(orders(1), first);
  EXPECT_NE(orders(2), first);
  std::map<std::string, int> counts;
  for (const std::string& order : first) ++counts[order];
  EXPECT_EQ(counts.size(), 6U);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 100, 40) << order;  // four deviations
  all.shuffle = true;                                                              // another order of examples, the same in each
  all.seed = 1;
  const auto shuffled = loader(all);
  for (int i = 0; i < 50; ++i) {
    const auto example = shuffled->next_example();
    EXPECT_EQ(row_order(*example), first[static_cast<std::size_t>(example->index)]);
  }
}

TEST_F(DataLoader, CutsAnswersInOneRowToACommonLength) {
  DataOptions all = options({write("r.jsonl", R"({"prompt": "q", "answers": ["0123456789", "ab", "ABCDEFGH"]})")});
  all.plain_strings = true;
  all.one_row_answers = true;
  all.over_long = OverLong::kTruncate;
  all.sequence_length = all.batch_tokens = 16;  // begin, q, and 14 for answers of 11, 3 and 9 tokens
  const auto example = loader(all)->next_example();
  ASSERT_TRUE(example);
  std::map<int, std::size_t> lengths;
  for (const AnswerTokens& answer : example->answers) lengths[answer.rank] = answer.tokens.size();
  EXPECT_EQ(lengths, (std::map<int, std::size_t>{{0, 5}, {1, 3}, {2, 5}}));
  EXPECT_EQ(example->longest(), 15);
  all.sequence_length = 4;
  all.epochs = 1;
  const auto from = loader(all);
  EXPECT_THROW(from->next_example(), Error);
  EXPECT_THAT(from->report().text(), HasSubstr("25 tokens of prompt and answers, more than the sequence length of 4"));
}

TEST_F(DataLoader, AShorterSequenceDropsTheExampleThatWasWaiting) {
  DataOptions all = options({write("p.jsonl", pairs(6))});
  const auto from = loader(all);
  from->next(50);  // one pair; the next one waits
  ASSERT_THAT(from->state(), HasSubstr("\"begun\""));
  from->set_lengths(2, 2);
  EXPECT_THAT(from->state(), testing::Not(HasSubstr("\"begun\"")));
}

TEST_F(DataLoader, ReadsTokenShardsAsTheyAre) {
  TokenShardWriter writer(path("s.bin"), 263);
  writer.add(std::vector<Token>{Token{256}, Token{97}, Token{257}});
  writer.add(std::vector<Token>{Token{98}, Token{99}});
  writer.finish();
  DataOptions all = options({path("s.bin")});
  all.shuffle = false;
  all.epochs = 1;
  const StepBatches step = loader(all)->next(100);
  ASSERT_EQ(step.batches.size(), 1U);
  EXPECT_EQ(shown(step), "3 0\n256@0>97*1 97@1>257*1 98@0>99*1 [0 2 0 0][2 1 0 0]");
  TokenShardWriter other(path("t.bin"), 128256);
  other.add(std::vector<Token>{Token{1}, Token{128000}});
  other.finish();
  expect_error(ErrorKind::kBadInput, "id 128000 is outside the tokenizer's vocabulary of 263",
               [&] { loader(options({path("t.bin")}))->next(9); });
}

TEST_F(DataLoader, InspectShowsWhatIsTrainedAndStaysWhereItIs) {
  DataOptions all = options(
      {write("c.jsonl", R"({"messages": [{"role": "user", "content": "\u001b[2Jq"}, {"role": "assistant", "content": "a\nb"}]})"
                        "\n{}\n"),
       write("p.jsonl", pairs(1))});
  all.shuffle = false;
  const auto from = loader(all);
  const std::string before = from->state();
  const std::string text = inspect(*from, 2, InspectStyle::kPlain);
  EXPECT_EQ(from->state(), before);
  const std::string frame = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n";
  const std::string header = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
  EXPECT_THAT(text, HasSubstr("c.jsonl: 2 rows of messages in 1 file, "));
  EXPECT_THAT(text, HasSubstr("c.jsonl:1: 31 rows, 4 trained tokens\n" + frame + "\\x1b[2Jq" + header + "«a\nb<|eot_id|>»\n"));
  EXPECT_THAT(text, HasSubstr(frame + "q0" + header + "\n[answer of rank 0]\n«y»<|eot_id|>\n[answer of rank 1]\n«no»<|eot_id|>\n"));
  EXPECT_THAT(inspect(*from, 1, InspectStyle::kTerminal), HasSubstr("\x1b[32;4ma\nb<|eot_id|>\x1b[0m"));
  EXPECT_THAT(inspect(*from, 3, InspectStyle::kPlain), HasSubstr("a field is missing: 1 row"));
}

TEST_F(DataLoader, InspectLeavesTheMiddleOfLongTextsOut) {
  const std::string text(5000, 'x');
  DataOptions all = options({write("a.txt", text + "end")});
  const std::string shown = inspect(*loader(all), 1, InspectStyle::kPlain);
  EXPECT_THAT(shown, HasSubstr("x»\n[… 3005 tokens …]\n«x"));
  EXPECT_THAT(shown, HasSubstr("xend<|end_of_text|>»\n"));
  EXPECT_LT(shown.size(), 2300U);
}

TEST_F(DataLoader, ReadsFilesBesideEachOtherAsOneSource) {
  write("d/a.jsonl", text_rows(numbered(3)));
  write("d/b.json", "[" + dump_json(Json{{"text", "last"}}) + "]");
  write("d/c.txt", "plain");
  DataOptions all = options({path("d")});
  all.shuffle = false;
  all.epochs = 1;
  const auto from = loader(all);
  EXPECT_THAT(order(*from, 9), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(from->where(2), path("d/a.jsonl") + ":3");
  EXPECT_EQ(from->where(3), path("d/b.json") + ":1");
  EXPECT_EQ(from->where(4), path("d/c.txt") + ":1");
  EXPECT_EQ(from->sources()[0].files, 3);
}

}  // namespace
}  // namespace puna
