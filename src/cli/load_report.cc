// SPDX-License-Identifier: Apache-2.0
#include "cli/load_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace puna {
namespace {

double per_second(std::int64_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }

std::string error_name(const LoadSample& sample) {
  if (sample.status >= 400) return std::to_string(sample.status);
  return sample.problem;
}

Json spread_json(const Spread& spread) {
  if (spread.count == 0) return nullptr;
  return {{"mean", spread.mean * 1000},
          {"p50", spread.p50 * 1000},
          {"p90", spread.p90 * 1000},
          {"p99", spread.p99 * 1000},
          {"max", spread.most * 1000}};
}

std::string spread_row(const char* label, const Spread& spread) {
  if (spread.count == 0) return "";
  return fmt::format("{:<24}{:>10.1f}{:>10.1f}{:>10.1f}{:>10.1f}{:>10.1f}\n", label, spread.mean * 1000, spread.p50 * 1000,
                     spread.p90 * 1000, spread.p99 * 1000, spread.most * 1000);
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  Spread spread{.count = static_cast<std::int64_t>(values.size())};
  if (values.empty()) return spread;
  std::ranges::sort(values);
  const auto count = static_cast<double>(values.size());
  const auto rank = [&](double percent) {
    return values[static_cast<std::size_t>(std::max(1.0, std::ceil(percent * count / 100))) - 1];
  };
  for (const double value : values) spread.mean += value / count;
  spread.p50 = rank(50);
  spread.p90 = rank(90);
  spread.p99 = rank(99);
  spread.most = values.back();
  return spread;
}

LoadReport summarize(std::span<const LoadSample> samples) {
  LoadReport report;
  std::vector<double> first, between, whole;
  double begin = samples.empty() ? 0 : samples.front().began;
  for (const LoadSample& sample : samples) {
    begin = std::min(begin, sample.began);
    report.seconds = std::max(report.seconds, sample.ended);
    if (!sample.problem.empty()) {
      ++report.failed;
      ++report.errors[error_name(sample)];
      continue;
    }
    ++report.answered;
    report.prompt_tokens += sample.prompt_tokens;
    report.completion_tokens += sample.completion_tokens;
    whole.push_back(sample.ended - sample.began);
    if (sample.first >= 0) first.push_back(sample.first - sample.began);
    between.insert(between.end(), sample.gaps.begin(), sample.gaps.end());
  }
  report.seconds -= begin;
  report.first_text = spread_of(std::move(first));
  report.between_texts = spread_of(std::move(between));
  report.whole = spread_of(std::move(whole));
  return report;
}

Json to_json(const LoadReport& report) {
  Json errors = Json::object();
  for (const auto& [name, count] : report.errors) errors[name] = count;
  return {{"seconds", report.seconds},
          {"answered", report.answered},
          {"failed", report.failed},
          {"errors", std::move(errors)},
          {"requests_per_second", per_second(report.answered, report.seconds)},
          {"prompt_tokens", report.prompt_tokens},
          {"completion_tokens", report.completion_tokens},
          {"completion_tokens_per_second", per_second(report.completion_tokens, report.seconds)},
          {"total_tokens_per_second", per_second(report.prompt_tokens + report.completion_tokens, report.seconds)},
          {"time_to_first_token_ms", spread_json(report.first_text)},
          {"inter_token_latency_ms", spread_json(report.between_texts)},
          {"end_to_end_ms", spread_json(report.whole)}};
}

std::string to_text(const LoadReport& report) {
  std::string text = fmt::format("{} answered, {} failed in {:.2f} s\n", report.answered, report.failed, report.seconds);
  for (const auto& [name, count] : report.errors) text += fmt::format("  {}: {} times\n", name, count);
  text += fmt::format("{:.2f} requests/s, {:.1f} tokens/s written, {:.1f} tokens/s with the prompts'\n",
                      per_second(report.answered, report.seconds), per_second(report.completion_tokens, report.seconds),
                      per_second(report.prompt_tokens + report.completion_tokens, report.seconds));
  if (report.answered == 0) return text;
  text += fmt::format("prompts of {:.1f} tokens, answers of {:.1f}, on average\n\n",
                      per_second(report.prompt_tokens, static_cast<double>(report.answered)),
                      per_second(report.completion_tokens, static_cast<double>(report.answered)));
  text += fmt::format("{:<24}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "milliseconds", "mean", "p50", "p90", "p99", "max");
  text += spread_row("time to first token", report.first_text);
  text += spread_row("inter-token latency", report.between_texts);
  text += spread_row("end to end", report.whole);
  return text;
}

}  // namespace puna
