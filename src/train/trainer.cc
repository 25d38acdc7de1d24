// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/adapter_file.h"
#include "tensor/atomic_file.h"
#include "train/checkpoint_store.h"
#include "train/held_out.h"
#include "train/model_files.h"
#include "train/reference_log_probs.h"
#include "train/run_devices.h"
#include "train/run_samples.h"
#include "train/spike_watch.h"
#include "train/stage_average.h"
#include "train/train_ranks.h"
#include "train/training_state.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr const char *kRecipeFile = "recipe.yaml", *kReferenceFile = "reference.bin";
constexpr int kRollBacks = 3;  // in a row, until the run is given up

// Sees that the run's folder can be made, or holds this run.
void check_run_folder(const Recipe& recipe, bool resume) {
  const fs::path out = recipe.out;
  if (resume && !fs::exists(out / kRecipeFile)) fail(ErrorKind::kNotFound, out.string(), "holds no run to resume");
  std::error_code error;
  if (!resume && fs::exists(out) && !fs::is_empty(out, error))
    fail(ErrorKind::kUsage, out.string(), "is not empty: go on with --resume, or choose another folder with --out");
}

void make_run_folder(const Recipe& recipe) {
  const fs::path out = recipe.out;
  std::error_code error;
  fs::create_directories(out, error);
  if (error) fail(ErrorKind::kBadInput, out.string(), "cannot be made: {}", error.message());
  AtomicFile file(out / kRecipeFile);
  file.write(recipe_text(recipe));
  file.commit();
}

// OUT/latest leads to the newest checkpoint; it is replaced in one step, so it always leads somewhere.
void point_latest(const fs::path& out, const fs::path& checkpoint) {
  std::error_code error;
  const fs::path fresh = out / ".latest";
  fs::remove(fresh, error);
  fs::create_directory_symlink(fs::relative(checkpoint, out), fresh, error);
  if (!error) fs::rename(fresh, out / "latest", error);  // where a file system has no links, the folder is found by its name
}

}  // namespace

struct Trainer::Parts {
  Parts(const Recipe& recipe_in, RunModels models_in, ThreadPool& pool_in, TrainObserver& observer_in, bool resume,
        const std::atomic<bool>* interrupted);

  RunResult run(const std::atomic<bool>& stop);

 private:
  std::optional<ReferenceLogProbs> precompute_reference(bool resume, const std::atomic<bool>* interrupted);

  // Down the road of a step.
  void enter_stage(const StepPlan& plan);
  void use_network_of(std::size_t stages);
  void use_weights_of(std::size_t stages);
  void prepare(StepBatches& step);
  StepReport compute(const StepPlan& plan, const StepBatches& step);
  bool accept(const StepReport& report, const StepBatches& step);
  void after_step(const StepReport& report);
  void finish_stage_if_due(bool data_left);
  void finish_stage(const StepPlan& plan);

  void evaluate();
  void sample();
  void save();
  void restore(const fs::path& folder, bool keep_data_position);
  std::string where_of(const StepBatches& step) const;
  std::uint64_t data_seed() const { return static_cast<std::uint64_t>(recipe.seed); }

  const Recipe recipe;
  const ObjectiveInfo& objective_info;
  RunModels models;
  ThreadPool& pool;
  RunDevices devices;
  TrainObserver& observer;
  TrainMemory memory;
  TrainChoice choice;
  std::unique_ptr<Loader> loader;
  const std::vector<double> start_weights;  // of the mixture, before any stage
  const ModelConfig start_config;
  std::unique_ptr<Loader> validation;
  RunPlan plan;
  std::optional<ReferenceLogProbs> reference_log_probs;  // before the student: the reference's memory is free again
  TrainRanks ranks;
  StageAverage average;
  SpikeWatch spikes;
  CheckpointStore store;
  std::optional<MetricsLog> metrics;

  std::int64_t step_ = 0;  // the next one
  std::int64_t tokens_seen_ = 0, saved_step_ = -1, evaluated_step_ = -1;
  std::optional<std::size_t> stage_;  // that has been entered
  std::size_t finished_stages_ = 0;   // with their averages taken and their gates passed
  std::optional<double> held_out_, stage_start_loss_;
  int roll_backs_ = 0;
  std::int64_t faulty_step_ = 0;  // the last that was not taken
  fs::path last_checkpoint_;
};

namespace {

// Refuses before anything large is allocated.
TrainMemory checked_memory(const Recipe& recipe, const RunModels& models, const ObjectiveInfo& objective,
                           const RunDevices& devices) {
  check_run_shares(models, devices.ranks());
  TrainMemory memory = plan_train_memory(recipe, models, objective, devices.gpus());
  check_train_memory(memory, recipe);
  return memory;
}

std::int64_t steps_of_epochs(const Recipe& recipe, const Loader& loader) {
  if (recipe.epochs == 0) return 0;
  return loader.count_steps(recipe.step_tokens);
}

// Rows that cannot be used are found before the first step, not after the last.
std::unique_ptr<Loader> open_validation(const Recipe& recipe, const RunModels& models) {
  if (recipe.validation.empty()) return nullptr;
  auto loader = open_loader(data_options(recipe, models, true), models);
  const std::string start = loader->state();
  if (loader->next(1).batches.empty()) fail(ErrorKind::kBadInput, "validation", "holds nothing to measure");
  loader->restore(start);
  return loader;
}

}  // namespace

Trainer::Parts::Parts(const Recipe& recipe_in, RunModels models_in, ThreadPool& pool_in, TrainObserver& observer_in, bool resume,
                      const std::atomic<bool>* interrupted)
    : recipe(recipe_in),
      objective_info(find_objective(recipe.objective)),
      models(std::move(models_in)),
      pool(pool_in),
      devices(recipe, pool),
      observer(observer_in),
      memory(checked_memory(recipe, models, objective_info, devices)),
      choice(train_choice(recipe, models.start->config, objective_info)),
      loader(open_loader(data_options(recipe, models, false), models)),
      start_weights(loader->weights()),
      start_config(models.start->config),
      validation(open_validation(recipe, models)),
      plan(recipe, steps_of_epochs(recipe, *loader)),
      reference_log_probs(precompute_reference(resume, interrupted)),
      ranks(recipe, models, objective_info, devices),
      average(ranks.parameters()),
      spikes(recipe.watch.spike),
      store(fs::path(recipe.out) / "checkpoints", recipe.watch.keep, recipe.watch.keep_best) {
  if (!resume) make_run_folder(recipe);
  const fs::path answers = fs::path(recipe.out) / kReferenceFile;
  if (reference_log_probs && !fs::exists(answers)) reference_log_probs->write(answers);
  store.remove_unfinished();
  if (resume) {
    std::vector<fs::path> damaged;
    const std::optional<StoredCheckpoint> newest = store.newest(&damaged);
    for (const fs::path& folder : damaged) {
      store.set_aside(folder);
      observer.noted(fmt::format("{} is damaged and was passed over", folder.string()));
    }
    if (newest) restore(newest->folder, false);
    if (!newest) observer.noted("there is no checkpoint yet: the run begins at its first step");
  }
  metrics.emplace(recipe.out, step_);
}

// Of this run: read where they lie in its folder already, else asked of the reference, which is given up then.
std::optional<ReferenceLogProbs> Trainer::Parts::precompute_reference(bool resume, const std::atomic<bool>* interrupted) {
  check_run_folder(recipe, resume);
  check_samples(recipe, *models.start, plan);
  if (!objective_info.needs_reference || !recipe.dpo.precompute_reference) return std::nullopt;
  const fs::path file = fs::path(recipe.out) / kReferenceFile;
  std::optional<ReferenceLogProbs> answers;
  if (resume && fs::exists(file)) {
    answers.emplace(MappedFile(file).bytes(), file.string());
    if (answers->fingerprint() != fingerprint_of(*models.reference))
      fail(ErrorKind::kUsage, file.string(), "holds what another reference said than {}: remove the file, and that one is asked",
           recipe.dpo.reference.empty() ? "the start of this run" : recipe.dpo.reference);
  } else {
    std::vector<std::int64_t> lengths;
    for (std::size_t stage = 0; stage < plan.stages(); ++stage) lengths.push_back(plan.stage(stage).sequence_length);
    std::ranges::sort(lengths);
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
    answers = ask_reference(
        {recipe, models, lengths, file.string()}, devices,
        [&](std::int64_t done, std::int64_t all) { observer.asked_reference(done, all); }, interrupted);
  }
  models.reference.reset();
  return answers;
}

RunResult Trainer::Parts::run(const std::atomic<bool>& stop) {
  observer.began(plan, memory, ranks.parameters().count(), step_);
  if (devices.ranks() > 1) observer.noted(fmt::format("{} devices, which add up by way of {}", devices.ranks(), devices.about()));
  bool data_left = true;
  while (true) {
    finish_stage_if_due(data_left);
    if (step_ == plan.steps() || !data_left || stop) break;
    const StepPlan now = plan.at(step_);
    enter_stage(now);
    StepBatches step = loader->next(now.step_tokens);
    data_left = !step.batches.empty();
    if (!data_left) continue;
    prepare(step);
    const StepReport report = compute(now, step);
    if (!accept(report, step)) continue;
    ranks.update(now.learning_rate, report.gradient_norm);
    ++step_;
    after_step(report);
  }
  const bool finished = step_ == plan.steps() || !data_left;
  try {
    if (finished && validation && evaluated_step_ != step_) evaluate();
  } catch (...) {
    if (saved_step_ != step_) save();  // what was trained stays
    throw;
  }
  if (saved_step_ != step_) save();
  return {finished ? RunEnd::kFinished : RunEnd::kStopped, step_, held_out_, last_checkpoint_};
}

// The network as the first so many stages say: what one changed holds until a later one changes it.
void Trainer::Parts::use_network_of(std::size_t stages) {
  ModelConfig wanted = start_config;
  for (std::size_t s = 0; s < stages; ++s) {
    const StageRecipe& stage = plan.stage(s);
    if (stage.rope_theta > 0) wanted.rope_theta = stage.rope_theta;
    if (stage.rope_scaling_factor > 0) {
      wanted.rope_scaling = RopeScaling{.factor = stage.rope_scaling_factor, .original_context = wanted.context};
      wanted.rope_divisors.clear();
    }
    wanted.context = std::max(wanted.context, stage.sequence_length);
  }
  ModelConfig& config = models.start->config;
  const bool turns = rope_frequencies(wanted) != rope_frequencies(config);
  config = wanted;
  ranks.config_changed(turns);
}

// The mixture in the same way. One that rules already goes on where it is: a resumed run draws what the other would have drawn.
void Trainer::Parts::use_weights_of(std::size_t stages) {
  const std::vector<double>* wanted = &start_weights;
  for (std::size_t s = 0; s < stages; ++s) {
    if (!plan.stage(s).data_weights.empty()) wanted = &plan.stage(s).data_weights;
  }
  if (*wanted != loader->weights()) loader->set_weights(*wanted);
}

void Trainer::Parts::enter_stage(const StepPlan& now) {
  if (stage_ == now.stage) return;
  const StageRecipe& stage = plan.stage(now.stage);
  const bool begins = plan.first_step(now.stage) == step_;
  if (begins && stage.gate_loss > 0) {  // the loss that the stage must not lose: before it changes anything
    use_network_of(now.stage);
    evaluate();
    stage_start_loss_ = held_out_;
  }
  if (begins) average.forget();
  loader->set_lengths(stage.sequence_length, recipe.batch_tokens);
  use_weights_of(now.stage + 1);
  use_network_of(now.stage + 1);
  stage_ = now.stage;
}

// References are asked before the step's own forward passes, which use the same buffers where both are one network.
void Trainer::Parts::prepare(StepBatches& step) {
  if (!objective_info.needs_reference) return;
  for (PackedBatch& batch : step.batches) {
    const std::vector<double> log_probs = reference_log_probs ? reference_log_probs->of(batch) : ranks.reference_log_probs(batch);
    for (std::size_t i = 0; i < log_probs.size(); ++i) batch.answers[i].reference_log_prob = log_probs[i];
  }
}

StepReport Trainer::Parts::compute(const StepPlan& now, const StepBatches& step) {
  const auto start = std::chrono::steady_clock::now();
  const TrainRanks::Step computed = ranks.compute(step);
  tokens_seen_ += computed.rows;
  StepReport report{.step = step_ + 1,
                    .steps = plan.steps(),
                    .loss = computed.loss.loss,
                    .gradient_norm = computed.gradient_norm,
                    .learning_rate = now.learning_rate,
                    .rows = computed.rows,
                    .tokens = computed.loss.tokens,
                    .figures = {}};
  for (const LossReport::Figure& figure : computed.loss.figures()) report.figures.emplace_back(figure.name, figure.value);
  report.tokens_seen = tokens_seen_;
  report.epochs = loader->epochs();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

std::string Trainer::Parts::where_of(const StepBatches& step) const {
  constexpr std::size_t kShown = 5;
  std::vector<std::string> places;
  for (const PackedBatch& batch : step.batches) {
    for (const std::int64_t example : batch.examples) places.push_back(loader->where(example));
  }
  std::ranges::sort(places);
  places.erase(std::unique(places.begin(), places.end()), places.end());
  const std::size_t all = places.size();
  if (all > kShown) places.resize(kShown);
  return fmt::format("{}{}", fmt::join(places, ", "), all > kShown ? fmt::format(" and {} more", all - kShown) : "");
}

// False: the step is not taken.
bool Trainer::Parts::accept(const StepReport& report, const StepBatches& step) {
  const std::string fault = spikes.judge(report.loss, report.gradient_norm);
  if (fault.empty()) {
    if (report.step > faulty_step_) roll_backs_ = 0;  // past what the run was rolled back from
    return true;
  }
  faulty_step_ = std::max(faulty_step_, report.step);
  const std::string message = fmt::format("step {}: {}; its data: {}", report.step, fault, where_of(step));
  const std::optional<StoredCheckpoint> back = recipe.watch.on_nan == "roll_back" ? store.newest() : std::nullopt;
  const bool rolls_back = back && roll_backs_ < kRollBacks;
  if (rolls_back) metrics->cut(back->step);  // these steps are taken again
  metrics->add_text(rolls_back ? back->step : report.step, "fault", recipe.watch.on_nan, message);
  if (recipe.watch.on_nan == "skip") {
    observer.noted(message + "; skipped");
    ++step_;
    return false;
  }
  if (!rolls_back) {
    fail(ErrorKind::kBadInput, recipe.out, "{}. Lower optimizer.learning_rate and {}", message,
         store.newest() ? "go on with --resume" : "begin again");
  }
  ++roll_backs_;
  observer.noted(fmt::format("{}; back to step {}, past this data", message, back->step));
  restore(back->folder, true);
  return false;
}

void Trainer::Parts::after_step(const StepReport& report) {
  const Recipe::Watch& watch = recipe.watch;
  if (plan.stage(*stage_).average) average.add();
  if (report.step % watch.log_every == 0) {
    Figures figures{{"loss", report.loss},
                    {"gradient_norm", report.gradient_norm},
                    {"learning_rate", report.learning_rate},
                    {"tokens", static_cast<double>(report.tokens_seen)},
                    {"tokens_per_second", static_cast<double>(report.rows) / std::max(report.seconds, 1e-9)},
                    {"epochs", report.epochs}};
    figures.insert(figures.end(), report.figures.begin(), report.figures.end());
    metrics->add(report.step, "train", figures);
  }
  observer.stepped(report);
  const auto due = [&](std::int64_t every) { return every > 0 && report.step % every == 0; };
  if (validation && due(watch.evaluate_every)) evaluate();
  if (due(watch.checkpoint_every)) save();
  if (due(watch.sample_every)) sample();
}

// Asked before every step, so that neither a skipped last step nor a run that ended between it and the stage's end gets past a
// gate. Where the data has ended, so has the stage of the last step.
void Trainer::Parts::finish_stage_if_due(bool data_left) {
  if (step_ == 0 || (data_left && !plan.is_last_of_stage(step_ - 1))) return;
  const StepPlan last = plan.at(step_ - 1);
  if (data_left && last.stage < finished_stages_) return;
  enter_stage(last);  // also back from the next one, where the data ended before its first step
  if (last.stage < finished_stages_) return;
  finish_stage(last);
  finished_stages_ = last.stage + 1;
}

void Trainer::Parts::finish_stage(const StepPlan& now) {
  const StageRecipe& stage = plan.stage(now.stage);
  const bool averages = stage.average && average.steps() > 0;
  if (averages) {
    average.take();
    ranks.values_changed();
    evaluated_step_ = -1;
  }
  const bool unsaved = averages || saved_step_ != step_;
  if (!recipe.stages.empty() && unsaved) save();  // before the gates, so that a closed one loses nothing
  if (stage.gate_loss > 0) {
    evaluate();
    if (*held_out_ > *stage_start_loss_ + stage.gate_loss)
      fail(ErrorKind::kBadInput, "stages",
           "stage '{}' did not pass its gate: held-out loss went from {:.4f} to {:.4f}, allowed is {}", stage.name,
           *stage_start_loss_, *held_out_, stage.gate_loss);
  }
  if (stage.gate_needle > 0) {
    const double found = find_needles(validation ? *validation : *loader, ranks, stage.sequence_length, data_seed());
    metrics->add(step_, "gate", {{"needles_found", found}});
    if (found < stage.gate_needle)
      fail(ErrorKind::kBadInput, "stages",
           "stage '{}' did not pass its gate: {:.0f} % of the needles were found at {} tokens, {:.0f} % are asked for", stage.name,
           100 * found, stage.sequence_length, 100 * stage.gate_needle);
  }
}

void Trainer::Parts::evaluate() {
  const HeldOut held_out =
      measure_held_out(*validation, ranks, recipe.watch.evaluate_tokens, [&](StepBatches& step) { prepare(step); });
  held_out_ = held_out.loss;
  evaluated_step_ = step_;
  Figures figures{{"loss", held_out.loss}};
  figures.insert(figures.end(), held_out.figures.begin(), held_out.figures.end());
  metrics->add(step_, "held_out", figures);
  observer.evaluated(step_, held_out.loss, held_out.figures);
}

// A run does not end because a sample cannot be written.
void Trainer::Parts::sample() {
  try {
    const std::shared_ptr<Checkpoint> view = ranks.parameters().view();
    view->tokenizer = models.start->tokenizer;
    write_samples(recipe, view, pool.size(), [&](std::string_view prompt, std::string_view text) {
      metrics->add_text(step_, "sample", prompt, text);
      observer.sampled(step_, prompt, text);
    });
  } catch (const Error& error) {
    observer.noted(fmt::format("step {}: no sample: {}", step_, error.what()));
  }
}

void Trainer::Parts::save() {
  const auto optional = [](std::optional<double> value) { return value ? Json(*value) : Json(nullptr); };
  const Json place = {{"step", step_},
                      {"optimizer_steps", ranks.optimizer_steps()},
                      {"tokens_seen", tokens_seen_},
                      {"averaged", average.steps()},
                      {"held_out_loss", optional(held_out_)},
                      {"evaluated_step", evaluated_step_},
                      {"stage_start_loss", optional(stage_start_loss_)},
                      {"spike_losses", spikes.losses()},
                      {"spike_norms", spikes.norms()},
                      {"loader", parse_json(loader->state(), "loader")}};
  const StoredCheckpoint stored = store.write(step_, held_out_, [&](const fs::path& folder) {
    if (choice.trained == Trained::kAdapters)
      write_adapter(folder, ranks.parameters(), choice.lora, recipe.model);
    else
      write_trained_model(folder, pool, ranks.parameters(), *models.start);
    std::vector<NamedBytes> all = ranks.states();
    if (average.steps() > 0) all.push_back({"average", average.state()});
    write_training_state(folder, all, place);
  });
  saved_step_ = step_;
  last_checkpoint_ = stored.folder;
  point_latest(recipe.out, stored.folder);
  observer.saved(stored.folder);
}

void Trainer::Parts::restore(const fs::path& folder, bool keep_data_position) {
  const std::string where = folder.string();
  const Json place = read_training_state(folder, ranks.states());
  const auto optional = [&](const char* key) {
    return place.at(key).is_null() ? std::nullopt : std::optional(json_at<double>(place, key, where));
  };
  step_ = json_at<std::int64_t>(place, "step", where);
  tokens_seen_ = json_at<std::int64_t>(place, "tokens_seen", where);
  average.restore(json_at<std::int64_t>(place, "averaged", where));
  if (average.steps() > 0) read_training_state(folder, {{"average", average.state()}});
  ranks.set_optimizer_steps(json_at<std::int64_t>(place, "optimizer_steps", where));
  held_out_ = optional("held_out_loss");
  evaluated_step_ = json_at<std::int64_t>(place, "evaluated_step", where);
  stage_start_loss_ = optional("stage_start_loss");
  const auto numbers = [&](const char* key) {
    std::vector<double> values;
    for (const Json& value : place.at(key)) values.push_back(value.get<double>());
    return values;
  };
  spikes.restore(numbers("spike_losses"), numbers("spike_norms"));
  if (!keep_data_position) loader->restore(dump_json(place.at("loader")));
  ranks.values_changed();
  stage_.reset();  // entered again: with its lengths, its mixture, its network and, at its first step, the loss its gate compares
  if (step_ < plan.steps()) finished_stages_ = std::min(finished_stages_, plan.at(step_).stage);
  saved_step_ = step_;
  last_checkpoint_ = folder;
}

Trainer::Trainer(const Recipe& recipe, RunModels models, ThreadPool& pool, TrainObserver& observer, bool resume,
                 const std::atomic<bool>* interrupted)
    : parts_(std::make_unique<Parts>(recipe, std::move(models), pool, observer, resume, interrupted)) {}

Trainer::~Trainer() = default;

RunResult Trainer::run(const std::atomic<bool>& stop) { return parts_->run(stop); }

}  // namespace puna
