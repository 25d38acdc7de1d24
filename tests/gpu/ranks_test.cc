// SPDX-License-Identifier: Apache-2.0
// The network split over GPUs against the same on one: two ranks on one GPU, which sum through the host's memory, a rank on
// each GPU over NCCL where the machine has several, and its layers in stages, on one GPU and on several.
#include <array>
#include <cstring>
#include <string>

#include "gpu/gpu_fixture.h"
#include "infer/engine.h"
#include "model/adapter_fixture.h"
#include "model/built_in.h"
#include "model/rank_rig.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

ModelConfig split_config() {
  ModelConfig config = tiny_config();
  config.heads = 8;
  config.kv_heads = 4;
  config.head_width = 64;
  config.feed_forward = 1280;  // five blocks of 256: the second rank has one more
  config.vocabulary = 98;
  return config;
}

class GpuRanks : public GpuTest {
 protected:
  // Ranks 0, 1, … on the GPUs of these numbers.
  static std::vector<std::shared_ptr<Gpu>> open(std::span<const int> numbers) {
    std::vector<std::shared_ptr<Gpu>> gpus;
    for (const int number : numbers) gpus.push_back(std::make_shared<Gpu>(number));
    return gpus;
  }
  static RankRig rig_of(const std::shared_ptr<const Checkpoint>& checkpoint, std::vector<std::shared_ptr<Gpu>> gpus,
                        int stages = 1) {
    const std::size_t ranks = gpus.size() / as_size(stages);
    RankRig::Teams teams;
    for (std::size_t first = 0; first < gpus.size() && ranks > 1; first += ranks) {
      std::vector<Gpu*> members;
      for (const auto& gpu : std::span(gpus).subspan(first, ranks)) members.push_back(gpu.get());
      teams.push_back(make_team(members));
    }
    return {checkpoint, {static_cast<int>(ranks), stages}, std::move(teams), std::move(gpus), Format::kF32, 2048};
  }

  // Prompts round activations, so what a sum changes in the last digit may fall to the other side of a half.
  static double tolerance_of_prompts(Format format) {
    return format == Format::kF32 ? 1e-5 : format == Format::kBF16 ? 4e-2 : format == Format::kF8E4M3 ? 0.4 : 5e-3;
  }

  static void expect_what_one_does(const std::vector<std::shared_ptr<Gpu>>& gpus) {
    const std::vector<Token> tokens = random_tokens(40, 98);
    for (const Format format : {Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3, Format::kQ8_0, Format::kQ4_K}) {
      const auto checkpoint = tiny_checkpoint(split_config(), format);
      RankRig one = rig_of(checkpoint, {gpus.front()}), several = rig_of(checkpoint, gpus);
      const auto distance = [&](std::size_t count, std::size_t chunk) {
        const auto some = std::span(tokens).first(count);
        const std::vector<float> expected = one.append(one.cache.add_sequence(), some, chunk);
        return farthest(several.append(several.cache.add_sequence(), some, chunk), expected);
      };
      EXPECT_LT(distance(40, 40), tolerance_of_prompts(format)) << info(format).name << " at once";
      EXPECT_LT(distance(14, 7), 1e-4) << info(format).name << " by seven";
      EXPECT_LT(distance(12, 1), 1e-4) << info(format).name << " one by one, recorded where the team allows it";
    }
    const std::shared_ptr<const Checkpoint> nano = open_checkpoint(kBuiltInPath);
    RankRig one = rig_of(nano, {gpus.front()}), several = rig_of(nano, gpus);
    const std::vector<Token> prompt = nano->need_tokenizer().encode("What is the capital of Japan?");
    const std::vector<Token> written = several.greedy(prompt, 16);
    EXPECT_EQ(written, one.greedy(prompt, 16));
    EXPECT_EQ(written, several.greedy(prompt, 16)) << "a rerun";
  }
};

TEST_F(GpuRanks, TwoOnOneGpuSumThroughTheHost) {
  const auto gpus = open(std::array{0, 0});
  EXPECT_EQ(make_team(std::vector<Gpu*>{gpus[0].get(), gpus[1].get()})->about(),
            "the host's memory, for want of NCCL: two ranks are on one GPU");
  expect_what_one_does(gpus);
}

TEST_F(GpuRanks, OneOnEachOfTwoGpus) {
  if (find_gpus().gpus.size() < 2) GTEST_SKIP() << "needs two GPUs";
  expect_what_one_does(open(std::array{0, 1}));
}

TEST_F(GpuRanks, OneOnEachOfFourGpus) {
  if (find_gpus().gpus.size() < 4) GTEST_SKIP() << "needs four GPUs";
  expect_what_one_does(open(std::array{0, 1, 2, 3}));
}

// What a GPU computes does not depend on which one it is, so neither do the bits. 1,050 rows go through the stages in two pieces,
// whose products may sum in another order than the whole's.
TEST_F(GpuRanks, StagesHaveTheBitsOfOne) {
  ModelConfig config = split_config();
  config.layers = 5;
  const std::vector<Token> tokens = random_tokens(40, 98);
  const auto last_logits = [](RankRig& rig, std::int64_t rows) {
    const std::vector<Token> many = random_tokens(rows, 98);
    return rig.run(std::vector<Batch::Part>{{rig.cache.add_sequence(), rows}}, many,
                   std::vector<std::int32_t>{static_cast<std::int32_t>(rows) - 1});
  };
  // One stage on the first of these GPUs, which are opened again: a GPU is in one team at a time.
  const auto expect_same = [&](const std::vector<int>& numbers, int stages, const char* what) {
    const auto gpus = open(numbers), of_one = open(std::span(numbers).first(numbers.size() / as_size(stages)));
    for (const Format format : {Format::kF32, Format::kBF16, Format::kQ4_K}) {
      const auto checkpoint = tiny_checkpoint(config, format);
      RankRig one = rig_of(checkpoint, of_one), several = rig_of(checkpoint, gpus, stages);
      for (const std::size_t chunk : {40, 7, 1}) {
        const std::vector<float> expected = one.append(one.cache.add_sequence(), tokens, chunk);
        EXPECT_EQ(several.append(several.cache.add_sequence(), tokens, chunk), expected)
            << what << ", " << info(format).name << ", chunks of " << chunk;
      }
      EXPECT_EQ(several.greedy(tokens, 20), one.greedy(tokens, 20)) << what << ", recorded";
      EXPECT_LT(farthest(last_logits(several, 1050), last_logits(one, 1050)), tolerance_of_prompts(format))
          << what << ", in pieces";
    }
  };
  expect_same({0, 0}, 2, "two stages on one GPU");
  expect_same({0, 0, 0}, 3, "three stages on one GPU");
  if (find_gpus().gpus.size() < 2) GTEST_SKIP() << "the rest needs two GPUs";
  expect_same({0, 1}, 2, "a stage on each of two GPUs");
  if (find_gpus().gpus.size() < 4) GTEST_SKIP() << "the rest needs four GPUs";
  expect_same({0, 1, 2, 3}, 4, "a stage on each of four GPUs");
  expect_same({0, 1, 2, 3}, 2, "two stages of two GPUs");
}

// Every rank has the same numbers behind a sum over NCCL, and they are near the plain sum.
TEST_F(GpuRanks, NcclSums) {
  if (find_gpus().gpus.size() < 2) GTEST_SKIP() << "needs two GPUs";
  const auto gpus = open(std::array{0, 1});
  const std::unique_ptr<Team> team = make_team(std::vector<Gpu*>{gpus[0].get(), gpus[1].get()});
  if (!team->records()) GTEST_SKIP() << team->about();
  ThreadPool ranks(2), first(1), second(1);
  std::vector<std::vector<float>> sums(2);
  for (const std::int64_t count : {1, 4096, 1000003}) {
    ranks.run([&](int rank) {
      Device own{.pool = rank == 0 ? first : second, .gpu = gpus[as_size(rank)].get(), .team = team.get(), .rank = rank};
      const GpuArray<float> x(own, normal_values(count, static_cast<std::uint64_t>(rank), 1));
      for (int repeat = 0; repeat < 3; ++repeat) sum_over_ranks(own, x.data(), count);
      sums[as_size(rank)] = x.read();
    });
    EXPECT_EQ(std::memcmp(sums[0].data(), sums[1].data(), sums[0].size() * sizeof(float)), 0) << count;
    const std::vector<float> a = normal_values(count, 0, 1), b = normal_values(count, 1, 1);
    Doubles expected;
    for (std::size_t i = 0; i < a.size(); ++i) expected.push_back(4.0 * (static_cast<double>(a[i]) + b[i]));
    expect_close(sums[0], expected, 1e-6, "the sum");
  }
}

// The team that a failure broke is refused, and nobody waits for ever.
TEST_F(GpuRanks, AFailureLetsTheOthersGo) {
  if (find_gpus().gpus.size() < 2) GTEST_SKIP() << "needs two GPUs";
  const auto gpus = open(std::array{0, 1});
  const std::unique_ptr<Team> team = make_team(std::vector<Gpu*>{gpus[0].get(), gpus[1].get()});
  if (!team->records()) GTEST_SKIP() << team->about();
  ThreadPool ranks(2), first(1), second(1);
  EXPECT_ANY_THROW(ranks.run([&](int rank) {
    try {
      Device own{.pool = rank == 0 ? first : second, .gpu = gpus[as_size(rank)].get(), .team = team.get(), .rank = rank};
      const GpuArray<float> x(own, std::vector<float>(1000, 1.0f));
      sum_over_ranks(own, x.data(), 1000);
      x.read();
      if (rank == 1) throw std::runtime_error("a failure");
      sum_over_ranks(own, x.data(), 1000);
      x.read();
    } catch (...) {
      team->break_with(std::current_exception());
      throw;
    }
  }));
  EXPECT_THROW(team->mend(), std::runtime_error);
}

TEST_F(GpuRanks, AnEngineOverTwoRanks) {
  const std::shared_ptr<const Checkpoint> nano = open_checkpoint(kBuiltInPath);
  const std::vector<Token> prompt = nano->need_tokenizer().encode("Hello");
  Engine one(nano, {.devices = {.gpus = {0}}}), two(nano, {.devices = {.gpus = {0, 0}}});
  const std::span<const float> expected = one.append(one.cache().add_sequence(), prompt);
  EXPECT_LT(farthest(two.append(two.cache().add_sequence(), prompt), expected), 1e-2);
  EXPECT_EQ(two.plan().gpus, 2);
  EXPECT_LT(two.plan().weights, one.plan().weights);
}

// Adapters of a request, of which each rank has its part.
TEST_F(GpuRanks, AdaptersOverTwoRanksAndInTwoStages) {
  const auto checkpoint = tiny_checkpoint(split_config(), Format::kF32);
  const auto set = random_adapters(checkpoint->config, 4, 5);
  const std::vector<Token> tokens = random_tokens(20, 98);
  const auto logits = [&](const DeviceChoice& devices, const AdapterSet* adapters) {
    Engine engine(checkpoint, {.kv_format = Format::kF32, .adapters = {set}, .devices = devices});
    const std::span<const float> last = engine.append(engine.cache().add_sequence(), tokens, {}, adapters);
    return std::vector<float>(last.begin(), last.end());
  };
  const std::vector<float> one = logits({.gpus = {0}}, set.get());
  EXPECT_GT(farthest(one, logits({.gpus = {0}}, nullptr)), 1e-3) << "the adapters change nothing";
  EXPECT_LT(farthest(logits({.gpus = {0, 0}}, set.get()), one), 1e-4);
  EXPECT_EQ(logits({.gpus = {0, 0}, .stages = 2}, set.get()), one);
}

TEST_F(GpuRanks, AnEngineInTwoStages) {
  const std::shared_ptr<const Checkpoint> nano = open_checkpoint(kBuiltInPath);
  const std::vector<Token> prompt = nano->need_tokenizer().encode("Hello");
  Engine one(nano, {.devices = {.gpus = {0}}}), two(nano, {.devices = {.gpus = {0, 0}, .stages = 2}});
  const std::span<const float> expected = one.append(one.cache().add_sequence(), prompt);
  EXPECT_EQ(farthest(two.append(two.cache().add_sequence(), prompt), expected), 0);
  EXPECT_EQ(two.plan().gpus, 2);
  EXPECT_EQ(two.stages(), 2);
  EXPECT_LT(two.plan().kv, one.plan().kv);
}

}  // namespace
}  // namespace puna
