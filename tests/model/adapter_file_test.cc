// SPDX-License-Identifier: Apache-2.0
#include "model/adapter_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>

#include "base/random.h"
#include "expect_error.h"
#include "model/adapter_fixture.h"
#include "model/llama.h"
#include "model/ranked_parameters.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

class AdapterFileTest : public testing::TestWithParam<RopePairing> {
 protected:
  AdapterFileTest() : folder_(fs::temp_directory_path() / ("puna-adapter-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~AdapterFileTest() override { fs::remove_all(folder_); }

  // Logits [T, V] of all rows.
  std::vector<float> logits(const std::shared_ptr<const Checkpoint>& checkpoint, const AdapterSet* adapters = nullptr) {
    const std::vector<Token> tokens = random_tokens(12, checkpoint->config.vocabulary);
    std::vector<std::int32_t> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    KvCache cache(checkpoint->config, Format::kF32, 64);
    Llama model(checkpoint, device_, 16, 16, adapters != nullptr ? adapters->rank : 0);
    const std::array<Batch::Part, 1> parts{{{cache.add_sequence(), 12, adapters}}};
    const auto result = model.forward({.tokens = tokens, .parts = parts, .logit_rows = rows}, cache);
    return {result.begin(), result.end()};
  }

  std::shared_ptr<const Checkpoint> write(RopePairing pairing) {
    ModelConfig config = tiny_config();
    config.rope_pairing = pairing;
    const auto base = tiny_checkpoint(config, Format::kF32);
    TrainChoice choice;
    choice.trained = Trained::kAdapters;
    choice.lora = {.rank = 4, .alpha = 6};
    Parameters parameters(base, choice, device_);
    std::uint64_t stream = 0;
    for (Parameter& each : parameters.all()) {
      for (std::size_t i = 0; i < each.value.size(); ++i) each.value[i] = static_cast<float>(0.05 * random_normal(8, stream, i));
      ++stream;
    }
    trained_ = logits(RankedParameters(parameters).view());
    write_adapter(folder_, parameters, choice.lora, "base");
    return base;
  }

  // One key of adapter_config.json.
  void rewrite(const std::string& key, const Json& value) const {
    const fs::path path = folder_ / "adapter_config.json";
    Json config = parse_json((std::ostringstream() << std::ifstream(path).rdbuf()).str(), "test");
    config[key] = value;
    std::ofstream(path) << config.dump();
  }

  fs::path folder_;
  ThreadPool pool_{2};
  Device device_{pool_};
  std::vector<float> trained_;  // logits of what was written, before it was
};

// Query and key rows lie in another order in PEFT's files than in GGUF's.
TEST_P(AdapterFileTest, WhatIsLoadedComputesWhatWasWritten) {
  const auto base = write(GetParam());
  const auto adapters = load_adapters(read_adapter(folder_), *base, "tuned");
  EXPECT_EQ(adapters->name, "tuned");
  EXPECT_EQ(adapters->rank, 4);
  EXPECT_FLOAT_EQ(adapters->layers[0].at(WeightRole::kUp).scale, 1.5F);
  EXPECT_EQ(logits(base, adapters.get()), trained_);
  const std::vector<float> folded = logits(with_adapters_folded_in(*base, *adapters)), plain = logits(base);
  double largest = 0, error = 0, change = 0;
  for (std::size_t i = 0; i < folded.size(); ++i) {
    largest = std::max(largest, std::fabs(static_cast<double>(folded[i])));
    error = std::max(error, std::fabs(static_cast<double>(folded[i]) - static_cast<double>(trained_[i])));
    change = std::max(change, std::fabs(static_cast<double>(folded[i]) - static_cast<double>(plain[i])));
  }
  EXPECT_LT(error, 2e-5 * largest);
  EXPECT_GT(change, 0.05 * largest) << "the adapters change nothing: the test would not see wrong ones";
}
INSTANTIATE_TEST_SUITE_P(Pairings, AdapterFileTest, testing::Values(RopePairing::kNeighbours, RopePairing::kHalves));

TEST_P(AdapterFileTest, PeftsExceptionsFromAlphaHold) {
  const auto base = write(GetParam());
  rewrite("alpha_pattern", {{"layers.1.mlp.up_proj", 8}, {"q_proj", 2}});
  const auto adapters = load_adapters(read_adapter(folder_), *base, "tuned");
  EXPECT_FLOAT_EQ(adapters->layers[0].at(WeightRole::kUp).scale, 1.5F);
  EXPECT_FLOAT_EQ(adapters->layers[1].at(WeightRole::kUp).scale, 2.0F);
  EXPECT_FLOAT_EQ(adapters->layers[0].at(WeightRole::kQuery).scale, 0.5F);
  EXPECT_FLOAT_EQ(adapters->layers[1].at(WeightRole::kQuery).scale, 0.5F);
  rewrite("alpha_pattern", {{"layers.*q_proj", 2}});
  expect_error(ErrorKind::kUnsupported, "only names of modules", [&] { read_adapter(folder_); });
  rewrite("alpha_pattern", Json::object());
  rewrite("fan_in_fan_out", true);
  expect_error(ErrorKind::kUnsupported, "transposed", [&] { read_adapter(folder_); });
}

TEST_P(AdapterFileTest, OnesForAChangedBaseAreRefused) {
  write(GetParam());
  for (const char* start : {"pissa", "pissa_niter_16", "olora", "corda"}) {
    rewrite("init_lora_weights", start);
    expect_error(ErrorKind::kUnsupported,
                 std::string("out of the base (init_lora_weights: ") + start + "): save it again with path_",
                 [&] { read_adapter(folder_); });
  }
  for (const Json& start : {Json(true), Json(false), Json(nullptr), Json("gaussian")}) {
    rewrite("init_lora_weights", start);
    EXPECT_FALSE(read_adapter(folder_).matrices.empty());
  }
  rewrite("layer_replication", nullptr);
  EXPECT_FALSE(read_adapter(folder_).matrices.empty());
  rewrite("layer_replication", Json::array({Json::array({0, 2}), Json::array({1, 2})}));
  expect_error(ErrorKind::kUnsupported, "(layer_replication)", [&] { read_adapter(folder_); });
}

TEST_P(AdapterFileTest, AnotherModelsIsRefused) {
  write(GetParam());
  const AdapterFile adapter = read_adapter(folder_);
  ModelConfig shallow = tiny_config(), narrow = tiny_config();
  shallow.layers = 1;
  narrow.feed_forward = 256;
  expect_error(ErrorKind::kBadInput, "is for layer 1, the base has 1",
               [&] { load_adapters(adapter, *tiny_checkpoint(shallow, Format::kF32), "x"); });
  expect_error(ErrorKind::kBadInput, "it was made for another model",
               [&] { load_adapters(adapter, *tiny_checkpoint(narrow, Format::kF32), "x"); });
}

}  // namespace
}  // namespace puna
