// SPDX-License-Identifier: Apache-2.0
// `puna train`: a recipe runs. Every field of a recipe is a flag, so --optimizer.learning_rate=1e-5 needs no editing of files.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/train_report.h"
#include "cli/verb.h"
#include "hub/hub_cache.h"
#include "train/data/inspect.h"
#include "train/recipe.h"
#include "train/run_devices.h"
#include "train/run_start.h"
#include "train/scaling_law.h"
#include "train/trainer.h"

namespace puna {
namespace {

struct Override {
  std::string flag, name, value;  // "--optimizer.learning_rate", "optimizer.learning_rate"
  bool given = false;
};

struct TrainFlags {
  std::string recipe;
  Recipe defaults;                  // what the help reads its lists from
  std::vector<Override> overrides;  // one per field
  std::vector<std::string> set;     // "data.0.weight=2"
  std::int64_t inspect = 0, depth = 0;
  double budget = 0;
  bool resume = false, plan = false, json = false;
};

std::filesystem::path resolve(const std::string& model) { return find_model(model); }

// The recipe as it is run: the file (of a resumed run, the copy in its folder), then the flags.
Recipe assemble(const TrainFlags& flags) {
  const std::filesystem::path saved = std::filesystem::path(flags.recipe) / "recipe.yaml";
  const auto [text, where] = read_recipe(std::filesystem::is_regular_file(saved) ? saved.string() : flags.recipe);
  Recipe recipe = parse_recipe(text, where);
  for (const Override& each : flags.overrides) {
    if (each.given) override_recipe(recipe, each.name + "=" + each.value);
  }
  for (const std::string& each : flags.set) override_recipe(recipe, each);
  if (flags.depth > 0 || flags.budget > 0) {
    if (!recipe.model.empty()) fail(ErrorKind::kUsage, "--depth", "sizes a new model, but the recipe starts from {}", recipe.model);
    const std::int64_t vocabulary =
        recipe.tokenizer.empty() ? recipe.new_model.vocabulary : open_tokenizer(resolve(recipe.tokenizer))->size();
    recipe.new_model.shape.clear();
    recipe.new_model.layers = 0;
    recipe.new_model.depth = flags.depth > 0 ? flags.depth : depth_for_budget(recipe, flags.budget, vocabulary);
    dial_recipe(recipe, new_model_config(recipe, vocabulary));
    recipe.batch_tokens = std::min(recipe.batch_tokens, std::max(recipe.step_tokens, recipe.sequence_length));
  }
  return recipe;
}

void inspect_data(const Recipe& recipe, std::int64_t count) {
  const RunModels models = open_run_models(recipe, resolve);
  const std::unique_ptr<Loader> loader = open_loader(data_options(recipe, models, false), models);
  write_text(inspect(*loader, static_cast<int>(count), output_is_terminal() ? InspectStyle::kTerminal : InspectStyle::kPlain));
}

void train(const TrainFlags& flags) {
  const Recipe recipe = assemble(flags);
  check_recipe(recipe);
  if (flags.inspect > 0) return inspect_data(recipe, flags.inspect);
  RunModels models = open_run_models(recipe, resolve);
  if (flags.plan) {
    ThreadPool pool(1);
    const RunDevices devices(recipe, pool);
    check_run_shares(models, devices.ranks());
    const TrainMemory memory = plan_train_memory(recipe, models, find_objective(recipe.objective), devices.gpus());
    if (flags.json) {
      Json parts = Json::object();
      for (const auto& [name, bytes] : memory.parts) parts[name] = bytes;
      return write_json({{"parts", parts},
                         {"total_bytes", memory.total()},
                         {"before_bytes", memory.before},
                         {"device", memory.gpu.empty() ? "cpu" : memory.gpu},
                         {"host_copy_bytes", memory.host_copy},
                         {"available_bytes", memory.available}});
    }
    write_text(recipe_text(recipe) + "\nmemory:\n" + memory.text());
    return;
  }
  ThreadPool pool(recipe.threads);
  TrainReport report(flags.json);
  const InterruptScope scope(SecondPress::kEndsProcess);
  Trainer trainer(recipe, std::move(models), pool, report, flags.resume, &interrupt_flag());
  const RunResult result = trainer.run(interrupt_flag());
  report.ended(result);
  if (result.end == RunEnd::kStopped) throw Interrupted();
}

}  // namespace

VerbAction declare_train(Command& command) {
  const auto flags = std::make_shared<TrainFlags>();
  command.positional("RECIPE", &flags->recipe, "a YAML file, a name of puna recipe list, or with --resume a run's folder")
      .required = true;
  command.flag("--resume", &flags->resume, "go on from the run's newest checkpoint");
  command.flag("--inspect", "N", &flags->inspect, "show N examples with what is trained marked, and train nothing");
  command.flag("--plan", &flags->plan, "show the whole recipe and the memory it takes, and train nothing");
  command.flag("--depth", "N", &flags->depth, "size a new model of so many layers: width, tokens, step size and rate follow");
  command.flag("--budget", "FLOPS", &flags->budget, "the same from the arithmetic to be spent: 1e16");
  command.flag("--set", "KEY=VALUE", &flags->set, "a field inside a list: data.0.weight=2; may be repeated");
  add_json(command, flags->json);
  for (const RecipeField& field : recipe_fields(flags->defaults)) {
    flags->overrides.push_back({fmt::format("--{}", field.name), std::string(field.name), "", false});
  }
  const std::vector<RecipeField> fields = recipe_fields(flags->defaults);
  for (std::size_t i = 0; i < fields.size(); ++i) {
    Override& each = flags->overrides[i];
    Flag& flag = command.flag(each.flag, fields[i].choices.empty() ? "VALUE" : fields[i].choices, &each.value, fields[i].about);
    flag.given = &each.given;
    flag.may_be_empty = true;
  }
  command.notes = "Every field of a recipe is a flag; puna recipe show NAME prints one to start from.\n";
  return [flags] { train(*flags); };
}

}  // namespace puna
