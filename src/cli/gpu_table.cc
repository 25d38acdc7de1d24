// SPDX-License-Identifier: Apache-2.0
#include "cli/gpu_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "kernels/collective.h"
#include "model/kv_cache.h"
#include "model/rank_share.h"
#include "model/stages.h"

namespace puna {
namespace {

std::string size_text(std::int64_t bytes) { return human_bytes(static_cast<std::uint64_t>(bytes)); }

}  // namespace

std::vector<int> gpu_counts(std::string_view text) {
  std::vector<int> counts;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (bool more = true; more;) {
    int count = 0;
    const auto [last, error] = std::from_chars(at, end, count);
    const bool ends = last == end;
    if (error != std::errc() || count < 1 || count > kMostRanks || (!ends && *last != ','))
      fail(ErrorKind::kUsage, "--gpus", "'{}': expected numbers of GPUs from 1 to {}, as in 1,2,4,8", text, kMostRanks);
    counts.push_back(count);
    more = !ends;
    at = last + 1;
  }
  return counts;
}

std::int64_t memory_size(std::string_view text) {
  constexpr double kMost = 1e15;
  double number = 0;
  const auto [last, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<std::size_t>(last - text.data()));
  const double factor = unit == "GB" ? 1e9 : unit == "GiB" ? 1024.0 * 1024 * 1024 : unit == "TB" ? 1e12 : 0;
  if (error != std::errc() || !std::isfinite(number) || number * factor < 1 || number * factor > kMost)
    fail(ErrorKind::kUsage, "--gpu-memory", "'{}': expected the memory of one GPU, as in 80GB or 80GiB", text);
  return static_cast<std::int64_t>(number * factor);
}

std::vector<GpuRow> plan_gpus(const Checkpoint& checkpoint, const GpuQuestion& question) {
  KvCache::check_format(checkpoint.config, question.kv_format, true);
  const int stages = question.stages;
  check_shares(checkpoint, 1, stages);
  std::vector<GpuRow> rows;
  for (const int gpus : question.gpus) {
    GpuRow row{.gpus = gpus, .why_not = "", .plan = {}};
    try {
      if (gpus % stages != 0) fail(ErrorKind::kUnsupported, "--pipeline", "{} stages cannot share {} GPUs equally", stages, gpus);
      check_shares(checkpoint, gpus / stages, stages);
      std::int64_t weights = 0;
      for (const auto& stage : stages_of(checkpoint, stages))
        weights = std::max(weights, largest_share_bytes(*stage, gpus / stages));
      row.plan = plan_memory(checkpoint.config, weights,
                             {.kv_format = question.kv_format,
                              .context = question.context,
                              .rows = std::min(kGpuChunkRows, question.context),
                              .ranks = gpus / stages,
                              .stages = stages,
                              .stage_layers = most_layers(checkpoint, stages),
                              .gpu_memory = question.memory});
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kUnsupported) throw;
      row.why_not = error.what();
    }
    rows.push_back(row);
  }
  return rows;
}

std::string gpu_table_text(const Checkpoint& checkpoint, const GpuQuestion& question) {
  std::string text =
      fmt::format("{}, {} of weights; on each GPU of {}, with {} positions in {}{}:\n\n", checkpoint.config.name,
                  size_text(checkpoint.weight_bytes), size_text(question.memory), question.context, info(question.kv_format).name,
                  question.stages > 1 ? fmt::format(", in {} stages", question.stages) : "");
  text += fmt::format("{:>4} {:>10} {:>10} {:>12} {:>10}  {}\n", "GPUs", "weights", "KV cache", "activations", "total", "room for");
  for (const GpuRow& row : plan_gpus(checkpoint, question)) {
    if (!row.why_not.empty()) {
      text += fmt::format("{:>4} {}\n", row.gpus, row.why_not);
      continue;
    }
    const MemoryPlan& plan = row.plan;
    const std::string room = plan.largest_context > 0 ? fmt::format("{} positions", plan.largest_context) : "not the weights";
    text += fmt::format("{:>4} {:>10} {:>10} {:>12} {:>10}  {}{}\n", row.gpus, size_text(plan.weights), size_text(plan.kv),
                        size_text(plan.activations + plan.logits), size_text(plan.total()),
                        plan.fits() || plan.largest_context == 0 ? "" : "only ", room);
  }
  return text;
}

Json plan_to_json(const MemoryPlan& plan) {
  return {{"context", plan.context},         {"weights", plan.weights}, {"kv", plan.kv},
          {"activations", plan.activations}, {"logits", plan.logits},   {"total", plan.total()},
          {"available", plan.available},     {"fits", plan.fits()},     {"largest_context", plan.largest_context}};
}

Json gpu_table_json(const Checkpoint& checkpoint, const GpuQuestion& question) {
  Json rows = Json::array();
  for (const GpuRow& row : plan_gpus(checkpoint, question)) {
    Json json = {{"gpus", row.gpus}, {"splits", row.why_not.empty()}};
    if (row.why_not.empty()) {
      json["memory"] = plan_to_json(row.plan);
    } else {
      json["why_not"] = row.why_not;
    }
    rows.push_back(json);
  }
  return {{"name", checkpoint.config.name},
          {"parameters", checkpoint.config.parameters()},
          {"weight_bytes", checkpoint.weight_bytes},
          {"gpu_memory", question.memory},
          {"kv", info(question.kv_format).name},
          {"stages", question.stages},
          {"gpus", rows}};
}

}  // namespace puna
