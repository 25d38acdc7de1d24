// SPDX-License-Identifier: Apache-2.0
#include "model/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "base/progress.h"
#include "model/adapters.h"
#include "model/kv_cache.h"
#include "model/llama_rank.h"
#include "model/rank_share.h"

namespace puna {
namespace {

constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));

std::string bytes_text(std::int64_t bytes) { return human_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0))); }

// The number after `key` in a file of lines "key number ...": "MemAvailable: 123 kB", "active_file 123".
std::optional<std::int64_t> number_after(const std::filesystem::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    std::int64_t value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return std::nullopt;
}

// A file that holds one number; nullopt where it is absent or says "max".
std::optional<std::int64_t> number_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::int64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

// What one control group's own limit leaves. Cached file pages are given up when memory is asked for, so they do not count as
// taken.
std::optional<std::int64_t> group_room(const std::filesystem::path& group) {
  const auto limit = number_in(group / "memory.max"), used = number_in(group / "memory.current");
  if (!limit || !used) return std::nullopt;
  const std::int64_t cached = number_after(group / "memory.stat", "active_file").value_or(0) +
                              number_after(group / "memory.stat", "inactive_file").value_or(0);
  return std::max<std::int64_t>(0, *limit - std::max<std::int64_t>(0, *used - cached));
}

// The control group (v2) of this process, from its root: "/user.slice/…"; "/" where it is not said.
std::filesystem::path own_group(const std::filesystem::path& root) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::/")) return line.substr(3);
  }
  return "/";
}

// What to do about a plan that does not fit.
std::string advice(const MemoryPlan& plan) {
  std::vector<std::string> ways;
  if (plan.largest_context >= kPagePositions) ways.push_back(fmt::format("--context {}", plan.largest_context));
  const bool smaller = plan.kv_smaller > 0 && plan.kv_smaller < plan.kv;
  if (smaller && plan.total() - plan.kv + plan.kv_smaller <= plan.available)
    ways.push_back(fmt::format("--kv {}", info(plan.smaller_kv).name));
  if (ways.empty()) {
    return fmt::format("free memory, or quantize the weights to fewer bits (puna quantize), or take {}a smaller model",
                       plan.gpus > 0 ? "more GPUs (--device cuda:0-3), or " : "");
  }
  return fmt::format("use {}", fmt::join(ways, " or "));
}

// What a run finds free: of several GPUs the least. Ranks on one GPU share what it has.
std::int64_t free_for(const RunShape& run) {
  if (run.gpu_memory > 0) return run.gpu_memory;
  if (run.gpus.empty()) return available_memory() + run.resident_bytes;
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const Gpu* const gpu : run.gpus) {
    const auto beside =
        std::ranges::count_if(run.gpus, [&](const Gpu* other) { return other != gpu && other->info().index == gpu->info().index; });
    least = std::min(least, gpu->free_memory() / (1 + beside));
  }
  return least;
}

}  // namespace

std::string MemoryPlan::text() const {
  std::string table;
  const auto row = [&](std::string_view name, std::int64_t bytes, const std::string& remark) {
    table += fmt::format("{:<11} {:>12}{}{}\n", name, bytes_text(bytes), remark.empty() ? "" : "  ", remark);
  };
  row("weights", weights, "");
  row("KV cache", kv, fmt::format("{} positions in {}", context, info(kv_format).name));
  row("activations", activations, "");
  row("logits", logits, "");
  row("total", total(), gpus > 1 ? fmt::format("on each of {} GPUs", gpus) : "");
  row(gpus == 0  ? "available"
      : gpus > 1 ? "free there"
                 : "free on GPU",
      available, fits() ? fmt::format("enough for {} positions", largest_context) : "not enough: " + advice(*this));
  return table;
}

// GPUs hold a share of a stage each, the machine those of all ranks, and their logits once more side by side.
MemoryPlan plan_memory(const ModelConfig& config, std::int64_t weight_bytes, const RunShape& run) {
  const std::int64_t here = run.on_gpu() ? 1 : run.ranks;  // shares of a stage in one memory
  const std::int64_t stages_here = run.on_gpu() ? 1 : run.stages;
  ModelConfig stage = config;
  if (run.stage_layers > 0) stage.layers = run.stage_layers;
  const ModelConfig share = config_of_largest_share(run.on_gpu() ? stage : config, run.ranks);
  const auto kv_bytes = [&](Format format, std::int64_t positions) { return here * KvCache::bytes(share, format, positions); };
  MemoryPlan plan;
  plan.weights = weight_bytes;
  plan.kv_format = run.kv_format;
  plan.context = run.context;
  plan.kv = kv_bytes(run.kv_format, run.context);
  plan.smaller_kv = run.on_gpu() ? Format::kF8E4M3 : Format::kQ8_0;
  if (config.head_width % info(plan.smaller_kv).block_values == 0) plan.kv_smaller = kv_bytes(plan.smaller_kv, run.context);
  const std::int64_t share_logits = run.logit_rows * ((config.vocabulary + run.ranks - 1) / run.ranks) * kFloatBytes;
  plan.logits = here * share_logits + (here > 1 ? run.logit_rows * config.vocabulary * kFloatBytes : 0);
  plan.activations =
      here * stages_here * (LlamaRank::activation_bytes(stage, run.ranks, run.rows, run.logit_rows, run.on_gpu()) - share_logits) +
      low_rank_bytes(config, run.adapter_rank, run.rows);
  plan.available = free_for(run);
  plan.gpus = run.on_gpu() ? run.devices() : 0;
  const std::int64_t room = plan.available - (plan.total() - plan.kv), page = kv_bytes(run.kv_format, kPagePositions);
  plan.largest_context = room > 0 ? room / page * kPagePositions : 0;
  return plan;
}

void check_fits(const MemoryPlan& plan, const std::string& where) {
  if (plan.fits()) return;
  fail(ErrorKind::kNoRoom, where,
       "this run needs {}{}: {} of weights, {} for keys and values of {} positions in {}, {} of activations and logits; "
       "{} are available: {}",
       bytes_text(plan.total()), plan.gpus > 1 ? fmt::format(" on each of {} GPUs", plan.gpus) : "", bytes_text(plan.weights),
       bytes_text(plan.kv), plan.context, info(plan.kv_format).name, bytes_text(plan.activations + plan.logits),
       bytes_text(plan.available), advice(plan));
}

void check_memory(std::int64_t bytes, const std::string& what, const std::string& where, const std::filesystem::path& root) {
  const std::int64_t available = available_memory(root);
  if (bytes <= available) return;
  fail(ErrorKind::kNoRoom, where, "{} need {}; {} are available: free memory, or take a smaller model", what, bytes_text(bytes),
       bytes_text(available));
}

std::int64_t available_memory(const std::filesystem::path& root) {
  std::int64_t available = std::numeric_limits<std::int64_t>::max();  // where the system does not say, it is not for us to refuse
  if (const auto kilobytes = number_after(root / "proc/meminfo", "MemAvailable:")) available = *kilobytes * 1024;
  const std::filesystem::path top = root / "sys/fs/cgroup";
  for (std::filesystem::path group = own_group(root);; group = group.parent_path()) {
    if (const auto room = group_room(top / group.relative_path())) available = std::min(available, *room);
    if (group == group.parent_path()) return available;
  }
}

}  // namespace puna
