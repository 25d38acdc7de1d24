// SPDX-License-Identifier: Apache-2.0
// A network over ranks of the CPU or of GPUs, in stages or not, with its cache, for tests.
#pragma once

#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "kernels/collective.h"
#include "model/gpu_checkpoint.h"
#include "model/llama.h"
#include "model/rank_share.h"
#include "model/stages.h"

namespace puna {

// Ranks of each stage.
struct RigShape {
  RigShape(int of_stage, int all_stages = 1) : ranks(of_stage), stages(all_stages) {}
  int ranks, stages;
};

class RankRig {
 public:
  using Teams = std::vector<std::unique_ptr<Team>>;  // one for each stage, or none where stages have one rank

  // Over the host's memory.
  RankRig(const std::shared_ptr<const Checkpoint>& checkpoint, RigShape shape, Format kv_format = Format::kF32,
          std::int64_t positions = 512)
      : RankRig(checkpoint, shape, host_teams(shape), {}, kv_format, positions) {}
  // `gpus`: one for each rank, or none.
  RankRig(const std::shared_ptr<const Checkpoint>& checkpoint, RigShape shape, Teams own_teams,
          std::vector<std::shared_ptr<Gpu>> own_gpus, Format kv_format = Format::kF32, std::int64_t positions = 512)
      : gpus(std::move(own_gpus)),
        teams(std::move(own_teams)),
        pools(make_pools(shape.ranks * shape.stages)),
        stages(stages_of(*checkpoint, shape.stages)),
        cache(config_of_largest_share(checkpoint->config, shape.ranks), kv_format, positions, memory(shape.ranks)),
        model(places(shape.ranks), shape.stages, 1100, 512) {}

  // Logits [rows, V] of all rows, or of the given ones.
  std::vector<float> run(std::span<const Batch::Part> parts, std::span<const Token> tokens, std::span<const std::int32_t> rows) {
    const std::span<const float> logits = model.forward({.tokens = tokens, .parts = parts, .logit_rows = rows}, cache);
    return {logits.begin(), logits.end()};
  }
  std::vector<float> run(std::span<const Batch::Part> parts, std::span<const Token> tokens) {
    return run(parts, tokens, all_rows(tokens.size()));
  }
  // Appends tokens to a sequence in chunks; logits of all rows.
  std::vector<float> append(int sequence, std::span<const Token> tokens, std::size_t chunk) {
    std::vector<float> logits;
    for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
      const auto part = tokens.subspan(begin, std::min(chunk, tokens.size() - begin));
      const std::vector<float> rows = run(std::vector<Batch::Part>{{sequence, static_cast<std::int64_t>(part.size())}}, part);
      logits.insert(logits.end(), rows.begin(), rows.end());
    }
    return logits;
  }
  // The likeliest tokens behind a prompt.
  std::vector<Token> greedy(std::span<const Token> prompt, int count) {
    const int sequence = cache.add_sequence();
    std::vector<Token> next(prompt.begin(), prompt.end()), written;
    for (int step = 0; step < count; ++step) {
      const std::vector<Batch::Part> parts{{sequence, static_cast<std::int64_t>(next.size())}};
      const std::vector<std::int32_t> last{static_cast<std::int32_t>(next.size()) - 1};
      model.forward({.tokens = next, .parts = parts, .logit_rows = last, .likeliest_only = true}, cache);
      next = {Token{model.likeliest().front()}};
      written.push_back(next.front());
    }
    cache.remove_sequence(sequence);
    return written;
  }

  static std::vector<std::int32_t> all_rows(std::size_t count) {
    std::vector<std::int32_t> rows(count);
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  }

  std::vector<std::shared_ptr<Gpu>> gpus;
  Teams teams;
  std::vector<std::unique_ptr<ThreadPool>> pools;
  std::vector<std::shared_ptr<const Checkpoint>> stages;
  KvCache cache;
  Llama model;

  static Teams one_team(std::unique_ptr<Team> team) {
    Teams teams;
    if (team != nullptr) teams.push_back(std::move(team));
    return teams;
  }

 private:
  static Teams host_teams(const RigShape& shape) {
    Teams teams;
    for (int stage = 0; stage < shape.stages && shape.ranks > 1; ++stage) teams.push_back(std::make_unique<HostTeam>(shape.ranks));
    return teams;
  }
  static std::vector<std::unique_ptr<ThreadPool>> make_pools(int devices) {
    std::vector<std::unique_ptr<ThreadPool>> pools;
    for (int device = 0; device < devices; ++device) pools.push_back(std::make_unique<ThreadPool>(devices <= 2 ? 2 : 1));
    return pools;
  }
  std::vector<KvCache::Place> memory(int ranks) const {
    std::vector<KvCache::Place> places;
    for (const auto& stage : stages) {
      for (int rank = 0; rank < ranks; ++rank)
        places.push_back({gpus.empty() ? nullptr : gpus[places.size()].get(), stage->config.layers});
    }
    return places;
  }
  std::vector<Llama::RankPlace> places(int ranks) const {
    std::vector<Llama::RankPlace> places;
    for (std::size_t stage = 0; stage < stages.size(); ++stage) {
      const auto of_stage = static_cast<std::size_t>(ranks);
      const auto shares = gpus.empty() ? shares_on_host(stages[stage], ranks)
                                       : load_on_gpus(stages[stage], std::span(gpus).subspan(stage * of_stage, of_stage));
      for (std::size_t rank = 0; rank < shares.size(); ++rank) {
        const std::size_t place = places.size();
        places.push_back({shares[rank], Device{.pool = *pools[place],
                                               .gpu = gpus.empty() ? nullptr : gpus[place].get(),
                                               .team = teams.empty() ? nullptr : teams[stage].get(),
                                               .rank = static_cast<int>(rank)}});
      }
    }
    return places;
  }
};

}  // namespace puna
