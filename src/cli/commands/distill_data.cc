// SPDX-License-Identifier: Apache-2.0
// `puna distill-data`: a teacher reads a recipe's data once, and its likeliest tokens are written down for students.
#include "train/distill_data.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "hub/hub_cache.h"
#include "train/recipe.h"
#include "train/run_start.h"

namespace puna {
namespace {

struct DistillDataFlags {
  std::string teacher, recipe, out;
  std::vector<std::string> set;
  std::int64_t top_k = 64;
  int threads = 0;
  bool force = false, json = false;
};

// The student's recipe, which learns from this teacher.
Recipe assemble(const DistillDataFlags& flags) {
  const auto [text, where] = read_recipe(flags.recipe);
  Recipe recipe = parse_recipe(text, where);
  for (const std::string& each : flags.set) override_recipe(recipe, each);
  recipe.distillation.teacher = flags.teacher;
  check_recipe(recipe);
  if (!find_objective(recipe.objective).needs_teacher) {
    fail(ErrorKind::kUsage, "objective",
         "is {}, which learns from no teacher: give a student's recipe, or --set objective=distillation", recipe.objective);
  }
  return recipe;
}

void print(const DistillDataReport& report, const DistillDataFlags& flags, double seconds) {
  if (flags.json) {
    return write_json({{"path", flags.out},
                       {"data", report.data},
                       {"validation", report.validation},
                       {"top_k", flags.top_k},
                       {"documents", report.documents},
                       {"tokens", report.tokens},
                       {"trained_tokens", report.trained_tokens},
                       {"bytes", report.bytes},
                       {"rest", report.rest},
                       {"seconds", seconds}});
  }
  std::string text = fmt::format("{}: {}, {} documents of {} tokens, {} of them trained, in {:.1f} s\n", flags.out,
                                 human_bytes(report.bytes), report.documents, report.tokens, report.trained_tokens, seconds);
  text +=
      fmt::format("outside the {} likeliest the teacher has {:.3f} % on average\n", flags.top_k, 100 * report.rest) + report.rows;
  text +=
      fmt::format("train on it: puna train {} --distillation.teacher= --data '[{}]'", flags.recipe, fmt::join(report.data, ", "));
  if (!report.validation.empty()) text += fmt::format(" --validation '[{}]'", fmt::join(report.validation, ", "));
  write_text(text + "\n");
}

void distill_data(const DistillDataFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  const Recipe recipe = assemble(flags);
  const RunModels models = open_run_models(recipe, [](const std::string& model) { return find_model(model); });
  ThreadPool pool(flags.threads > 0 ? flags.threads : recipe.threads);
  const InterruptScope scope(SecondPress::kEndsProcess);
  std::optional<ProgressBar> bar;
  const auto progress = [&](std::int64_t done, std::int64_t all) {
    if (!bar) bar.emplace("asking the teacher", static_cast<std::uint64_t>(all), "rows");
    bar->set(static_cast<std::uint64_t>(done));
  };
  const DistillDataReport report = write_distill_data(
      recipe, models, pool,
      {.top_k = flags.top_k, .out = flags.out, .overwrite = flags.force, .progress = progress, .interrupted = &interrupt_flag()});
  bar.reset();
  print(report, flags, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace

VerbAction declare_distill_data(Command& command) {
  const auto flags = std::make_shared<DistillDataFlags>();
  command.positional("TEACHER", &flags->teacher, "the model to ask: a GGUF file, a model folder, or a name in the cache").required =
      true;
  command.positional("RECIPE", &flags->recipe, "of the student: a YAML file, or a name of puna recipe list").required = true;
  command.flag("-o,--out", "FOLDER", &flags->out, "the folder to write").required = true;
  command.flag("--top-k", "N", &flags->top_k, "tokens to keep for each trained one (default 64)");
  command.flag("--set", "KEY=VALUE", &flags->set, "a field of the recipe: batch_tokens=8192; may be repeated");
  command.flag("--force", &flags->force, "overwrite what is in the folder");
  add_threads(command, flags->threads);
  add_json(command, flags->json);
  return [flags] { distill_data(*flags); };
}

}  // namespace puna
