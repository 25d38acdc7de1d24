// SPDX-License-Identifier: Apache-2.0
// A network that learns, split over the ranks of a team, and whether it has the gradients of the same network on one device.
// Widths, vocabulary and heads are such that ranks have unequal parts.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "kernels/collective.h"
#include "model/ranked_parameters.h"
#include "model/tiny_checkpoint.h"
#include "train/golden_case.h"
#include "train/optimizer.h"

namespace puna {

// Four key/value heads, five blocks of 32 of the feed-forward width, a vocabulary of 42.
inline ModelConfig divided_config(bool tied) {
  ModelConfig config = small_config();
  config.layers = 2;
  config.heads = 8;
  config.kv_heads = 4;
  config.head_width = 32;
  config.width = 96;
  config.feed_forward = 160;
  config.vocabulary = 42;
  config.tied_embeddings = tied;
  return config;
}

// A document, and a prompt with two answers that do not see each other.
inline PackedBatch divided_batch(std::uint64_t seed = 0) {
  PackedBatch batch;
  batch.tokens = random_tokens(17, 42, 10 + seed);
  batch.targets = random_tokens(17, 42, 20 + seed);
  batch.positions = {0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8};
  batch.segments = {{0, 5}, {5, 4}, {9, 3, 5, 4}, {12, 5, 5, 4}};
  batch.weights = {1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1};
  batch.answers = {{.first_row = 9, .rows = 3, .end_row = 11, .group = 0, .rank = 0, .reference_log_prob = -9},
                   {.first_row = 12, .rows = 5, .end_row = 16, .group = 0, .rank = 1, .reference_log_prob = -20}};
  return batch;
}

// A network with an objective, split over the ranks of a team, each with a device; alone on one.
struct RankedLearner {
  RankedLearner(const std::shared_ptr<const Checkpoint>& checkpoint, TrainChoice choice, std::vector<Device> of_ranks, Keep keep,
                const std::string& objective = "next_token", std::int64_t max_rows = 64)
      : devices(std::move(of_ranks)), threads(static_cast<int>(devices.size())) {
    choice.extra = find_objective(objective).extra(checkpoint->config);
    std::vector<const Parameters*> parts;
    for (const Device& device : devices) {
      networks.push_back(std::make_unique<TestNetwork>(checkpoint, choice, device, keep, max_rows));
      TestNetwork& own = *networks.back();
      objectives.push_back(find_objective(objective).make({own.parameters, own.head, device, max_rows}));
      optimizers.push_back(std::make_unique<AdamW>(own.parameters, AdamwOptions{}, device));
      parts.push_back(&own.parameters);
    }
    whole = std::make_unique<RankedParameters>(parts);
    for (std::size_t i = 0; i < whole->entries().size(); ++i) {  // an adapter that does nothing has no gradient
      if (!whole->entries()[i].name.ends_with("lora_B.weight")) continue;
      std::vector<float> drawn(static_cast<std::size_t>(whole->entries()[i].whole.count()));
      for (std::size_t n = 0; n < drawn.size(); ++n) drawn[n] = static_cast<float>(0.3 * random_normal(5, i, n));
      whole->values(i).fill(std::as_bytes(std::span(drawn)));
    }
  }

  // job(rank) in each rank's thread.
  template <typename Job>
  void each(Job&& job) {
    if (devices.size() == 1) return job(std::size_t{0});
    run_ranks(
        threads, [&](auto&& act) { act(*devices.front().team); }, [&](int rank) { job(static_cast<std::size_t>(rank)); });
  }
  // Of each rank.
  struct Computed {
    LossReport report;
    double norm = 0;
  };
  std::vector<Computed> compute(const StepBatches& step) {
    std::vector<Computed> computed(devices.size());
    each([&](std::size_t rank) {
      computed[rank].report = compute_step(*networks[rank], *objectives[rank], step, devices[rank]);
      networks[rank]->parameters.finish_gradients(devices[rank]);
      computed[rank].norm = optimizers[rank]->gradient_norm();
    });
    return computed;
  }
  void update(double learning_rate, double norm) {
    each([&](std::size_t rank) { optimizers[rank]->step(learning_rate, norm); });
  }

  // Of a parameter, put together.
  std::vector<float> gradient(std::size_t i) const {
    std::vector<RankedBytes::Part> parts;
    for (const auto& network : networks)
      parts.push_back({std::as_writable_bytes(network->parameters.all()[i].gradient), &network->parameters.device()});
    const ParameterEntry& entry = whole->entries()[i];
    std::vector<float> values(static_cast<std::size_t>(entry.whole.count()));
    auto* to = reinterpret_cast<std::byte*>(values.data());
    RankedReader().read({std::move(parts), entry.axis, entry.whole[0]},
                        [&](std::span<const std::byte> piece) { to = std::ranges::copy(piece, to).out; });
    return values;
  }
  std::vector<float> value(std::size_t i) const {
    std::vector<float> memory;
    const std::span<const float> values = whole->on_host(i, memory);
    return {values.begin(), values.end()};
  }
  // Of what every rank has whole: its own.
  std::vector<float> own_gradient(std::size_t rank, std::size_t i) const {
    const std::span<const float> on_device = networks[rank]->parameters.all()[i].gradient;
    std::vector<float> copy(on_device.size());
    devices[rank].copy_out(copy.data(), on_device.data(), on_device.size_bytes());
    return copy;
  }

  std::vector<Device> devices;
  ThreadPool threads;
  std::vector<std::unique_ptr<TestNetwork>> networks;
  std::vector<std::unique_ptr<Objective>> objectives;
  std::vector<std::unique_ptr<AdamW>> optimizers;
  std::unique_ptr<RankedParameters> whole;
};

// |found - expected| / |expected|
inline double relative_distance(std::span<const float> found, std::span<const float> expected) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(found[i]) - static_cast<double>(expected[i]), 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return norm == 0 ? (difference == 0 ? 0 : 1) : std::sqrt(difference / norm);
}

// Every gradient of `several`, put together, is that of `one`, to a tolerance relative to its norm; what all ranks have whole is
// the same on all of them, and so are losses and norms.
inline void expect_gradients_of_one(RankedLearner& several, RankedLearner& one, const StepBatches& step, double tolerance) {
  const RankedLearner::Computed want = one.compute(step).front();
  const std::vector<RankedLearner::Computed> got = several.compute(step);
  EXPECT_NEAR(got.front().report.loss, want.report.loss, tolerance * std::fabs(want.report.loss));
  EXPECT_NEAR(got.front().norm, want.norm, tolerance * want.norm);
  EXPECT_EQ(got.front().report.tokens, want.report.tokens);
  for (const RankedLearner::Computed& own : got) {
    EXPECT_EQ(own.report.loss, got.front().report.loss);
    EXPECT_EQ(own.norm, got.front().norm);
  }
  ASSERT_EQ(several.whole->entries().size(), one.whole->entries().size());
  for (std::size_t i = 0; i < one.whole->entries().size(); ++i) {
    const ParameterEntry& entry = several.whole->entries()[i];
    EXPECT_EQ(entry.name, one.whole->entries()[i].name);
    EXPECT_EQ(several.value(i), one.value(i)) << entry.name;
    const std::vector<float> expected = one.gradient(i);
    EXPECT_GT(std::ranges::count_if(expected, [](float value) { return value != 0; }), 0) << entry.name;
    EXPECT_LT(relative_distance(several.gradient(i), expected), tolerance) << entry.name;
    for (std::size_t rank = 1; rank < several.devices.size() && entry.axis == ShardAxis::kNone; ++rank)
      EXPECT_EQ(several.own_gradient(rank, i), several.own_gradient(0, i)) << entry.name << " on rank " << rank;
  }
}

}  // namespace puna
