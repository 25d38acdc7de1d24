// SPDX-License-Identifier: Apache-2.0
// The context is chosen before anything is allocated: what was asked for or nothing, and without a wish what fits.
#include "infer/engine.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "base/as_size.h"
#include "base/error.h"
#include "kernels/activations.h"
#include "kernels/device.h"
#include "model/rank_share.h"
#include "model/stages.h"

namespace puna {
namespace {

constexpr std::int64_t kDefaultContext = 8192;  // a 128K cache of an 8B model is 16 GiB: only for those who ask

int ranks_of(const EngineOptions& options) { return options.devices.count() / options.devices.stages; }

// What requests may choose lies beside the weights.
std::int64_t weight_bytes(const Checkpoint& checkpoint, const EngineOptions& options, std::span<const Gpu* const> gpus) {
  const int ranks = ranks_of(options);
  std::int64_t bytes = gpus.empty() ? checkpoint.weight_bytes + copied_column_bytes(checkpoint, ranks) : 0;
  if (!gpus.empty()) {
    for (const auto& stage : stages_of(checkpoint, options.devices.stages))
      bytes = std::max(bytes, gpu_weight_bytes(*stage, *gpus.front(), ranks));
  }
  for (const auto& adapters : options.adapters) {
    if (gpus.empty()) {
      bytes += adapters->bytes + copied_column_bytes(adapters->layers, ranks);
    } else {  // of all stages' layers, in the last rank, which has as much as any
      bytes += gpu_adapter_bytes(share_of(adapters->layers, share_of_rank(checkpoint, ranks - 1, ranks)), *gpus.front());
    }
  }
  return bytes;
}

std::int64_t adapter_rank(const EngineOptions& options) {
  std::int64_t rank = 0;
  for (const auto& adapters : options.adapters) rank = std::max(rank, adapters->rank);
  return rank;
}

void check_options(const EngineOptions& options, const ModelConfig& config) {
  const auto check = [](const char* option, std::int64_t value, std::int64_t least) {
    if (value < least) fail(ErrorKind::kUsage, option, "{} is too small: give {} or more", value, least);
  };
  check("threads", options.threads, 0);
  check("context", options.context, 0);
  check("sequences", options.sequences, 1);
  check("chunk_rows", options.chunk_rows, 1);
  check("logit_rows", options.logit_rows, 1);
  check("--pipeline", options.devices.stages, 1);
  if (options.devices.count() % options.devices.stages != 0) {
    fail(ErrorKind::kUsage, "--pipeline", "{} stages cannot share {} device{} equally: give as many with --device, or a multiple",
         options.devices.stages, options.devices.count(), options.devices.count() == 1 ? "" : "s");
  }
  if (options.context > config.context) {
    fail(ErrorKind::kUsage, "context", "{} positions are more than the {} that this model was made for: give {} or less",
         options.context, config.context, config.context);
  }
}

void check_devices(const Checkpoint& checkpoint, const EngineOptions& options) {
  check_shares(checkpoint, ranks_of(options), options.devices.stages);
  if (!options.adapters.empty() && !checkpoint.adapters.empty())
    fail(ErrorKind::kUsage, "adapters", "{} has adapters of its own: merge them first", checkpoint.where);
}

std::vector<std::shared_ptr<Gpu>> open_gpus(const Checkpoint& checkpoint, const EngineOptions& options) {
  check_options(options, checkpoint.config);
  check_devices(checkpoint, options);
  std::vector<std::shared_ptr<Gpu>> gpus;
  for (const int number : options.devices.gpus) gpus.push_back(std::make_shared<Gpu>(number));
  return gpus;
}

std::vector<const Gpu*> pointers(std::span<const std::shared_ptr<Gpu>> gpus) {
  std::vector<const Gpu*> pointers;
  for (const auto& gpu : gpus) pointers.push_back(gpu.get());
  return pointers;
}

RunShape run_shape(const Checkpoint& checkpoint, const EngineOptions& options, std::int64_t context, std::vector<const Gpu*> gpus) {
  return {.kv_format = options.kv_format,
          .context = context,
          .rows = options.chunk_rows,
          .logit_rows = options.logit_rows,
          .adapter_rank = adapter_rank(options),
          .ranks = ranks_of(options),
          .stages = options.devices.stages,
          .stage_layers = most_layers(checkpoint, options.devices.stages),
          .resident_bytes = checkpoint.resident_bytes,
          .gpus = std::move(gpus)};
}

MemoryPlan plan_run(const Checkpoint& checkpoint, const EngineOptions& options, const RunShape& run) {
  return plan_memory(checkpoint.config, weight_bytes(checkpoint, options, run.gpus), run);
}

std::int64_t choose_context(const Checkpoint& checkpoint, const EngineOptions& options, const std::vector<const Gpu*>& gpus) {
  KvCache::check_format(checkpoint.config, options.kv_format, !gpus.empty());
  if (options.context > 0) return options.context;
  const std::int64_t context = std::min(checkpoint.config.context, kDefaultContext);
  const RunShape run = run_shape(checkpoint, options, context, gpus);
  const std::int64_t largest = plan_run(checkpoint, options, run).largest_context;
  return largest >= kPagePositions ? std::min(context, largest) : context;  // below a page: the plan says why it is refused
}

std::int64_t whole_pages(std::int64_t positions) { return (positions + kPagePositions - 1) / kPagePositions * kPagePositions; }

// Room for several contexts as far as it goes: they are seldom all full.
RunShape choose_run(const Checkpoint& checkpoint, const EngineOptions& options, std::int64_t context,
                    const std::vector<const Gpu*>& gpus) {
  RunShape run = run_shape(checkpoint, options, options.sequences == 1 ? context : whole_pages(context) * options.sequences, gpus);
  run.rows = std::max<std::int64_t>(std::min(options.chunk_rows, context), options.sequences);  // one each where they decode
  run.logit_rows = std::min(run.logit_rows, run.rows);
  if (options.sequences > 1) {
    const std::int64_t largest = plan_run(checkpoint, options, run).largest_context;
    run.context = std::clamp(run.context, context, std::max(context, largest));
  }
  return run;
}

MemoryPlan checked_plan(const Checkpoint& checkpoint, const EngineOptions& options, const RunShape& run) {
  MemoryPlan plan = plan_run(checkpoint, options, run);
  check_fits(plan, checkpoint.where);
  return plan;
}

// The threads, in equal parts.
std::vector<std::unique_ptr<ThreadPool>> pools_of(int threads, int devices) {
  const int all = threads > 0 ? threads : available_processors();
  std::vector<std::unique_ptr<ThreadPool>> pools;
  for (int device = 0; device < devices; ++device) pools.push_back(std::make_unique<ThreadPool>(std::max(1, all / devices)));
  return pools;
}

// The part of `all`, one for each device, that is a stage's.
template <typename T>
std::span<const T> of_stage(const std::vector<T>& all, int stage, int ranks) {
  return all.empty() ? std::span<const T>() : std::span(all).subspan(as_size(stage * ranks), as_size(ranks));
}

std::vector<std::unique_ptr<Team>> teams_of(const std::vector<std::shared_ptr<Gpu>>& gpus, const RunShape& run) {
  std::vector<std::unique_ptr<Team>> teams;
  for (int stage = 0; stage < run.stages && run.ranks > 1; ++stage) {
    std::vector<Gpu*> members;
    for (const auto& gpu : of_stage(gpus, stage, run.ranks)) members.push_back(gpu.get());
    teams.push_back(gpus.empty() ? std::make_unique<HostTeam>(run.ranks) : make_team(members));
  }
  return teams;
}

KvCache cache_of(const ModelConfig& config, std::span<const std::shared_ptr<const Checkpoint>> stages, const RunShape& run) {
  std::vector<KvCache::Place> places;
  for (const auto& stage : stages) {
    for (int rank = 0; rank < run.ranks; ++rank)
      places.push_back({run.gpus.empty() ? nullptr : run.gpus[places.size()], stage->config.layers});
  }
  return {config_of_largest_share(config, run.ranks), run.kv_format, run.context, places};
}

std::vector<Llama::RankPlace> rank_places(std::span<const std::shared_ptr<const Checkpoint>> stages,
                                          const std::vector<std::shared_ptr<Gpu>>& gpus,
                                          std::span<const std::unique_ptr<ThreadPool>> pools,
                                          std::span<const std::unique_ptr<Team>> teams, const LoadProgress& progress) {
  const int ranks = static_cast<int>(pools.size() / stages.size());
  std::vector<Llama::RankPlace> places;
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    const auto shares = gpus.empty() ? shares_on_host(stages[stage], ranks)
                                     : load_on_gpus(stages[stage], of_stage(gpus, static_cast<int>(stage), ranks), progress);
    for (int rank = 0; rank < ranks; ++rank) {
      const std::size_t place = places.size();
      places.push_back({shares[as_size(rank)], Device{.pool = *pools[place],
                                                      .gpu = gpus.empty() ? nullptr : gpus[place].get(),
                                                      .team = teams.empty() ? nullptr : teams[stage].get(),
                                                      .rank = rank}});
    }
  }
  return places;
}

}  // namespace

Engine::Engine(std::shared_ptr<const Checkpoint> checkpoint, const EngineOptions& options)
    : checkpoint_(std::move(checkpoint)),
      adapters_(options.adapters),
      gpus_(open_gpus(*checkpoint_, options)),
      context_(choose_context(*checkpoint_, options, pointers(gpus_))),
      run_(choose_run(*checkpoint_, options, context_, pointers(gpus_))),
      plan_(checked_plan(*checkpoint_, options, run_)),
      stages_(stages_of(*checkpoint_, run_.stages)),
      pools_(pools_of(options.threads, run_.devices())),
      teams_(teams_of(gpus_, run_)),
      cache_(cache_of(checkpoint_->config, stages_, run_)),
      model_(rank_places(stages_, gpus_, pools_, teams_, options.load_progress), run_.stages, run_.rows, run_.logit_rows,
             run_.adapter_rank) {
  instruction_set();  // refuses a processor that no kernel was built for
  place_adapters();
}

// Each rank's part of what requests may choose, where it runs.
void Engine::place_adapters() {
  for (const auto& adapters : adapters_) {
    const auto parts = stages_of(adapters, stages_);
    for (std::size_t place = 0; place < pools_.size(); ++place) {
      const std::size_t stage = place / as_size(run_.ranks), rank = place % as_size(run_.ranks);
      const Share share = share_of_rank(*stages_[stage], static_cast<int>(rank), run_.ranks);
      const auto own = adapters_of_share(parts[stage], share);
      model_.run_adapters_as(adapters.get(), place, gpus_.empty() ? own : load_on_gpu(*own, gpus_[place]));
    }
  }
}

int Engine::threads() const {
  int threads = 0;
  for (const auto& pool : pools_) threads += pool->size();
  return threads;
}

std::string Engine::device() const { return gpus_.empty() ? "cpu" : gpus_.front()->info().name; }

std::string Engine::sums() const { return teams_.empty() ? "" : teams_.front()->about(); }

int Engine::adapter_number(const AdapterSet* adapters) const {
  if (adapters == nullptr) return 0;
  const auto place = std::ranges::find(adapters_, adapters, &std::shared_ptr<const AdapterSet>::get);
  if (place == adapters_.end())
    fail(ErrorKind::kUsage, "adapters", "{} was not loaded with this model: give it when the engine is made", adapters->name);
  return static_cast<int>(place - adapters_.begin()) + 1;
}

std::int64_t Engine::chunk(std::int64_t left, std::int64_t most) {
  if (left <= most) return left;
  return std::max(std::min(most, left - kPanelRows), std::min(most, kPanelRows));
}

std::span<const float> Engine::append(int sequence, std::span<const Token> tokens, const PrefillProgress& progress,
                                      const AdapterSet* adapters, std::span<const RowDraw> draws) {
  PUNA_CHECK(!tokens.empty(), "engine", "append() got no tokens");
  const std::int64_t cached = cache_.length(sequence), total = static_cast<std::int64_t>(tokens.size());
  if (cached + total > context()) {
    const bool possible = cached + total <= config().context;
    fail(ErrorKind::kNoRoom, "context",
         "the prompt has {} tokens and {} are cached, the context holds {}: {} (the model allows {})", total, cached, context(),
         possible ? fmt::format("give --context {} or more", cached + total) : "shorten the prompt", config().context);
  }
  std::span<const float> logits;
  for (std::int64_t done = 0; done < total;) {
    const std::int64_t rows = chunk(total - done, model_.max_rows());
    const bool last = done + rows == total;
    const std::array<Batch::Part, 1> parts{{{sequence, rows, adapters}}};
    const std::array<std::int32_t, 1> last_row{static_cast<std::int32_t>(rows - 1)};
    const auto chunk = tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(rows));
    logits = model_.forward({.tokens = chunk,
                             .parts = parts,
                             .logit_rows = std::span(last_row).first(last ? 1 : 0),
                             .draws = last ? draws : std::span<const RowDraw>(),
                             .known_tokens = checkpoint_->known_tokens()},
                            cache_);
    done += rows;
    if (progress && !progress(done, total)) break;  // no logits yet, unless this was the last chunk
  }
  return logits;
}

std::span<const float> Engine::append_few(int sequence, std::span<const Token> tokens, const AdapterSet* adapters,
                                          std::span<const RowDraw> draws) {
  std::array<std::int32_t, kPanelRows - 1> rows;
  PUNA_CHECK(!tokens.empty() && tokens.size() <= rows.size(), "engine", "append_few() got {} tokens, expected 1 to {}",
             tokens.size(), rows.size());
  std::iota(rows.begin(), rows.end(), 0);
  const std::array<Batch::Part, 1> parts{{{sequence, static_cast<std::int64_t>(tokens.size()), adapters}}};
  return model_.forward({.tokens = tokens,
                         .parts = parts,
                         .logit_rows = std::span(rows).first(tokens.size()),
                         .draws = draws,
                         .known_tokens = checkpoint_->known_tokens()},
                        cache_);
}

}  // namespace puna
