// SPDX-License-Identifier: Apache-2.0
#include "cli/train_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/without_controls.h"
#include "cli/output.h"

namespace puna {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kPrint = std::chrono::seconds(5);  // between lines where nothing can be redrawn

std::string human_count(double value) {
  if (value >= 1e9) return fmt::format("{:.2f}B", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.2f}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.1f}K", value / 1e3);
  return fmt::format("{:.0f}", value);
}

std::string human_time(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string figures_text(const Figures& figures) {
  std::string text;
  for (const auto& [name, value] : figures) text += fmt::format("  {} {:.4g}", name, value);
  return text;
}

Json figures_json(const Figures& figures) {
  Json json = Json::object();
  for (const auto& [name, value] : figures) json[name] = std::isfinite(value) ? Json(value) : Json(nullptr);
  return json;
}

std::string bar(double share) {
  constexpr int kWide = 20;
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * kWide);
  return std::string(static_cast<std::size_t>(full), '=') + std::string(static_cast<std::size_t>(kWide - full), ' ');
}

}  // namespace

TrainReport::TrainReport(bool json) : json_(json), terminal_(error_is_terminal() && !json), printed_(Clock::now() - kPrint) {}

TrainReport::~TrainReport() { clear(); }

void TrainReport::clear() {
  if (!drawn_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

void TrainReport::line(const std::string& text) {
  clear();
  write_note(text);
}

void TrainReport::began(const RunPlan& plan, const TrainMemory& memory, std::int64_t trained, std::int64_t first_step) {
  if (json_) {
    return write_json({{"event", "began"},
                       {"steps", plan.steps()},
                       {"first_step", first_step},
                       {"trained_parameters", trained},
                       {"memory_bytes", memory.total()}});
  }
  line(fmt::format("{} trained parameters, {} steps{}; memory:\n{}", human_count(static_cast<double>(trained)), plan.steps(),
                   first_step > 0 ? fmt::format(", going on behind step {}", first_step) : "", memory.text()));
}

void TrainReport::asked_reference(std::int64_t done, std::int64_t all) {
  if (json_) {
    if (done == all) write_json({{"event", "reference"}, {"rows", all}});
    return;
  }
  if (!asking_) asking_.emplace("asking the reference", static_cast<std::uint64_t>(all), "rows");
  asking_->set(static_cast<std::uint64_t>(done));
  if (done == all) asking_.reset();
}

void TrainReport::stepped(const StepReport& r) {
  const double rate = r.seconds > 0 ? static_cast<double>(r.rows) / r.seconds : 0;
  ++steps_here_;
  seconds_per_step_ += (r.seconds - seconds_per_step_) / static_cast<double>(std::min<std::int64_t>(steps_here_, 50));
  if (json_) {
    Json json = {{"event", "step"},
                 {"step", r.step},
                 {"loss", std::isfinite(r.loss) ? Json(r.loss) : Json(nullptr)},
                 {"gradient_norm", r.gradient_norm},
                 {"learning_rate", r.learning_rate},
                 {"tokens_per_second", rate}};
    json.update(figures_json(r.figures));
    return write_json(json);
  }
  const bool last = r.step == r.steps;
  if (!last &&
      Clock::now() - printed_ < (terminal_ ? std::chrono::duration_cast<Clock::duration>(kRedraw) : Clock::duration(kPrint)))
    return;
  printed_ = Clock::now();
  const double left = seconds_per_step_ * static_cast<double>(r.steps - r.step);
  const std::string text =
      fmt::format("step {}/{}{}  loss {:.4f}  |g| {:.3g}  lr {:.3g}  {} tokens/s{}  {} left", r.step, r.steps,
                  terminal_ ? " [" + bar(static_cast<double>(r.step) / static_cast<double>(r.steps)) + "]" : "", r.loss,
                  r.gradient_norm, r.learning_rate, human_count(rate), figures_text(r.figures), human_time(left));
  if (!terminal_) return write_note(text);
  std::fputs(("\r" + text + "\033[K").c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

void TrainReport::evaluated(std::int64_t step, double loss, const Figures& figures) {
  if (json_) {
    Json json = {{"event", "held_out"}, {"step", step}, {"loss", loss}};
    json.update(figures_json(figures));
    return write_json(json);
  }
  line(fmt::format("step {}: held-out loss {:.4f}{}", step, loss, figures_text(figures)));
}

void TrainReport::sampled(std::int64_t step, std::string_view prompt, std::string_view text) {
  if (json_) return write_json({{"event", "sample"}, {"step", step}, {"prompt", prompt}, {"text", text}});
  line(without_controls(fmt::format("step {}: {}{}", step, prompt, text)));
}

void TrainReport::saved(const std::filesystem::path& folder) {
  if (json_) return write_json({{"event", "checkpoint"}, {"path", folder.string()}});
  line(fmt::format("wrote {}", folder.string()));
}

void TrainReport::noted(std::string_view text) {
  if (json_) return write_json({{"event", "note"}, {"text", text}});
  line(std::string(text));
}

void TrainReport::ended(const RunResult& result) {
  const std::string_view how = result.end == RunEnd::kFinished ? "finished" : "stopped";
  if (json_) {
    return write_json({{"event", how},
                       {"steps", result.steps},
                       {"held_out_loss", result.held_out_loss ? Json(*result.held_out_loss) : Json(nullptr)},
                       {"checkpoint", result.checkpoint.string()}});
  }
  line(fmt::format("{} at step {}{}; the model is in {}", how, result.steps,
                   result.held_out_loss ? fmt::format(", held-out loss {:.4f}", *result.held_out_loss) : "",
                   result.checkpoint.string()));
}

}  // namespace puna
