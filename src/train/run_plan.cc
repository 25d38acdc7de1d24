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
#include "train/optimizer.h"

namespace puna {
namespace {

// "steps, or below 1 a share of all".
std::int64_t steps_of(double figure, std::int64_t all) {
  return figure < 1 ? std::llround(figure * static_cast<double>(all)) : std::llround(figure);
}

std::string human(std::int64_t bytes) { return human_bytes(static_cast<std::uint64_t>(bytes)); }

// Only what there is, with what the model's weights have of it already.
TrainMemory empty_plan(const Checkpoint& model, const Gpu* gpu) {
  TrainMemory memory;
  memory.available = gpu == nullptr ? available_memory() + model.resident_bytes : gpu->free_memory();
  if (gpu != nullptr) memory.gpu = gpu->info().name;
  return memory;
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

TrainMemory plan_reader_memory(const Checkpoint& reader, std::int64_t rows, const Gpu* gpu) {
  const bool on_gpu = gpu != nullptr;
  TrainMemory memory = empty_plan(reader, gpu);
  memory.parts = {on_gpu ? std::pair<std::string, std::int64_t>("weights", gpu_weight_bytes(reader, *gpu))
                         : std::pair<std::string, std::int64_t>("model files, mapped", reader.weight_bytes),
                  {"activations", GradientPass::bytes(reader.config, rows, Keep::kNothing, 0, on_gpu)},
                  {"logits of a chunk", OutputHead::bytes(reader.config, rows, false, on_gpu)}};
  return memory;
}

TrainMemory plan_train_memory(const Recipe& recipe, const RunModels& models, const ObjectiveInfo& objective, const Gpu* gpu) {
  const ModelConfig& config = models.start->config;
  const TrainChoice choice = train_choice(recipe, config, objective);
  const std::int64_t rows = recipe.batch_tokens;
  const bool on_gpu = gpu != nullptr;
  TrainMemory memory = empty_plan(*models.start, gpu);
  const auto add = [&](std::string name, std::int64_t bytes) {
    if (bytes > 0) memory.parts.emplace_back(std::move(name), bytes);
  };
  if (!on_gpu)
    add("model files, mapped", models.start->weight_bytes);
  else if (choice.trained != Trained::kWeights)
    add("frozen weights", gpu_weight_bytes(*models.start, *gpu));
  add("trained values and gradients", Parameters::bytes(config, choice));
  add("optimizer", AdamW::bytes(config, choice, recipe.optimizer.eight_bit));
  add("activations", GradientPass::bytes(config, rows, kept_activations(recipe), recipe.lora.rank, on_gpu));
  add("logits of a chunk", OutputHead::bytes(config, rows, objective.needs_teacher, on_gpu));
  const auto add_reader = [&](const std::string& name, const std::shared_ptr<const Checkpoint>& reader) {
    if (!reader) return;
    const bool maps_own = on_gpu || reader != models.start;  // a GPU has its own copy of all that it reads
    add(name, plan_reader_memory(*reader, rows, gpu).total() - (maps_own ? 0 : reader->weight_bytes));
  };
  add_reader("teacher", models.teacher);
  if (models.reference && recipe.dpo.precompute_reference)
    memory.before = plan_reader_memory(*models.reference, rows, gpu).total();
  else if (recipe.lora.rank == 0 || models.reference != models.start)
    add_reader("reference", models.reference);
  const bool averages = std::ranges::any_of(recipe.stages, [](const StageRecipe& stage) { return stage.average; });
  const std::int64_t average = averages ? Parameters::value_bytes(config, choice) : 0;  // in the machine's memory
  if (!on_gpu) add("average of a stage", average);
  std::ranges::stable_sort(memory.parts, std::greater<>(), [](const auto& part) { return part.second; });
  if (on_gpu) memory.host_copy = Parameters::host_copy_bytes(config, choice) + average;
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
