// SPDX-License-Identifier: Apache-2.0
// How many tokens and parameters a budget of arithmetic is best spent on (Hoffmann et al., 2022, approach 2; "The Llama 3 Herd of
// Models", arXiv 2407.21783, section 3.2.1): trainings of several sizes at equal FLOPs C = 6 N D, a parabola in log D through their
// losses, its minimum D*(C), and a power law through the minima:
//   loss = a (ln D)^2 + b ln D + c,   ln D* = -b / (2 a),   D*(C) = A C^alpha,   N*(C) = C / (6 D*)
// N counts the weights that multiply: without the input embedding.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "train/recipe.h"

namespace puna {

struct IsoFlopPoint {
  double budget;  // FLOPs
  double parameters, tokens, loss;
};

struct IsoFlopCurve {
  double budget;
  double a, b, c;  // loss over ln D
  double best_tokens, best_loss;
  std::vector<IsoFlopPoint> points;
};

// One curve per budget, ascending. Throws kUsage for a budget with fewer than three sizes, kBadInput for one whose losses have no
// minimum (a <= 0): its sizes are all too small, or all too large.
std::vector<IsoFlopCurve> fit_iso_flops(std::span<const IsoFlopPoint> points);

struct PowerLaw {
  double exponent = 0, factor = 0;  // alpha, A
  double best_tokens(double budget) const;
  double best_parameters(double budget) const;  // budget / (6 best_tokens)
};
// Least squares in log-log. Throws kUsage for fewer than two curves.
PowerLaw fit_power_law(std::span<const IsoFlopCurve> curves);

// Figure 3 of the paper: (0.537, 0.299), which gives its 16.55 T tokens at 3.8e25 FLOPs. (The text's rounded 0.53 and 0.29 do not.)
PowerLaw llama3_law();

// Weights that multiply in one token's forward pass: what 6 N D counts.
double multiplying_parameters(const ModelConfig& config);

// One dial for a whole new model (new_model.depth, sequence_length and data are the recipe's): tokens and steps by the law, size of
// a step and learning rate by the fits of DeepSeek LLM (arXiv 2401.02954, equation 1):
//   step_tokens = 0.2920 C^0.3271,   learning_rate = 0.3118 C^-0.1250
// `config` is the model of that depth.
void dial_recipe(Recipe& recipe, const ModelConfig& config);
// The depth whose model the law gives a budget: N(depth) nearest to N*(C) in logarithm.
std::int64_t depth_for_budget(Recipe recipe, double budget, std::int64_t vocabulary);

// The curves with their minima, as an SVG picture.
std::string scaling_plot_svg(std::span<const IsoFlopCurve> curves, const PowerLaw& law);

}  // namespace puna
