// SPDX-License-Identifier: Apache-2.0
// What `puna load` asks, how it reads streams, and its figures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <numeric>

#include "cli/event_lines.h"
#include "cli/load_prompts.h"
#include "cli/load_report.h"
#include "expect_error.h"
#include "temp_folder.h"

namespace puna {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> data_of(const std::vector<std::string>& pieces) {
  EventLines lines;
  std::vector<std::string> data;
  for (const std::string& piece : pieces) {
    EXPECT_TRUE(lines.push(piece, [&](std::string_view text) { data.emplace_back(text); }));
  }
  return data;
}

TEST(EventLines, ComeWholeHoweverTheyAreCut) {
  const std::string stream = ": ping\n\ndata: {\"a\":1}\n\nevent: x\ndata:two\r\n\r\ndata: [DONE]\n\n";
  const std::vector<std::string> expected = {"{\"a\":1}", "two", "[DONE]"};
  for (std::size_t first = 0; first <= stream.size(); ++first) {
    for (std::size_t second = first; second <= stream.size(); ++second)
      ASSERT_EQ(data_of({stream.substr(0, first), stream.substr(first, second - first), stream.substr(second)}), expected);
  }
  EXPECT_TRUE(data_of({"data: no end"}).empty());
}

TEST(EventLines, AreNoLongerThanAMegabyte) {
  EventLines lines;
  const auto ignore = [](std::string_view) {};
  const std::string half(600'000, 'x');
  EXPECT_TRUE(lines.push(half, ignore));
  EXPECT_FALSE(lines.push(half, ignore));
}

TEST(Spread, IsTheNearestRank) {
  std::vector<double> values(200);  // 200, 199, … 1
  std::iota(values.rbegin(), values.rend(), 1.0);
  const Spread spread = spread_of(values);
  EXPECT_EQ(spread.count, 200);
  EXPECT_DOUBLE_EQ(spread.mean, 100.5);
  EXPECT_EQ(spread.p50, 100);
  EXPECT_EQ(spread.p90, 180);
  EXPECT_EQ(spread.p99, 198);
  EXPECT_EQ(spread.most, 200);
  EXPECT_EQ(spread_of({7}).p99, 7);
  EXPECT_EQ(spread_of({}).count, 0);
}

TEST(LoadReport, CountsWhatWasAnswered) {
  std::vector<LoadSample> samples(4);
  samples[0] = {
      .status = 200, .began = 1, .first = 1.5, .ended = 3, .gaps = {0.25F, 0.75F}, .prompt_tokens = 10, .completion_tokens = 3};
  samples[1] = {.status = 200, .began = 2, .first = 2.25, .ended = 5, .prompt_tokens = 20, .completion_tokens = 1};
  samples[2] = {.status = 429, .problem = "HTTP status 429", .began = 2, .ended = 2.5, .prompt_tokens = 1000};
  samples[3] = {.status = 200, .problem = "the stream ended before [DONE]", .began = 2, .ended = 4};
  const Json report = to_json(summarize(samples));
  EXPECT_EQ(report.at("answered"), 2);
  EXPECT_EQ(report.at("failed"), 2);
  EXPECT_EQ(report.at("errors"), Json({{"429", 1}, {"the stream ended before [DONE]", 1}}));
  EXPECT_EQ(report.at("seconds"), 4.0);
  EXPECT_EQ(report.at("requests_per_second"), 0.5);
  EXPECT_EQ(report.at("completion_tokens_per_second"), 1.0);
  EXPECT_EQ(report.at("total_tokens_per_second"), 34.0 / 4);
  EXPECT_EQ(report.at("time_to_first_token_ms").at("mean"), 375.0);
  EXPECT_EQ(report.at("inter_token_latency_ms").at("max"), 750.0);
  EXPECT_EQ(report.at("end_to_end_ms").at("p50"), 2000.0);
  EXPECT_EQ(report.at("end_to_end_ms").at("p99"), 3000.0);
}

TEST(LoadReport, SaysNothingOfWhatWasNotMeasured) {
  const Json report = to_json(summarize({}));
  EXPECT_EQ(report.at("answered"), 0);
  EXPECT_EQ(report.at("requests_per_second"), 0.0);
  EXPECT_TRUE(report.at("time_to_first_token_ms").is_null());
  EXPECT_EQ(to_text(summarize({})).find("nan"), std::string::npos);
}

std::string content(const LoadPrompts& prompts, std::int64_t index) {
  return load_body(prompts, index).at("messages").at(0).at("content").get<std::string>();
}

TEST(LoadPrompts, AreTheSameForASeedAndDifferAfterWhatTheyShare) {
  const LoadPrompts prompts{.model = "m", .prompt_tokens = 40, .shared_prefix = 30, .seed = 5};
  EXPECT_EQ(content(prompts, 3), content(prompts, 3));
  const std::string a = content(prompts, 0), b = content(prompts, 1);
  EXPECT_EQ(std::ranges::count(a, ' '), 39);
  const auto parting = static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
  EXPECT_GE(std::ranges::count(a.substr(0, parting), ' '), 30);
  EXPECT_LT(std::ranges::count(a.substr(0, parting), ' '), 39);
  LoadPrompts other = prompts;
  other.seed = 6;
  EXPECT_NE(content(other, 0), a);
}

TEST(LoadPrompts, AskForTheUsageOfStreams) {
  LoadPrompts prompts{.model = "m", .max_tokens = 7};
  EXPECT_EQ(load_body(prompts, 0).at("max_tokens"), 7);
  EXPECT_FALSE(load_body(prompts, 0).contains("stream_options"));
  EXPECT_FALSE(load_body(prompts, 0).contains("ignore_eos"));
  prompts.stream = prompts.ignore_end = true;
  EXPECT_EQ(load_body(prompts, 0).at("stream_options").at("include_usage"), true);
  EXPECT_EQ(load_body(prompts, 0).at("ignore_eos"), true);
}

TEST(LoadPrompts, ComeFromAFileInTurn) {
  const TempFolder folder;
  const std::string path = (folder.path() / "p.jsonl").string();
  std::ofstream(path) << "{\"prompt\": \"one\"}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"two\"}]}\n"
                      << "{\"custom_id\": \"x\", \"body\": {\"messages\": [{\"role\": \"user\", \"content\": \"three\"}]}}\n";
  LoadPrompts prompts{.model = "m"};
  prompts.conversations = read_conversations(path);
  EXPECT_THAT((std::vector{content(prompts, 0), content(prompts, 1), content(prompts, 2), content(prompts, 3)}),
              ElementsAre("one", "two", "three", "one"));
  std::ofstream(path) << "{\"prompt\": \"one\"}\n{\"text\": \"two\"}\n";
  expect_error(ErrorKind::kBadInput, "p.jsonl:2]", [&] { read_conversations(path); });
  std::ofstream(path) << "\n";
  expect_error(ErrorKind::kBadInput, "no prompt", [&] { read_conversations(path); });
}

}  // namespace
}  // namespace puna
