// SPDX-License-Identifier: Apache-2.0
// The context is chosen before anything is allocated: what was asked for or nothing, and without a wish what fits.
#include "infer/engine.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "kernels/activations.h"
#include "kernels/device.h"

namespace puna {
namespace {

constexpr std::int64_t kDefaultContext = 8192;  // a 128K cache of an 8B model is 16 GiB: only for those who ask

// What requests may choose lies beside the weights.
std::int64_t weight_bytes(const Checkpoint& checkpoint, const EngineOptions& options, const Gpu* gpu) {
  std::int64_t bytes = gpu == nullptr ? checkpoint.weight_bytes : gpu_weight_bytes(checkpoint, *gpu);
  for (const auto& adapters : options.adapters) bytes += gpu == nullptr ? adapters->bytes : gpu_adapter_bytes(*adapters, *gpu);
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

std::int64_t choose_context(const Checkpoint& checkpoint, const EngineOptions& options, const Gpu* gpu) {
  check_options(options, checkpoint.config);
  KvCache::check_format(checkpoint.config, options.kv_format, gpu != nullptr);
  if (options.context > 0) return options.context;
  const std::int64_t context = std::min(checkpoint.config.context, kDefaultContext);
  const RunShape run{.kv_format = options.kv_format,
                     .context = context,
                     .rows = options.chunk_rows,
                     .logit_rows = options.logit_rows,
                     .adapter_rank = adapter_rank(options),
                     .gpu = gpu};
  const std::int64_t largest = plan_memory(checkpoint.config, weight_bytes(checkpoint, options, gpu), run).largest_context;
  return largest >= kPagePositions ? std::min(context, largest) : context;  // below a page: the plan says why it is refused
}

std::int64_t whole_pages(std::int64_t positions) { return (positions + kPagePositions - 1) / kPagePositions * kPagePositions; }

// Room for several contexts as far as it goes: they are seldom all full.
RunShape choose_run(const Checkpoint& checkpoint, const EngineOptions& options, std::int64_t context, const Gpu* gpu) {
  RunShape run{.kv_format = options.kv_format,
               .context = options.sequences == 1 ? context : whole_pages(context) * options.sequences,
               .rows = std::min(options.chunk_rows, context),
               .logit_rows = options.logit_rows,
               .adapter_rank = adapter_rank(options),
               .gpu = gpu};
  run.logit_rows = std::min(run.logit_rows, run.rows);
  if (options.sequences > 1) {
    const std::int64_t largest = plan_memory(checkpoint.config, weight_bytes(checkpoint, options, gpu), run).largest_context;
    run.context = std::clamp(run.context, context, std::max(context, largest));
  }
  return run;
}

MemoryPlan checked_plan(const Checkpoint& checkpoint, const EngineOptions& options, const RunShape& run) {
  const Gpu* const gpu = run.gpu;
  if (!options.adapters.empty() && !checkpoint.adapters.empty())
    fail(ErrorKind::kUsage, "adapters", "{} has adapters of its own: merge them first", checkpoint.where);
  MemoryPlan plan = plan_memory(checkpoint.config, weight_bytes(checkpoint, options, gpu), run);
  check_fits(plan, checkpoint.where);
  return plan;
}

}  // namespace

Engine::Engine(std::shared_ptr<const Checkpoint> checkpoint, const EngineOptions& options)
    : checkpoint_(std::move(checkpoint)),
      adapters_(options.adapters),
      gpu_(options.gpu == kNoGpu ? nullptr : std::make_shared<Gpu>(options.gpu)),
      context_(choose_context(*checkpoint_, options, gpu_.get())),
      run_(choose_run(*checkpoint_, options, context_, gpu_.get())),
      plan_(checked_plan(*checkpoint_, options, run_)),
      pool_(options.threads),
      cache_(checkpoint_->config, run_.kv_format, run_.context, gpu_.get()),
      model_(gpu_ == nullptr ? checkpoint_ : load_on_gpu(checkpoint_, gpu_, options.load_progress), Device{pool_, gpu_.get()},
             run_.rows, run_.logit_rows, run_.adapter_rank) {
  instruction_set();  // refuses a processor that no kernel was built for
  if (gpu_ == nullptr) return;
  for (const auto& adapters : adapters_) model_.run_adapters_as(adapters.get(), load_on_gpu(*adapters, gpu_));
}

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
