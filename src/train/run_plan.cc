// SPDX-License-Identifier: Apache-2.0
#include "train/run_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/progress.h"
#include "model/gpu_checkpoint.h"
#include "model/memory_plan.h"
#include "model/rank_share.h"
#include "train/optimizer.h"

namespace puna {
namespace {

// "steps, or below 1 a share of all".
std::int64_t steps_of(double figure, std::int64_t all) {
  return figure < 1 ? std::llround(figure * static_cast<double>(all)) : std::llround(figure);
}

std::string human(std::int64_t bytes) { return human_bytes(static_cast<std::uint64_t>(bytes)); }

// Only what there is, with what the model's weights have of it already.
TrainMemory empty_plan(const Checkpoint& model, std::span<const Gpu* const> gpus) {
  TrainMemory memory;
  if (gpus.empty()) {
    memory.available = available_memory() + model.resident_bytes;
    return memory;
  }
  memory.available = gpus.front()->free_memory();
  for (const Gpu* const gpu : gpus) memory.available = std::min(memory.available, gpu->free_memory());
  memory.gpu = (gpus.size() > 1 ? fmt::format("{} × ", gpus.size()) : "") + gpus.front()->info().name;
  return memory;
}

// bytes_of(share) of the ranks: on the CPU, whose memory all of them take, together; on GPUs of the one that takes most.
template <typename BytesOf>
std::int64_t over_ranks(const Checkpoint& checkpoint, int ranks, bool on_gpu, BytesOf&& bytes_of) {
  std::int64_t sum = 0, most = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t bytes = bytes_of(share_of_rank(checkpoint, rank, ranks));
    sum += bytes;
    most = std::max(most, bytes);
  }
  return on_gpu ? most : sum;
}

}  // namespace

Keep kept_activations(const Recipe& recipe) { return recipe.recompute == "blocks" ? Keep::kBlockInputs : Keep::kAllActivations; }

RunPlan::RunPlan(const Recipe& recipe, std::int64_t steps_of_epochs) {
  std::vector<StageRecipe> stages = recipe.stages;
  if (stages.empty()) {
    stages.emplace_back();
    stages.front().steps = recipe.steps > 0 ? recipe.steps : std::max<std::int64_t>(steps_of_epochs, 1);
  }
  std::int64_t sequence_length = recipe.sequence_length, step_tokens = recipe.step_tokens;
  for (StageRecipe& stage : stages) {
    if (stage.sequence_length > 0) sequence_length = stage.sequence_length;
    if (stage.step_tokens > 0) step_tokens = stage.step_tokens;
    stage.sequence_length = sequence_length;
    stage.step_tokens = step_tokens;
    stages_.push_back({stage, steps_, steps_ + stage.steps});
    steps_ += stage.steps;
  }
  const Recipe::Optimizer& o = recipe.optimizer;
  schedule_ = {.shape = schedule_shape(o.schedule),
               .peak = o.learning_rate,
               .final_share = o.final_learning_rate,
               .steps = steps_,
               .warmup = steps_of(o.warmup, steps_),
               .decay = steps_of(o.decay, steps_)};
}

StepPlan RunPlan::at(std::int64_t step) const {
  const auto span = std::ranges::find_if(stages_, [&](const Span& each) { return step < each.end; });
  PUNA_CHECK(span != stages_.end(), "run plan", "step {} of {}", step, steps_);
  const StageRecipe& stage = span->recipe;
  StepPlan plan{.stage = static_cast<std::size_t>(span - stages_.begin()),
                .learning_rate = schedule_.learning_rate(step),
                .sequence_length = stage.sequence_length,
                .step_tokens = stage.step_tokens};
  if (!stage.anneal && stage.learning_rate == 0) return plan;
  // From the rate the stage before ended with, linearly: the last step of the stage has the target itself.
  const double start = span->first == 0 ? plan.learning_rate : at(span->first - 1).learning_rate;
  const double target = stage.anneal ? 0 : stage.learning_rate;
  const double share = static_cast<double>(step - span->first + 1) / static_cast<double>(span->end - span->first);
  plan.learning_rate = start + (target - start) * share;
  return plan;
}

bool RunPlan::is_last_of_stage(std::int64_t step) const {
  return std::ranges::any_of(stages_, [&](const Span& each) { return each.end == step + 1; });
}

std::int64_t TrainMemory::total() const {
  std::int64_t sum = 0;
  for (const auto& [name, bytes] : parts) sum += bytes;
  return sum;
}

std::int64_t TrainMemory::peak() const { return std::max(total(), before); }

std::string TrainMemory::text() const {
  std::string text;
  const auto line = [&](std::string_view name, std::int64_t bytes) {
    text += fmt::format("  {:<28} {:>10}\n", name, human(bytes));
  };
  for (const auto& [name, bytes] : parts) line(name, bytes);
  line("together", total());
  if (before > 0) line("before: the reference alone", before);
  line(gpu.empty() ? "there is" : fmt::format("free on {}", gpu), available);
  if (host_copy > 0) line("of the host, while it saves", host_copy);
  return text;
}

TrainMemory plan_reader_memory(const Checkpoint& reader, std::int64_t rows, std::span<const Gpu* const> gpus, int ranks) {
  const bool on_gpu = !gpus.empty();
  TrainMemory memory = empty_plan(reader, gpus);
  const auto each_rank = [&](auto&& bytes_of) { return over_ranks(reader, ranks, on_gpu, bytes_of); };
  if (on_gpu)
    memory.parts.emplace_back("weights", gpu_weight_bytes(reader, *gpus.front(), ranks));
  else
    memory.parts.emplace_back("model files, mapped", reader.weight_bytes);
  if (!on_gpu && ranks > 1) memory.parts.emplace_back("columns of the ranks", copied_column_bytes(reader, ranks));
  memory.parts.emplace_back("activations", each_rank([&](const Share& share) {
                              return GradientPass::bytes(config_of_share(reader.config, share), rows, Keep::kNothing, 0, on_gpu);
                            }));
  memory.parts.emplace_back("logits of a chunk",
                            each_rank([&](const Share&) { return OutputHead::bytes(reader.config, rows, false, on_gpu, ranks); }));
  return memory;
}

TrainMemory plan_train_memory(const Recipe& recipe, const RunModels& models, const ObjectiveInfo& objective,
                              std::span<const Gpu* const> gpus) {
  const ModelConfig& config = models.start->config;
  const TrainChoice choice = train_choice(recipe, config, objective);
  const std::int64_t rows = recipe.batch_tokens;
  const bool on_gpu = !gpus.empty();
  const int ranks = device_choice(recipe.device, "device").count();
  TrainMemory memory = empty_plan(*models.start, gpus);
  const auto add = [&](std::string name, std::int64_t bytes) {
    if (bytes > 0) memory.parts.emplace_back(std::move(name), bytes);
  };
  const auto add_of_ranks = [&](std::string name, auto&& bytes_of) {
    add(std::move(name), over_ranks(*models.start, ranks, on_gpu, bytes_of));
  };
  if (!on_gpu)
    add("model files, mapped", models.start->weight_bytes);
  else if (choice.trained != Trained::kWeights)
    add("frozen weights", gpu_weight_bytes(*models.start, *gpus.front(), ranks));
  if (!on_gpu && choice.trained != Trained::kWeights && ranks > 1)
    add("columns of the ranks", copied_column_bytes(*models.start, ranks));
  add_of_ranks("trained values and gradients", [&](const Share& share) { return Parameters::bytes(config, choice, share); });
  add_of_ranks("optimizer", [&](const Share& share) { return AdamW::bytes(config, choice, recipe.optimizer.eight_bit, share); });
  add_of_ranks("activations", [&](const Share& share) {
    return GradientPass::bytes(config_of_share(config, share), rows, kept_activations(recipe), recipe.lora.rank, on_gpu);
  });
  add_of_ranks("logits of a chunk",
               [&](const Share&) { return OutputHead::bytes(config, rows, objective.needs_teacher, on_gpu, ranks); });
  const auto add_reader = [&](const std::string& name, const std::shared_ptr<const Checkpoint>& reader) {
    if (!reader) return;
    const bool maps_own = on_gpu || reader != models.start;  // a GPU has its own copy of all that it reads
    add(name, plan_reader_memory(*reader, rows, gpus, ranks).total() - (maps_own ? 0 : reader->weight_bytes));
  };
  add_reader("teacher", models.teacher);
  if (models.reference && recipe.dpo.precompute_reference)
    memory.before = plan_reader_memory(*models.reference, rows, gpus, ranks).total();
  else if (recipe.lora.rank == 0 || models.reference != models.start)
    add_reader("reference", models.reference);
  const bool averages = std::ranges::any_of(recipe.stages, [](const StageRecipe& stage) { return stage.average; });
  const std::int64_t average = averages ? Parameters::value_bytes(config, choice) : 0;  // in the machine's memory
  const std::int64_t host_copy = on_gpu || ranks > 1 ? Parameters::host_copy_bytes(config, choice) : 0;
  if (!on_gpu) add("average of a stage", average);
  if (!on_gpu) add("copy while it saves", host_copy);
  std::ranges::stable_sort(memory.parts, std::greater<>(), [](const auto& part) { return part.second; });
  if (on_gpu) memory.host_copy = host_copy + average;
  return memory;
}

void check_train_memory(const TrainMemory& memory, const Recipe& recipe) {
  if (const std::int64_t room = available_memory(); memory.host_copy > room) {
    fail(ErrorKind::kNoRoom, "train", "a checkpoint is written from a copy of {} in the machine's memory, there are {}",
         human(memory.host_copy), human(room));
  }
  if (memory.peak() <= memory.available) return;
  std::string advice;
  if (recipe.recompute == "none") advice += " --recompute=blocks,";
  if (recipe.batch_tokens > recipe.sequence_length) advice += fmt::format(" --batch_tokens={},", recipe.sequence_length);
  if (!recipe.optimizer.eight_bit) advice += " --optimizer.eight_bit=true,";
  if (recipe.lora.rank == 0 && !recipe.model.empty()) advice += " --lora.rank=16,";
  const auto is_reference = [](const auto& part) { return part.first == "reference"; };
  if (std::ranges::any_of(memory.parts, is_reference)) advice += " --dpo.precompute_reference=true,";
  if (advice.empty()) advice = " a smaller model or shorter rows,";
  advice.pop_back();
  fail(ErrorKind::kNoRoom, "train", "the run would hold {}, there are {}:\n{}what makes it smaller:{}", human(memory.peak()),
       human(memory.available), memory.text(), advice);
}

}  // namespace puna
