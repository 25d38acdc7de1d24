// SPDX-License-Identifier: Apache-2.0
// Notices a step whose loss or gradient norm is not a number, or lies far above the last ones (z-score over a window, as llm.c
// does it): z = (x - mean) / deviation of the last kWindow accepted steps.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace puna {

class SpikeWatch {
 public:
  static constexpr std::size_t kWindow = 128;

  // threshold: the largest z that passes; 0: only numbers are asked for.
  explicit SpikeWatch(double threshold) : threshold_(threshold) {}

  // What is wrong with the step, or an empty text. Steps that pass are remembered.
  std::string judge(double loss, double norm) {
    if (!std::isfinite(loss)) return fmt::format("the loss is {}", loss);
    if (!std::isfinite(norm)) return fmt::format("the gradient's norm is {}", norm);
    for (const auto& [values, value, name] : {Look{losses_, loss, "loss"}, Look{norms_, norm, "gradient's norm"}}) {
      const double z = z_score(values, value);
      if (threshold_ > 0 && z > threshold_)
        return fmt::format("the {} is {:.4g}, {:.1f} deviations above the last", name, value, z);
    }
    remember(losses_, loss);
    remember(norms_, norm);
    return "";
  }

  // For checkpoints.
  const std::vector<double>& losses() const { return losses_; }
  const std::vector<double>& norms() const { return norms_; }
  void restore(std::vector<double> losses, std::vector<double> norms) {
    losses_ = std::move(losses);
    norms_ = std::move(norms);
  }

 private:
  struct Look {
    const std::vector<double>& values;
    double value;
    const char* name;
  };
  // 0 until the window is full.
  static double z_score(const std::vector<double>& values, double value) {
    if (values.size() < kWindow) return 0;
    double sum = 0, squares = 0;
    for (const double each : values) sum += each;
    const double mean = sum / kWindow;
    for (const double each : values) squares += (each - mean) * (each - mean);
    const double deviation = std::sqrt(squares / kWindow);
    return deviation > 0 ? (value - mean) / deviation : 0;
  }
  static void remember(std::vector<double>& values, double value) {
    if (values.size() == kWindow) values.erase(values.begin());
    values.push_back(value);
  }

  double threshold_;
  std::vector<double> losses_, norms_;  // oldest first, at most kWindow
};

}  // namespace puna
