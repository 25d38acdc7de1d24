// SPDX-License-Identifier: Apache-2.0
#include "infer/reward_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "base/random.h"
#include "expect_error.h"
#include "model/packed_oracle.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

std::vector<Token> some_tokens(std::int64_t count) {
  std::vector<Token> tokens;
  for (std::int64_t i = 0; i < count; ++i) tokens.push_back(Token{static_cast<std::int32_t>((7 * i + 3) % 96)});
  return tokens;
}

TEST(Reward, IsTheHeadsProductWithTheLastState) {
  const std::shared_ptr<Checkpoint> model = tiny_checkpoint(tiny_config(), Format::kF32);
  std::vector<float> head(256);
  for (std::size_t i = 0; i < head.size(); ++i) head[i] = static_cast<float>(random_normal(2, 9, i));
  model->reward_head = {.name = kRewardHead,
                        .format = Format::kF32,
                        .shape = Shape{1, 256},
                        .bytes = std::as_bytes(std::span(head)),
                        .row_scales = {}};
  Engine engine(model, {.threads = 1, .kv_format = Format::kF32});
  ThreadPool pool(1);
  TrainChoice frozen;
  frozen.trained = Trained::kNothing;
  const Parameters parameters(model, frozen, Device{pool});
  for (const std::int64_t length : {1, 20, 70}) {
    const std::vector<Token> tokens = some_tokens(length);
    std::vector<std::int32_t> positions;
    for (std::int32_t t = 0; t < length; ++t) positions.push_back(t);
    const std::vector<PackedSegment> segments{{0, length}};
    const PackedOracle::Row last =
        PackedOracle(model->config).hidden(PackedOracle::values(parameters), {tokens, positions, segments}).back();
    double want = 0, size = 0;
    for (std::size_t d = 0; d < last.size(); ++d) {
      want += static_cast<double>(head[d]) * last[d];
      size += std::abs(static_cast<double>(head[d]) * last[d]);
    }
    EXPECT_NEAR(reward(engine, tokens), want, 1e-5 * size) << length;
  }
  EXPECT_EQ(engine.cache().free_pages() * kPagePositions, engine.cache().capacity()) << "nothing stays in the cache";
}

TEST(Reward, RefusesAModelWithoutTheHead) {
  Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), {.threads = 1});
  expect_error(ErrorKind::kUnsupported, "is no reward model: it has no score.weight", [&] { reward(engine, some_tokens(3)); });
}

}  // namespace
}  // namespace puna
