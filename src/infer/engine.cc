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

namespace puna {
namespace {

constexpr std::int64_t kDefaultContext = 8192;  // a 128K cache of an 8B model is 16 GiB: only for those who ask

int ranks_of(const EngineOptions& options) {
  return options.devices.gpus.empty() ? options.devices.cpu_ranks : static_cast<int>(options.devices.gpus.size());
}

// What requests may choose lies beside the weights.
std::int64_t weight_bytes(const Checkpoint& checkpoint, const EngineOptions& options, std::span<const Gpu* const> gpus) {
  const int ranks = ranks_of(options);
  std::int64_t bytes = gpus.empty() ? checkpoint.weight_bytes + copied_column_bytes(checkpoint, ranks)
                                    : gpu_weight_bytes(checkpoint, *gpus.front(), ranks);
  for (const auto& adapters : options.adapters)
    bytes += gpus.empty() ? adapters->bytes : gpu_adapter_bytes(*adapters, *gpus.front());
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
  if (options.context > config.context) {
    fail(ErrorKind::kUsage, "context", "{} positions are more than the {} that this model was made for: give {} or less",
         options.context, config.context, config.context);
  }
}

void check_devices(const Checkpoint& checkpoint, const EngineOptions& options) {
  check_shares(checkpoint, ranks_of(options));
  if (!options.adapters.empty() && !checkpoint.adapters.empty())
    fail(ErrorKind::kUsage, "adapters", "{} has adapters of its own: merge them first", checkpoint.where);
  if (!options.adapters.empty() && ranks_of(options) > 1) {
    fail(ErrorKind::kUnsupported, "adapters",
         "they do not run over several devices: merge them into the weights first (puna merge), or give one device");
  }
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

RunShape run_shape(const EngineOptions& options, std::int64_t context, std::vector<const Gpu*> gpus) {
  return {.kv_format = options.kv_format,
          .context = context,
          .rows = options.chunk_rows,
          .logit_rows = options.logit_rows,
          .adapter_rank = adapter_rank(options),
          .ranks = ranks_of(options),
          .gpus = std::move(gpus)};
}

std::int64_t choose_context(const Checkpoint& checkpoint, const EngineOptions& options, const std::vector<const Gpu*>& gpus) {
  KvCache::check_format(checkpoint.config, options.kv_format, !gpus.empty());
  if (options.context > 0) return options.context;
  const std::int64_t context = std::min(checkpoint.config.context, kDefaultContext);
  const RunShape run = run_shape(options, context, gpus);
  const std::int64_t largest = plan_memory(checkpoint.config, weight_bytes(checkpoint, options, gpus), run).largest_context;
  return largest >= kPagePositions ? std::min(context, largest) : context;  // below a page: the plan says why it is refused
}

std::int64_t whole_pages(std::int64_t positions) { return (positions + kPagePositions - 1) / kPagePositions * kPagePositions; }

// Room for several contexts as far as it goes: they are seldom all full.
RunShape choose_run(const Checkpoint& checkpoint, const EngineOptions& options, std::int64_t context,
                    const std::vector<const Gpu*>& gpus) {
  RunShape run = run_shape(options, options.sequences == 1 ? context : whole_pages(context) * options.sequences, gpus);
  run.rows = std::min(options.chunk_rows, context);
  run.logit_rows = std::min(run.logit_rows, run.rows);
  if (options.sequences > 1) {
    const std::int64_t largest = plan_memory(checkpoint.config, weight_bytes(checkpoint, options, gpus), run).largest_context;
    run.context = std::clamp(run.context, context, std::max(context, largest));
  }
  return run;
}

MemoryPlan checked_plan(const Checkpoint& checkpoint, const EngineOptions& options, const RunShape& run) {
  MemoryPlan plan = plan_memory(checkpoint.config, weight_bytes(checkpoint, options, run.gpus), run);
  check_fits(plan, checkpoint.where);
  return plan;
}

// The threads, in equal parts.
std::vector<std::unique_ptr<ThreadPool>> pools_of(int threads, int ranks) {
  const int all = threads > 0 ? threads : available_processors();
  std::vector<std::unique_ptr<ThreadPool>> pools;
  for (int rank = 0; rank < ranks; ++rank) pools.push_back(std::make_unique<ThreadPool>(std::max(1, all / ranks)));
  return pools;
}

std::unique_ptr<Team> team_of(std::span<const std::shared_ptr<Gpu>> gpus, int ranks) {
  if (ranks == 1) return nullptr;
  if (gpus.empty()) return std::make_unique<HostTeam>(ranks);
  std::vector<Gpu*> members;
  for (const auto& gpu : gpus) members.push_back(gpu.get());
  return make_team(members);
}

KvCache cache_of(const ModelConfig& config, const RunShape& run) {
  const std::vector<const Gpu*> ranks = run.gpus.empty() ? std::vector<const Gpu*>(as_size(run.ranks)) : run.gpus;
  return {config_of_largest_share(config, run.ranks), run.kv_format, run.context, ranks};
}

std::vector<Llama::RankPlace> rank_places(const std::shared_ptr<const Checkpoint>& checkpoint,
                                          std::span<const std::shared_ptr<Gpu>> gpus,
                                          std::span<const std::unique_ptr<ThreadPool>> pools, Team* team,
                                          const LoadProgress& progress) {
  const auto shares =
      gpus.empty() ? shares_on_host(checkpoint, static_cast<int>(pools.size())) : load_on_gpus(checkpoint, gpus, progress);
  std::vector<Llama::RankPlace> places;
  for (std::size_t rank = 0; rank < pools.size(); ++rank) {
    places.push_back({shares[rank], Device{.pool = *pools[rank],
                                           .gpu = gpus.empty() ? nullptr : gpus[rank].get(),
                                           .team = team,
                                           .rank = static_cast<int>(rank)}});
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
      pools_(pools_of(options.threads, run_.ranks)),
      team_(team_of(gpus_, run_.ranks)),
      cache_(cache_of(checkpoint_->config, run_)),
      model_(rank_places(checkpoint_, gpus_, pools_, team_.get(), options.load_progress), run_.rows, run_.logit_rows,
             run_.adapter_rank) {
  instruction_set();  // refuses a processor that no kernel was built for
  if (gpus_.empty()) return;
  for (const auto& adapters : adapters_) model_.run_adapters_as(adapters.get(), load_on_gpu(*adapters, gpus_.front()));
}

int Engine::threads() const {
  int threads = 0;
  for (const auto& pool : pools_) threads += pool->size();
  return threads;
}

std::string Engine::device() const { return gpus_.empty() ? "cpu" : gpus_.front()->info().name; }

std::string Engine::sums() const { return team_ == nullptr ? "" : team_->about(); }

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
                                      const AdapterSet* adapters) {
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
    logits = model_.forward({.tokens = chunk, .parts = parts, .logit_rows = std::span(last_row).first(last ? 1 : 0)}, cache_);
    done += rows;
    if (progress && !progress(done, total)) break;  // no logits yet, unless this was the last chunk
  }
  return logits;
}

std::span<const float> Engine::append_few(int sequence, std::span<const Token> tokens, const AdapterSet* adapters) {
  std::array<std::int32_t, kPanelRows - 1> rows;
  PUNA_CHECK(!tokens.empty() && tokens.size() <= rows.size(), "engine", "append_few() got {} tokens, expected 1 to {}",
             tokens.size(), rows.size());
  std::iota(rows.begin(), rows.end(), 0);
  const std::array<Batch::Part, 1> parts{{{sequence, static_cast<std::int64_t>(tokens.size()), adapters}}};
  return model_.forward({.tokens = tokens, .parts = parts, .logit_rows = std::span(rows).first(tokens.size())}, cache_);
}

}  // namespace puna
