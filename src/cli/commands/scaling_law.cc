// SPDX-License-Identifier: Apache-2.0
// `puna scaling-law`: trainings of several sizes at equal arithmetic from one recipe, the law fitted to them, and what it says of a
// larger budget. Trainings that are done are not repeated.
#include "train/scaling_law.h"

#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/train_report.h"
#include "cli/verb.h"
#include "hub/hub_cache.h"
#include "tensor/atomic_file.h"
#include "train/checkpoint_store.h"
#include "train/trainer.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

struct ScalingLawFlags {
  std::string recipe, budgets, depths, out = "runs/scaling-law", points;
  double predict = 0;
  bool json = false;
};

// "1e13,3e13".
std::vector<double> number_list(const std::string& text, const char* flag) {
  std::vector<double> values;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    double value = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + comma, value);
    if (error != std::errc() || end != text.data() + comma || !(value > 0))
      fail(ErrorKind::kUsage, flag, "'{}' is no number above 0: write 1e13,3e13,1e14", text.substr(at, comma - at));
    values.push_back(value);
    at = comma + 1;
  }
  return values;
}

// One training of `depth` layers for `budget` FLOPs; its point. Throws Interrupted.
IsoFlopPoint train_point(Recipe recipe, double budget, std::int64_t depth, const ScalingLawFlags& flags) {
  const auto resolve = [](const std::string& model) { return find_model(model); };
  recipe.new_model.shape.clear();
  recipe.new_model.layers = 0;
  recipe.new_model.depth = depth;
  recipe.stages.clear();
  recipe.epochs = 0;
  recipe.out = (fs::path(flags.out) / fmt::format("flops-{:.3g}-depth-{}", budget, depth)).string();
  recipe.steps = 1;  // until the shape is known
  RunModels models = open_run_models(recipe, resolve);
  const double parameters = multiplying_parameters(models.start->config);
  recipe.steps = std::max<std::int64_t>(1, std::llround(budget / (6 * parameters * static_cast<double>(recipe.step_tokens))));
  check_recipe(recipe);
  const bool begun = fs::exists(fs::path(recipe.out) / "recipe.yaml");
  ThreadPool pool(recipe.threads);
  TrainReport report(flags.json);
  Trainer trainer(recipe, std::move(models), pool, report, begun, &interrupt_flag());
  const RunResult result = trainer.run(interrupt_flag());
  if (result.end == RunEnd::kStopped) throw Interrupted();
  return {budget, parameters, static_cast<double>(recipe.steps * recipe.step_tokens), result.held_out_loss.value()};
}

// Lines of {"budget": …, "parameters": …, "tokens": …, "loss": …}.
std::vector<IsoFlopPoint> read_points(const std::string& path) {
  std::vector<IsoFlopPoint> points;
  std::ifstream file(path);
  if (!file) fail(ErrorKind::kNotFound, path, "cannot be read");
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    const Json json = parse_json(line, path);
    const auto number = [&](const char* key) { return json_at<double>(json, key, path); };
    points.push_back({number("budget"), number("parameters"), number("tokens"), number("loss")});
  }
  return points;
}

std::vector<IsoFlopPoint> run_points(const ScalingLawFlags& flags) {
  const auto [text, where] = read_recipe(flags.recipe);
  const Recipe recipe = parse_recipe(text, where);
  if (recipe.validation.empty()) fail(ErrorKind::kUsage, "validation", "is empty: the law is fitted to held-out losses");
  if (!recipe.model.empty()) fail(ErrorKind::kUsage, "model", "is {}: the law is for new models", recipe.model);
  std::vector<IsoFlopPoint> points;
  std::string lines;
  const InterruptScope scope(SecondPress::kEndsProcess);
  for (const double budget : number_list(flags.budgets, "--budgets")) {
    for (const double depth : number_list(flags.depths, "--depths")) {
      const IsoFlopPoint point = train_point(recipe, budget, std::llround(depth), flags);
      points.push_back(point);
      lines +=
          dump_json({{"budget", point.budget}, {"parameters", point.parameters}, {"tokens", point.tokens}, {"loss", point.loss}}) +
          "\n";
      AtomicFile file(fs::path(flags.out) / "points.jsonl");
      file.write(lines);
      file.commit();
    }
  }
  return points;
}

void scaling_law(const ScalingLawFlags& flags) {
  if (flags.points.empty() == flags.recipe.empty())
    fail(ErrorKind::kUsage, "scaling-law", "give a recipe, or --points of earlier trainings");
  if (flags.points.empty() && (flags.budgets.empty() || flags.depths.empty()))
    fail(ErrorKind::kUsage, "scaling-law", "a recipe needs --budgets 1e13,3e13,1e14 and --depths 2,3,4");
  const std::vector<IsoFlopPoint> points = flags.points.empty() ? run_points(flags) : read_points(flags.points);
  const std::vector<IsoFlopCurve> curves = fit_iso_flops(points);
  const PowerLaw law = fit_power_law(curves);
  fs::create_directories(flags.out);
  AtomicFile plot(fs::path(flags.out) / "scaling-law.svg");
  plot.write(scaling_plot_svg(curves, law));
  plot.commit();
  if (flags.json) {
    Json rows = Json::array();
    for (const IsoFlopCurve& curve : curves)
      rows.push_back({{"budget", curve.budget}, {"best_tokens", curve.best_tokens}, {"best_loss", curve.best_loss}});
    Json json = {{"exponent", law.exponent},
                 {"factor", law.factor},
                 {"curves", rows},
                 {"plot", (fs::path(flags.out) / "scaling-law.svg").string()}};
    if (flags.predict > 0)
      json["prediction"] = {{"budget", flags.predict},
                            {"tokens", law.best_tokens(flags.predict)},
                            {"parameters", law.best_parameters(flags.predict)}};
    return write_json(json);
  }
  std::string text = "      FLOPs   best tokens   parameters      loss\n";
  for (const IsoFlopCurve& curve : curves)
    text += fmt::format("{:>11.3g} {:>13.4g} {:>12.4g} {:>9.4f}\n", curve.budget, curve.best_tokens,
                        curve.budget / (6 * curve.best_tokens), curve.best_loss);
  text += fmt::format("D*(C) = {:.4g} C^{:.4f}; the plot is {}\n", law.factor, law.exponent,
                      (fs::path(flags.out) / "scaling-law.svg").string());
  if (flags.predict > 0)
    text += fmt::format("{:.3g} FLOPs: {:.4g} tokens through {:.4g} parameters\n", flags.predict, law.best_tokens(flags.predict),
                        law.best_parameters(flags.predict));
  write_text(text);
}

}  // namespace

VerbAction declare_scaling_law(Command& command) {
  const auto flags = std::make_shared<ScalingLawFlags>();
  command.positional("RECIPE", &flags->recipe,
                     "of a new model with validation data; its depth and steps are set for each training");
  command.flag("--budgets", "LIST", &flags->budgets, "FLOPs of the trainings: 1e13,3e13,1e14");
  command.flag("--depths", "LIST", &flags->depths, "layers of the models trained at each budget: 2,3,4,5");
  command.flag("--predict", "FLOPS", &flags->predict, "say the best size for this budget");
  command.flag("--points", "FILE", &flags->points, "fit these instead of training: points.jsonl of an earlier call");
  command.flag("--out", "FOLDER", &flags->out, "where trainings, points and plot go (default runs/scaling-law)");
  add_json(command, flags->json);
  return [flags] { scaling_law(*flags); };
}

}  // namespace puna
