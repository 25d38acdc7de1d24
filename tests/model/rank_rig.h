// SPDX-License-Identifier: Apache-2.0
// A network over ranks of the CPU or of GPUs, with its cache, for tests.
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

namespace puna {

class RankRig {
 public:
  // Over the host's memory. One rank: no team.
  RankRig(const std::shared_ptr<const Checkpoint>& checkpoint, int ranks, Format kv_format = Format::kF32,
          std::int64_t positions = 512)
      : RankRig(checkpoint, ranks, ranks == 1 ? nullptr : std::make_unique<HostTeam>(ranks), {}, kv_format, positions) {}
  // `gpus`: one for each rank, or none.
  RankRig(const std::shared_ptr<const Checkpoint>& checkpoint, int ranks, std::unique_ptr<Team> own_team,
          std::vector<std::shared_ptr<Gpu>> own_gpus, Format kv_format = Format::kF32, std::int64_t positions = 512)
      : gpus(std::move(own_gpus)),
        team(std::move(own_team)),
        pools(make_pools(ranks)),
        cache(config_of_largest_share(checkpoint->config, ranks), kv_format, positions, memory_of(ranks)),
        model(places(checkpoint), 128, 128) {}

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
  std::unique_ptr<Team> team;
  std::vector<std::unique_ptr<ThreadPool>> pools;
  KvCache cache;
  Llama model;

 private:
  static std::vector<std::unique_ptr<ThreadPool>> make_pools(int ranks) {
    std::vector<std::unique_ptr<ThreadPool>> pools;
    for (int rank = 0; rank < ranks; ++rank) pools.push_back(std::make_unique<ThreadPool>(ranks <= 2 ? 2 : 1));
    return pools;
  }
  std::vector<const Gpu*> memory_of(int ranks) const {
    std::vector<const Gpu*> memory(static_cast<std::size_t>(ranks));
    for (std::size_t rank = 0; rank < gpus.size(); ++rank) memory[rank] = gpus[rank].get();
    return memory;
  }
  std::vector<Llama::RankPlace> places(const std::shared_ptr<const Checkpoint>& checkpoint) const {
    const auto shares = gpus.empty() ? shares_on_host(checkpoint, static_cast<int>(pools.size())) : load_on_gpus(checkpoint, gpus);
    std::vector<Llama::RankPlace> places;
    for (std::size_t rank = 0; rank < shares.size(); ++rank) {
      places.push_back({shares[rank], Device{.pool = *pools[rank],
                                             .gpu = gpus.empty() ? nullptr : gpus[rank].get(),
                                             .team = team.get(),
                                             .rank = static_cast<int>(rank)}});
    }
    return places;
  }
};

}  // namespace puna
