// SPDX-License-Identifier: Apache-2.0
#include "train/scaling_law.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "train/run_start.h"

namespace puna {
namespace {

// Least squares of y = k0 + k1 x + k2 x^2 through the normal equations; x is centred first, for their condition.
std::array<double, 3> fit_parabola(std::span<const double> x, std::span<const double> y) {
  const auto count = static_cast<double>(x.size());
  double mean = 0;
  for (const double each : x) mean += each / count;
  std::array<std::array<double, 4>, 3> rows{};  // the augmented matrix
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double z = x[i] - mean;
    const std::array<double, 3> powers{1, z, z * z};
    for (std::size_t r = 0; r < 3; ++r) {
      for (std::size_t c = 0; c < 3; ++c) rows[r][c] += powers[r] * powers[c];
      rows[r][3] += powers[r] * y[i];
    }
  }
  for (std::size_t pivot = 0; pivot < 3; ++pivot) {
    const auto largest = std::max_element(rows.begin() + static_cast<std::ptrdiff_t>(pivot), rows.end(),
                                          [&](const auto& a, const auto& b) { return std::abs(a[pivot]) < std::abs(b[pivot]); });
    std::swap(rows[pivot], *largest);
    for (std::size_t r = 0; r < 3; ++r) {
      if (r == pivot || rows[pivot][pivot] == 0) continue;
      const double factor = rows[r][pivot] / rows[pivot][pivot];
      for (std::size_t c = pivot; c < 4; ++c) rows[r][c] -= factor * rows[pivot][c];
    }
  }
  std::array<double, 3> k{};
  for (std::size_t i = 0; i < 3; ++i) k[i] = rows[i][i] == 0 ? 0 : rows[i][3] / rows[i][i];
  // Back from z = x - mean.
  return {k[0] - k[1] * mean + k[2] * mean * mean, k[1] - 2 * k[2] * mean, k[2]};
}

}  // namespace

std::vector<IsoFlopCurve> fit_iso_flops(std::span<const IsoFlopPoint> points) {
  std::map<double, std::vector<IsoFlopPoint>> by_budget;
  for (const IsoFlopPoint& point : points) by_budget[point.budget].push_back(point);
  std::vector<IsoFlopCurve> curves;
  for (auto& [budget, group] : by_budget) {
    if (group.size() < 3)
      fail(ErrorKind::kUsage, "scaling law", "the budget {:.3g} has {} sizes, a parabola needs 3 or more", budget, group.size());
    std::ranges::sort(group, {}, &IsoFlopPoint::tokens);
    std::vector<double> x, y;
    for (const IsoFlopPoint& point : group) x.push_back(std::log(point.tokens)), y.push_back(point.loss);
    const auto [c, b, a] = fit_parabola(x, y);
    if (!(a > 0))
      fail(ErrorKind::kBadInput, "scaling law",
           "the losses at {:.3g} FLOPs have no minimum over their sizes: add smaller or larger models", budget);
    const double best = -b / (2 * a);
    curves.push_back({budget, a, b, c, std::exp(best), c + b * best + a * best * best, group});
  }
  return curves;
}

double PowerLaw::best_tokens(double budget) const { return factor * std::pow(budget, exponent); }

double PowerLaw::best_parameters(double budget) const { return budget / (6 * best_tokens(budget)); }

PowerLaw fit_power_law(std::span<const IsoFlopCurve> curves) {
  if (curves.size() < 2) fail(ErrorKind::kUsage, "scaling law", "{} budgets, a power law needs 2 or more", curves.size());
  const auto count = static_cast<double>(curves.size());
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
  for (const IsoFlopCurve& curve : curves) {
    mean_x += std::log(curve.budget) / count;
    mean_y += std::log(curve.best_tokens) / count;
  }
  for (const IsoFlopCurve& curve : curves) {
    const double x = std::log(curve.budget) - mean_x;
    xx += x * x;
    xy += x * (std::log(curve.best_tokens) - mean_y);
  }
  const double exponent = xy / xx;
  return {exponent, std::exp(mean_y - exponent * mean_x)};
}

PowerLaw llama3_law() { return {.exponent = 0.537, .factor = 0.299}; }

double multiplying_parameters(const ModelConfig& config) {
  const double width = static_cast<double>(config.width), heads = static_cast<double>(config.heads * config.head_width),
               kv = static_cast<double>(config.kv_heads * config.head_width), wide = static_cast<double>(config.feed_forward);
  return static_cast<double>(config.layers) * width * (2 * heads + 2 * kv + 3 * wide) +
         static_cast<double>(config.vocabulary) * width;
}

void dial_recipe(Recipe& recipe, const ModelConfig& config) {
  const PowerLaw law = llama3_law();
  // D = A C^alpha and C = 6 N D: C = (6 N A)^(1 / (1 - alpha)).
  const double parameters = multiplying_parameters(config);
  const double budget = std::pow(6 * parameters * law.factor, 1 / (1 - law.exponent));
  const double tokens = law.best_tokens(budget);
  const double step_tokens = 0.2920 * std::pow(budget, 0.3271);
  recipe.step_tokens = std::max<std::int64_t>(recipe.sequence_length, std::llround(step_tokens / 512) * 512);
  recipe.steps = std::max<std::int64_t>(1, std::llround(tokens / static_cast<double>(recipe.step_tokens)));
  recipe.epochs = 0;
  recipe.stages.clear();
  recipe.optimizer.learning_rate = std::round(0.3118 * std::pow(budget, -0.1250) * 1e6) / 1e6;
}

std::int64_t depth_for_budget(Recipe recipe, double budget, std::int64_t vocabulary) {
  constexpr std::int64_t kDeepest = 128;
  const double wanted = std::log(llama3_law().best_parameters(budget));
  recipe.new_model.shape.clear();
  recipe.new_model.layers = 0;
  std::int64_t best = 1;
  double distance = std::numeric_limits<double>::infinity();
  for (std::int64_t depth = 1; depth <= kDeepest; ++depth) {
    recipe.new_model.depth = depth;
    const double away = std::abs(std::log(multiplying_parameters(new_model_config(recipe, vocabulary))) - wanted);
    if (away < distance) best = depth, distance = away;
  }
  return best;
}

std::string scaling_plot_svg(std::span<const IsoFlopCurve> curves, const PowerLaw& law) {
  constexpr double kWide = 720, kHigh = 440, kLeft = 64, kRight = 24, kTop = 40, kBottom = 52;
  double x_low = 1e300, x_high = -1e300, y_low = 1e300, y_high = -1e300;
  for (const IsoFlopCurve& curve : curves) {
    for (const IsoFlopPoint& point : curve.points) {
      x_low = std::min(x_low, std::log10(point.tokens)), x_high = std::max(x_high, std::log10(point.tokens));
      y_low = std::min({y_low, point.loss, curve.best_loss}), y_high = std::max(y_high, point.loss);
    }
  }
  const double x_margin = 0.05 * (x_high - x_low) + 1e-9, y_margin = 0.08 * (y_high - y_low) + 1e-9;
  x_low -= x_margin, x_high += x_margin, y_low -= y_margin, y_high += y_margin;
  const auto x_at = [&](double tokens) {
    return kLeft + (std::log10(tokens) - x_low) / (x_high - x_low) * (kWide - kLeft - kRight);
  };
  const auto y_at = [&](double loss) { return kHigh - kBottom - (loss - y_low) / (y_high - y_low) * (kHigh - kTop - kBottom); };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"22\" font-size=\"14\">Loss at equal FLOPs; D*(C) = {3:.4g} C^{4:.4f}</text>\n"
      "<text x=\"{5}\" y=\"{6}\" text-anchor=\"middle\">training tokens</text>\n"
      "<text x=\"16\" y=\"{7}\" transform=\"rotate(-90 16 {7})\" text-anchor=\"middle\">held-out loss</text>\n"
      "<path d=\"M{2} {8}V{9}H{10}\" fill=\"none\" stroke=\"black\"/>\n",
      kWide, kHigh, kLeft, law.factor, law.exponent, (kLeft + kWide - kRight) / 2, kHigh - 12, (kTop + kHigh - kBottom) / 2, kTop,
      kHigh - kBottom, kWide - kRight);
  for (int tick = 0; tick <= 4; ++tick) {
    const double loss = y_low + (y_high - y_low) * tick / 4, tokens = std::pow(10, x_low + (x_high - x_low) * tick / 4);
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.3f}</text>\n", kLeft - 6, y_at(loss) + 4, loss);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.2g}</text>\n", x_at(tokens), kHigh - kBottom + 18,
                       tokens);
  }
  for (std::size_t i = 0; i < curves.size(); ++i) {
    const IsoFlopCurve& curve = curves[i];
    const double hue = 220 + 120 * static_cast<double>(i) / static_cast<double>(std::max<std::size_t>(curves.size() - 1, 1));
    const std::string colour = fmt::format("hsl({:.0f} 70% 45%)", hue);
    std::string path;
    constexpr int kSegments = 48;
    const double from = std::log(curve.points.front().tokens), to = std::log(curve.points.back().tokens);
    for (int s = 0; s <= kSegments; ++s) {
      const double x = from + (to - from) * s / kSegments;
      path += fmt::format("{}{:.1f} {:.1f}", s == 0 ? "M" : "L", x_at(std::exp(x)), y_at(curve.c + curve.b * x + curve.a * x * x));
    }
    svg += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n", path, colour);
    for (const IsoFlopPoint& point : curve.points)
      svg +=
          fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x_at(point.tokens), y_at(point.loss), colour);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\">{:.2g} FLOPs</text>\n", x_at(curve.points.back().tokens) - 60,
                       y_at(curve.points.back().loss) - 8, colour, curve.budget);
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"none\" stroke=\"red\" stroke-width=\"2\"/>\n",
                       x_at(curve.best_tokens), y_at(curve.best_loss));
  }
  return svg + "</svg>\n";
}

}  // namespace puna
