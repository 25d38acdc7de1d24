// SPDX-License-Identifier: Apache-2.0
#include "train/run_start.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "model/adapters.h"
#include "model/rank_share.h"

namespace puna {
namespace {

constexpr std::int64_t kDialHeadWidth = 64;

std::int64_t default_feed_forward(std::int64_t width) { return (8 * width / 3 + 31) / 32 * 32; }

ModelConfig config_from_figures(const Recipe::NewModel& figures) {
  ModelConfig config;
  config.layers = figures.layers;
  config.width = figures.width;
  config.heads = figures.heads;
  config.kv_heads = figures.kv_heads > 0 ? figures.kv_heads : figures.heads;
  if (config.heads <= 0 || config.width % config.heads != 0)
    fail(ErrorKind::kUsage, "new_model.heads", "is {}, which does not divide the width {}", config.heads, config.width);
  config.head_width = config.width / config.heads;
  config.feed_forward = figures.feed_forward > 0 ? figures.feed_forward : default_feed_forward(config.width);
  return config;
}

ModelConfig config_from_depth(std::int64_t depth) {
  ModelConfig config;
  config.layers = depth;
  config.width = kDialHeadWidth * depth;
  config.heads = depth;
  config.kv_heads = depth > 4 && depth % 4 == 0 ? depth / 4 : depth;
  config.head_width = kDialHeadWidth;
  config.feed_forward = default_feed_forward(config.width);
  return config;
}

std::shared_ptr<Checkpoint> new_checkpoint(const Recipe& recipe, const ModelResolver& resolve) {
  auto checkpoint = std::make_shared<Checkpoint>();
  if (!recipe.tokenizer.empty()) checkpoint->tokenizer = open_tokenizer(resolve(recipe.tokenizer));
  checkpoint->config = new_model_config(recipe, checkpoint->tokenizer ? checkpoint->tokenizer->size() : 0);
  checkpoint->where = "the new model";
  checkpoint->prompt_format = prompt_format_from_name("llama3.1");
  return checkpoint;
}

void check_same_vocabulary(const Checkpoint& student, const Checkpoint& other, const char* field) {
  if (student.config.vocabulary == other.config.vocabulary) return;
  fail(ErrorKind::kUsage, field, "has {} tokens in its vocabulary, the model has {}: they must be the same tokens",
       other.config.vocabulary, student.config.vocabulary);
}

}  // namespace

ModelConfig new_model_config(const Recipe& recipe, std::int64_t vocabulary) {
  const Recipe::NewModel& figures = recipe.new_model;
  ModelConfig config;
  if (!figures.shape.empty()) {
    const std::optional<ModelConfig> known = known_shape(figures.shape);
    const std::array<std::string, 5> names{"1b", "3b", "8b", "70b", "405b"};
    if (!known)
      fail(ErrorKind::kUsage, "new_model.shape", "'{}' is not known{}", figures.shape, did_you_mean(figures.shape, names));
    config = *known;
  } else {
    config = figures.depth > 0 ? config_from_depth(figures.depth) : config_from_figures(figures);
    config.rope_theta = figures.rope_theta;
    config.tied_embeddings = figures.tied_embeddings;
    config.context = figures.context > 0 ? figures.context : recipe.sequence_length;
  }
  config.vocabulary = figures.vocabulary > 0 ? figures.vocabulary : vocabulary;
  if (config.vocabulary < vocabulary)
    fail(ErrorKind::kUsage, "new_model.vocabulary", "is {}, fewer than the tokenizer's {}", config.vocabulary, vocabulary);
  config.rope_pairing = RopePairing::kHalves;
  check_config(config, "new_model");
  return config;
}

RunModels open_run_models(const Recipe& recipe, const ModelResolver& resolve) {
  RunModels models;
  const ObjectiveInfo& objective = find_objective(recipe.objective);
  if (recipe.model.empty()) {
    models.start = new_checkpoint(recipe, resolve);
  } else {
    models.start = open_checkpoint(resolve(recipe.model));
    if (!recipe.tokenizer.empty()) models.start->tokenizer = open_tokenizer(resolve(recipe.tokenizer));
  }
  if (objective.needs_reference) {
    if (recipe.model.empty() && recipe.dpo.reference.empty())
      fail(ErrorKind::kUsage, "dpo.reference", "is empty, and a new model is nothing to compare with");
    models.reference = recipe.dpo.reference.empty() ? models.start : open_checkpoint(resolve(recipe.dpo.reference));
    check_same_vocabulary(*models.start, *models.reference, "dpo.reference");
  }
  if (objective.needs_teacher && !recipe.distillation.teacher.empty()) {
    models.teacher = open_checkpoint(resolve(recipe.distillation.teacher));
    check_same_vocabulary(*models.start, *models.teacher, "distillation.teacher");
  }
  return models;
}

void check_run_shares(const RunModels& models, int devices) {
  for (const Checkpoint* const model :
       {static_cast<const Checkpoint*>(models.start.get()), models.reference.get(), models.teacher.get()}) {
    if (model != nullptr) check_shares(*model, devices, kNoStages);
  }
}

TrainChoice train_choice(const Recipe& recipe, const ModelConfig& config, const ObjectiveInfo& objective) {
  TrainChoice choice;
  choice.trained = recipe.lora.rank > 0 ? Trained::kAdapters : Trained::kWeights;
  choice.compute = recipe.weights == "bf16" ? Format::kBF16 : Format::kF32;
  choice.new_weights = recipe.model.empty();
  choice.seed = static_cast<std::uint64_t>(recipe.seed);
  if (objective.extra) choice.extra = objective.extra(config);
  if (recipe.lora.rank == 0) return choice;
  choice.lora = {.rank = recipe.lora.rank, .alpha = recipe.lora.alpha, .roles = {}};
  for (const std::string& target : recipe.lora.targets) {
    const std::optional<WeightRole> role = adapted_role_from_name(target);
    if (!role) {
      const std::vector<std::string> known = Recipe::Lora{}.targets;
      fail(ErrorKind::kUsage, "lora.targets", "'{}' is none of {}{}", target, fmt::join(known, ", "), did_you_mean(target, known));
    }
    choice.lora.roles.push_back(*role);
  }
  return choice;
}

AdamwOptions optimizer_options(const Recipe& recipe) {
  const Recipe::Optimizer& o = recipe.optimizer;
  return {.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .decay = o.weight_decay, .clip = o.clip, .eight_bit = o.eight_bit};
}

ObjectiveOptions objective_options(const Recipe& recipe) {
  const std::string& direction = recipe.distillation.direction;
  return {.beta = recipe.dpo.beta,
          .nll_weight = recipe.dpo.nll_weight,
          .length_normalised = recipe.dpo.length_normalised,
          .nll_all_rows = recipe.dpo.nll_format_tokens,
          .ratio = recipe.distillation.ratio,
          .temperature = recipe.distillation.temperature,
          .direction = direction == "reverse"     ? KlDirection::kReverse
                       : direction == "symmetric" ? KlDirection::kSymmetric
                                                  : KlDirection::kForward};
}

DataOptions data_options(const Recipe& recipe, const RunModels& models, bool validation) {
  DataOptions options;
  for (const DataRecipe& data : validation ? recipe.validation : recipe.data) {
    const bool weighted = !validation && data.weight > 0;
    options.sources.push_back({.path = data.path,
                               .kind = data_kind_from_name(data.kind).value_or(DataKind::kAuto),
                               .weight = weighted ? std::optional(data.weight) : std::nullopt});
  }
  options.sequence_length = recipe.sequence_length;
  options.batch_tokens = recipe.batch_tokens;
  options.pack = recipe.reading.pack;
  options.whole_documents = recipe.reading.whole_documents;
  options.blank_line_documents = recipe.reading.blank_line_documents;
  options.plain_strings = recipe.reading.plain_strings;
  options.date = recipe.reading.date;
  options.last_turn_only = recipe.reading.last_turn_only;
  options.count_format_tokens = recipe.reading.train_format_tokens;
  options.over_long = over_long_from_name(recipe.reading.over_long).value_or(OverLong::kDrop);
  options.one_row_answers = recipe.reward.rows == "paper" && find_objective(recipe.objective).one_row_answers;
  // Without a teacher, what the data brings takes its place.
  if (find_objective(recipe.objective).needs_teacher && !models.teacher)
    options.teacher_vocabulary = models.start->config.vocabulary;
  options.strict = recipe.reading.strict;
  options.shuffle = !validation;
  options.epochs = validation ? 1 : recipe.epochs > 0 ? recipe.epochs : recipe.reading.at_end == "stop" ? 1 : 0;
  options.seed = static_cast<std::uint64_t>(recipe.seed);
  return options;
}

DataOptions in_order_once(DataOptions options) {
  for (DataSource& source : options.sources) source.weight.reset();
  options.shuffle = false;
  options.epochs = 1;
  return options;
}

std::unique_ptr<Loader> open_loader(DataOptions options, const RunModels& models) {
  return std::make_unique<Loader>(std::move(options), models.start->need_tokenizer(),
                                  models.start->prompt_format.value_or(PromptFormat{}));
}

}  // namespace puna
