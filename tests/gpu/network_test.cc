// SPDX-License-Identifier: Apache-2.0
// The network on the GPU against an independent one in F64, against itself, and the model of the program against the CPU.
#include <array>
#include <numeric>

#include "gpu/gpu_fixture.h"
#include "model/adapter_fixture.h"
#include "model/built_in.h"
#include "model/golden_logits.h"
#include "model/gpu_checkpoint.h"
#include "model/llama.h"
#include "model/llama_oracle.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using Parts = std::vector<Batch::Part>;

// A network with its cache on one device.
struct DeviceRig {
  DeviceRig(const std::shared_ptr<const Checkpoint>& checkpoint, Device device, Format kv_format = Format::kF32,
            std::int64_t adapter_rank = 0)
      : cache(checkpoint->config, kv_format, 1024, device.gpu), model(checkpoint, device, 128, 128, adapter_rank) {}

  // Logits [rows, V] of the given rows, or of all.
  std::vector<float> run(const Parts& parts, std::span<const Token> tokens, std::span<const std::int32_t> rows) {
    const std::span<const float> logits = model.forward({.tokens = tokens, .parts = parts, .logit_rows = rows}, cache);
    return {logits.begin(), logits.end()};
  }
  std::vector<float> run(const Parts& parts, std::span<const Token> tokens) {
    std::vector<std::int32_t> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    return run(parts, tokens, rows);
  }
  // Appends tokens in chunks; logits of all rows.
  std::vector<float> append(int sequence, std::span<const Token> tokens, std::size_t chunk) {
    std::vector<float> logits;
    for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
      const auto part = tokens.subspan(begin, std::min(chunk, tokens.size() - begin));
      const auto rows = run({{sequence, static_cast<std::int64_t>(part.size())}}, part);
      logits.insert(logits.end(), rows.begin(), rows.end());
    }
    return logits;
  }

  KvCache cache;
  Llama model;
};

std::vector<float> oracle_logits(const Checkpoint& checkpoint, std::span<const Token> tokens) {
  std::vector<float> result;
  for (const LlamaOracle::Row& row : LlamaOracle(checkpoint, false).logits(tokens))
    result.insert(result.end(), row.begin(), row.end());
  return result;
}

// Heads as wide as tensor cores take them.
ModelConfig wide_heads_config() {
  ModelConfig config = tiny_config();
  config.heads = 4;
  config.kv_heads = 2;
  config.head_width = 64;
  return config;
}

class GpuNetwork : public GpuTest {
 protected:
  std::shared_ptr<const Checkpoint> on_gpu(const std::shared_ptr<const Checkpoint>& checkpoint) {
    return load_on_gpu(checkpoint, gpu());
  }
};

// In chunks of many rows activations are rounded: to 11 bits of F16, 8 bits of BF16, 4 bits of F8E4M3.
double prompt_tolerance(Format format) {
  return format == Format::kF32 ? 1e-4 : format == Format::kBF16 ? 4e-2 : format == Format::kF8E4M3 ? 0.4 : 5e-3;
}

TEST_F(GpuNetwork, AgreesWithTheDoublePrecisionNetwork) {
  const std::vector<Token> tokens = random_tokens(40, 96);
  for (const Format format : {Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3, Format::kQ8_0, Format::kQ4_K}) {
    const auto checkpoint = tiny_checkpoint(tiny_config(), format);
    const std::vector<float> expected = oracle_logits(*checkpoint, tokens);
    DeviceRig rig(on_gpu(checkpoint), device);
    const auto distance = [&](std::size_t count, std::size_t chunk) {
      const auto logits = rig.append(rig.cache.add_sequence(), std::span(tokens).first(count), chunk);
      return farthest(logits, std::span(expected).first(logits.size()));
    };
    EXPECT_LT(distance(40, 40), prompt_tolerance(format)) << info(format).name << " at once";
    // Few rows are exact but for F32.
    EXPECT_LT(distance(14, 7), 1e-4) << info(format).name << " by seven";
    EXPECT_LT(distance(5, 1), 1e-4) << info(format).name << " one by one";
  }
}

TEST_F(GpuNetwork, AgreesForEveryFormatOfTheCache) {
  struct CacheCase {
    Format format;
    RopePairing pairing;
    double tolerance;  // as NarrowCachesStayClose of tests/model for the CPU's F16; BF16 has 8 significant bits, F8E4M3 4
  };
  const CacheCase cases[] = {{Format::kF32, RopePairing::kNeighbours, 1e-4},
                             {Format::kF16, RopePairing::kNeighbours, 2e-3},
                             {Format::kF16, RopePairing::kHalves, 2e-3},
                             {Format::kBF16, RopePairing::kNeighbours, 2e-2},
                             {Format::kF8E4M3, RopePairing::kHalves, 0.3}};
  const std::vector<Token> tokens = random_tokens(70, 96);  // over a page's end
  for (const CacheCase& c : cases) {
    ModelConfig config = wide_heads_config();
    config.rope_pairing = c.pairing;
    const auto checkpoint = tiny_checkpoint(config, Format::kF32);
    const std::vector<float> expected = oracle_logits(*checkpoint, tokens);
    DeviceRig rig(on_gpu(checkpoint), device, c.format);
    for (const std::size_t chunk : {70, 33}) {
      EXPECT_LT(farthest(rig.append(rig.cache.add_sequence(), tokens, chunk), expected), c.tolerance)
          << info(c.format).name << " by " << chunk;
    }
    rig.cache.truncate(1, 62);
    const auto behind = rig.append(1, std::span(tokens).subspan(62), 2);
    EXPECT_LT(farthest(behind, std::span(expected).subspan(62 * 96)), c.tolerance) << info(c.format).name << " by two";
  }
}

// A prompt of 131,072 tokens as it is read in earnest: BF16 weights, BF16 cache, chunks of 4,096.
TEST_F(GpuNetwork, TheWholeContextGivesTheReferenceLogits) {
  if (is_emulated()) GTEST_SKIP() << "131,072 rows of attention";
  const double tolerance = prompt_tolerance(Format::kBF16);
  const GoldenLogits test = read_golden_logits("whole_context");
  const auto checkpoint = open_checkpoint(golden("model/" + test.layouts.front()));
  const auto logits = [&] {
    Llama model(on_gpu(checkpoint), device, 4096, 4096);
    KvCache cache(checkpoint->config, Format::kBF16, 131072, gpu().get());
    return logits_of_rows(test, model, cache, 4096);
  };
  const auto row = [&](std::span<const float> all, std::size_t i) { return all.subspan(i * 64, 64); };
  const std::vector<float> got = logits();
  ASSERT_EQ(got.size(), test.rows.size() * 64);
  for (std::size_t i = 0; i < test.rows.size(); ++i)
    EXPECT_LT(farthest(row(got, i), row(test.expected, i)), tolerance) << "row " << test.rows[i];
  // What the test would notice: positions that are not scaled, and a first half that is not seen, which is all that these rows
  // differ by.
  ASSERT_EQ(test.rows, (std::vector<std::int64_t>{0, 8191, 32767, 65535, 131071}));
  EXPECT_GT(farthest(row(test.expected, 3), row(test.expected, 4)), 2 * tolerance);
  checkpoint->config.rope_scaling.reset();
  EXPECT_GT(farthest(logits(), test.expected), 2 * tolerance);
}

TEST_F(GpuNetwork, ARaggedBatchIsItsSequencesOneByOne) {
  for (const Format kv_format : {Format::kF32, Format::kF16}) {
    const auto loaded = on_gpu(tiny_checkpoint(wide_heads_config(), Format::kF32));
    DeviceRig together(loaded, device, kv_format), apart(loaded, device, kv_format);
    const std::vector<Token> tokens = random_tokens(160, 96);
    const std::span<const Token> all = tokens;
    for (DeviceRig* rig : {&together, &apart}) {
      for (int s = 0; s < 3; ++s) rig->cache.add_sequence();
      rig->append(1, all.first(70), 35);  // sequence 1 goes on at position 70
    }
    const std::vector<float> ragged = together.run({{2, 1}, {0, 40}, {1, 2}}, all.subspan(70, 43));
    std::vector<float> expected = apart.append(2, all.subspan(70, 1), 1);
    for (const auto& part : {apart.append(0, all.subspan(71, 40), 40), apart.append(1, all.subspan(111, 2), 2)})
      expected.insert(expected.end(), part.begin(), part.end());
    EXPECT_LT(farthest(ragged, expected), kv_format == Format::kF32 ? 1e-5 : 2e-3);
    EXPECT_EQ(together.cache.length(1), 72);
  }
}

TEST_F(GpuNetwork, LogitRowsAreASubsetOfAllRows) {
  const auto loaded = on_gpu(tiny_checkpoint(tiny_config(), Format::kF32));
  DeviceRig rig(loaded, device);
  const std::vector<Token> tokens = random_tokens(60, 96);
  const Parts parts{{0, 25}, {1, 35}};
  rig.cache.add_sequence(), rig.cache.add_sequence();
  const std::vector<float> all = rig.run(parts, tokens);
  for (const std::vector<std::int32_t>& rows :
       {std::vector<std::int32_t>{59}, {0}, {24, 25}, {23, 24, 25, 26}, {3, 4, 5, 9, 10, 24, 30, 31, 32, 33, 58, 59}, {}}) {
    for (const int s : {0, 1}) rig.cache.truncate(s, 0);
    const std::vector<float> some = rig.run(parts, tokens, rows);
    ASSERT_EQ(some.size(), rows.size() * 96);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_LT(farthest(std::span(some).subspan(i * 96, 96), std::span(all).subspan(as_size(rows[i]) * 96, 96)), 1e-5)
          << "row " << rows[i] << " of " << rows.size();
    }
  }
  for (const int s : {0, 1}) rig.cache.truncate(s, 0);
  rig.model.forward({.tokens = tokens, .parts = parts, .logit_rows = {}, .all_states = true}, rig.cache);
  EXPECT_EQ(rig.model.states().size(), 60u * 256);
  EXPECT_LT(farthest(rig.model.logits_of_states(10, 50), std::span(all).subspan(10 * 96)), 1e-5);
}

// The second step of a size is recorded, the third one on is replayed.
TEST_F(GpuNetwork, RecordedStepsHaveTheBitsOfOthers) {
  for (const auto& [format, kv_format] : {std::pair{Format::kBF16, Format::kF16}, {Format::kQ4_K, Format::kF32}}) {
    const auto loaded = on_gpu(tiny_checkpoint(wide_heads_config(), format));
    DeviceRig recorded(loaded, device, kv_format), plain(loaded, device, kv_format);
    const std::vector<Token> tokens = random_tokens(200, 96);
    const std::span<const Token> all = tokens;
    for (DeviceRig* rig : {&recorded, &plain}) {
      for (int s = 0; s < 3; ++s) rig->append(rig->cache.add_sequence(), all.subspan(as_size(s), as_size(58 + s)), 64);
    }
    // Three sequences and two in turns, over the end of a page.
    const auto parts_of = [](std::size_t step) { return step % 3 == 2 ? Parts{{2, 1}, {0, 1}} : Parts{{0, 1}, {1, 1}, {2, 1}}; };
    const auto run = [&](DeviceRig& rig, std::size_t step) {
      return rig.run(parts_of(step), all.subspan(step * 3, parts_of(step).size()));
    };
    std::vector<std::vector<float>> steps;
    for (std::size_t step = 0; step < 11; ++step) steps.push_back(run(recorded, step));
    for (std::size_t step = 0; step < steps.size(); ++step) {
      gpu()->forget_records();
      EXPECT_EQ(run(plain, step), steps[step]) << info(format).name << " step " << step;
    }
  }
}

TEST_F(GpuNetwork, StepsAreRecordedAnewForAnotherCacheAndLongerSequences) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const auto loaded = on_gpu(checkpoint);
  DeviceRig rig(loaded, device);
  KvCache other(checkpoint->config, Format::kF32, 512, gpu().get());
  const std::vector<Token> tokens = random_tokens(300, 96);
  const std::vector<std::int32_t> row{0};
  const std::vector<float> expected = oracle_logits(*checkpoint, std::span(tokens).first(270));
  rig.append(rig.cache.add_sequence(), std::span(tokens).first(252), 63);
  other.add_sequence();
  for (std::size_t step = 0; step < 18; ++step) {  // over position 256, the first four pages
    const std::span<const Token> token = std::span(tokens).subspan(252 + step, 1);
    EXPECT_LT(farthest(rig.run({{0, 1}}, token), std::span(expected).subspan((252 + step) * 96, 96)), 1e-4) << step;
    if (step % 4 != 3) continue;
    const std::span<const Token> first = std::span(tokens).subspan(step / 4, 1);
    const Parts one{{0, 1}};
    const auto logits = rig.model.forward({.tokens = first, .parts = one, .logit_rows = row}, other);
    EXPECT_LT(farthest(logits, std::span(expected).subspan(step / 4 * 96, 96)), 1e-4) << "the other cache, " << step;
  }
}

TEST_F(GpuNetwork, TheLikeliestAreThoseOfTheLogits) {
  const auto loaded = on_gpu(tiny_checkpoint(tiny_config(), Format::kQ8_0));
  DeviceRig logits_rig(loaded, device), rig(loaded, device);
  const std::vector<Token> tokens = random_tokens(120, 96);
  const std::span<const Token> all = tokens;
  std::vector<std::int32_t> rows;
  const auto step = [&](const Parts& parts, std::span<const Token> part) {
    const std::vector<float> logits = logits_rig.run(parts, part, rows);
    EXPECT_TRUE(rig.model.forward({.tokens = part, .parts = parts, .logit_rows = rows, .likeliest_only = true}, rig.cache).empty());
    ASSERT_EQ(rig.model.likeliest().size(), rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::span<const float> row = std::span(logits).subspan(i * 96, 96);
      EXPECT_EQ(rig.model.likeliest()[i], std::ranges::max_element(row) - row.begin());
    }
  };
  for (DeviceRig* r : {&logits_rig, &rig}) r->cache.add_sequence(), r->cache.add_sequence();
  rows = {29, 49};
  step({{0, 30}, {1, 20}}, all.first(50));
  rows = {0, 1};
  for (std::size_t i = 0; i < 5; ++i) step({{0, 1}, {1, 1}}, all.subspan(50 + 2 * i, 2));
}

// What differs between two steps, how tokens are drawn too, is not part of the record.
TEST_F(GpuNetwork, ShortlistsAreThoseOfTheLogits) {
  ModelConfig config = tiny_config();
  config.vocabulary = 1000;
  const std::int64_t known = 990;
  const auto loaded = on_gpu(tiny_checkpoint(config, Format::kBF16));
  DeviceRig logits_rig(loaded, device), rig(loaded, device);
  const std::vector<Token> tokens = random_tokens(120, 96);
  std::vector<std::int32_t> rows;
  std::uint64_t drawn = 0;
  const auto step = [&](const Parts& parts, std::span<const Token> part) {
    const std::vector<float> logits = logits_rig.run(parts, part, rows);
    std::vector<RowDraw> draws;
    for (std::size_t i = 0; i < rows.size(); ++i) draws.push_back({random_uniform(1, 1, ++drawn), i == 0 ? 1.0f : 0.5f});
    const Batch batch{.tokens = part, .parts = parts, .logit_rows = rows, .draws = draws, .known_tokens = known};
    EXPECT_TRUE(rig.model.forward(batch, rig.cache).empty());
    ASSERT_EQ(rig.model.shortlists().size(), rows.size());
    std::vector<Shortlist> want(rows.size());
    shortlist_rows(cpu, {logits.data(), static_cast<std::int64_t>(rows.size()), 1000, known}, draws.data(), want.data());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Shortlist& found = rig.model.shortlists()[i];
      EXPECT_TRUE(std::ranges::equal(found.tokens(), want[i].tokens()));
      EXPECT_TRUE(std::ranges::equal(found.values(), want[i].values()));
      EXPECT_EQ(found.drawn, want[i].drawn);
      EXPECT_TRUE(std::ranges::equal(rig.model.row_logits(static_cast<std::int64_t>(i)),
                                     std::span(logits).subspan(i * 1000, as_size(known))));
    }
  };
  for (DeviceRig* r : {&logits_rig, &rig}) r->cache.add_sequence(), r->cache.add_sequence();
  const std::span<const Token> all = tokens;
  rows = {29, 49};
  step({{0, 30}, {1, 20}}, all.first(50));
  rows = {0, 1};
  for (std::size_t i = 0; i < 5; ++i) step({{0, 1}, {1, 1}}, all.subspan(50 + 2 * i, 2));
}

TEST_F(GpuNetwork, AdaptersOfPartsAreTheFoldedWeights) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const auto first = random_adapters(checkpoint->config, 4, 5),
             second = random_adapters(checkpoint->config, 9, 6, {WeightRole::kQuery, WeightRole::kDown});
  const std::vector<Token> tokens = random_tokens(48, 96);
  const std::span<const Token> all = tokens;
  DeviceRig rig(on_gpu(checkpoint), device, Format::kF32, 9);
  for (const auto& set : {first, second}) rig.model.run_adapters_as(set.get(), 0, load_on_gpu(*set, gpu()));
  for (int s = 0; s < 3; ++s) rig.cache.add_sequence();
  const std::vector<float> expected[] = {oracle_logits(*with_adapters_folded_in(*checkpoint, *first), all.first(20)),
                                         oracle_logits(*checkpoint, all.subspan(16, 20)),
                                         oracle_logits(*with_adapters_folded_in(*checkpoint, *second), all.subspan(28, 20))};
  const std::size_t begin[] = {0, 16, 28};
  std::vector<std::vector<float>> got(3);
  std::size_t done = 0;
  for (const std::size_t rows : {16, 1, 1, 2}) {
    std::vector<Token> batch;
    for (const std::size_t from : begin)
      batch.insert(batch.end(), all.begin() + static_cast<std::ptrdiff_t>(from + done),
                   all.begin() + static_cast<std::ptrdiff_t>(from + done + rows));
    const auto count = static_cast<std::int64_t>(rows);
    const auto logits = rig.run({{0, count, first.get()}, {1, count}, {2, count, second.get()}}, batch);
    for (std::size_t s = 0; s < 3; ++s)
      got[s].insert(got[s].end(), logits.begin() + static_cast<std::ptrdiff_t>(s * rows * 96),
                    logits.begin() + static_cast<std::ptrdiff_t>((s + 1) * rows * 96));
    done += rows;
  }
  for (std::size_t s = 0; s < 3; ++s) EXPECT_LT(farthest(got[s], expected[s]), 1e-4) << "sequence " << s;
}

TEST_F(GpuNetwork, AdaptersOfTheCheckpointAreTheFoldedWeights) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const auto set = random_adapters(checkpoint->config, 4, 5);
  const std::vector<Token> tokens = random_tokens(20, 96);
  const std::vector<float> expected = oracle_logits(*with_adapters_folded_in(*checkpoint, *set), tokens);
  checkpoint->adapters = set->layers;
  DeviceRig rig(on_gpu(checkpoint), device);
  EXPECT_LT(farthest(rig.append(rig.cache.add_sequence(), tokens, 20), expected), 1e-4);
  EXPECT_LT(farthest(rig.append(rig.cache.add_sequence(), tokens, 1), expected), 1e-4);
}

// Sixteen greedy tokens behind each prompt, which the CPU chooses. The CPU rounds activations to 8 bits, so logits differ by
// hundredths of the largest: the GPU must choose the same token wherever the CPU's best is ahead by more than that.
TEST_F(GpuNetwork, TheBuiltInModelSaysWhatItSaysOnTheCpu) {
  const std::shared_ptr<const Checkpoint> checkpoint = open_checkpoint(kBuiltInPath);
  const auto loaded = on_gpu(checkpoint);
  const std::array prompts = {"Hello", "What is the capital of France?", "2 + 2 =", "The sun is",
                              "Write a short poem about water."};
  constexpr double kDifference = 5e-2;
  int compared = 0, all = 0;
  double farthest_of_all = 0;
  for (const std::string prompt : std::span(prompts).first(is_emulated() ? 2 : prompts.size())) {
    DeviceRig of_cpu(checkpoint, cpu), of_gpu(loaded, device);
    std::vector<Token> tokens = checkpoint->need_tokenizer().encode(prompt);
    of_cpu.cache.add_sequence(), of_gpu.cache.add_sequence();
    for (int step = 0; step < (is_emulated() ? 6 : 16); ++step) {
      const Parts parts{{0, static_cast<std::int64_t>(tokens.size())}};
      const std::vector<std::int32_t> last{static_cast<std::int32_t>(tokens.size()) - 1};
      const std::vector<float> want = of_cpu.run(parts, tokens, last), got = of_gpu.run(parts, tokens, last);
      farthest_of_all = std::max(farthest_of_all, farthest(got, want));
      EXPECT_LT(farthest(got, want), kDifference) << prompt << " step " << step;
      std::vector<float> sorted = want;
      std::ranges::nth_element(sorted, sorted.begin() + 1, std::greater());
      const auto best = std::ranges::max_element(want) - want.begin();
      const double largest = std::abs(*std::ranges::max_element(want, {}, [](float x) { return std::abs(x); }));
      ++all;
      if (sorted[0] - sorted[1] > kDifference * largest) {
        EXPECT_EQ(std::ranges::max_element(got) - got.begin(), best) << prompt << " step " << step;
        ++compared;
      }
      tokens = {Token{static_cast<std::int32_t>(best)}};
    }
  }
  RecordProperty("compared", fmt::format("{} of {}, logits differ by {:.4f} at most", compared, all, farthest_of_all));
  EXPECT_GE(compared, all / 4) << "of " << all;
}

}  // namespace
}  // namespace puna
