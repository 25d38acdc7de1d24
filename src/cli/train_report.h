// SPDX-License-Identifier: Apache-2.0
// A training run as its user sees it: one line per step that is redrawn on a terminal and written every so often elsewhere, and
// lines for what happens beside it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/progress.h"
#include "train/trainer.h"

namespace puna {

class TrainReport final : public TrainObserver {
 public:
  // json: one JSON object per line on standard output instead.
  explicit TrainReport(bool json);
  ~TrainReport() override;

  void began(const RunPlan& plan, const TrainMemory& memory, std::int64_t trained, std::int64_t first_step) override;
  void asked_reference(std::int64_t done, std::int64_t all) override;
  void stepped(const StepReport& report) override;
  void evaluated(std::int64_t step, double loss, const Figures& figures) override;
  void sampled(std::int64_t step, std::string_view prompt, std::string_view text) override;
  void saved(const std::filesystem::path& folder) override;
  void noted(std::string_view text) override;
  void ended(const RunResult& result);

 private:
  using Clock = std::chrono::steady_clock;
  void line(const std::string& text);  // for good, above the line that is redrawn
  void clear();

  bool json_, terminal_, drawn_ = false;
  std::optional<ProgressBar> asking_;
  std::int64_t steps_here_ = 0;
  double seconds_per_step_ = 0;  // a running mean
  Clock::time_point printed_;
};

}  // namespace puna
