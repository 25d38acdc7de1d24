// SPDX-License-Identifier: Apache-2.0
#include "train/data/data_report.h"

#include <fmt/format.h>

#include "base/error.h"

namespace puna {
namespace {

// In the order of DropReason; the key of the saved state, and what people read.
constexpr std::array<std::pair<const char*, std::string_view>, kDropReasons> kReasons = {{
    {"broken_json", "broken JSON"},
    {"missing_field", "a field is missing"},
    {"wrong_type", "a field of the wrong type"},
    {"conversation", "a conversation that the prompt format cannot hold"},
    {"text", "text that is not UTF-8"},
    {"nothing_trained", "no trained token"},
    {"equal_answers", "answers that are all the same"},
    {"over_long", "longer than the sequence length"},
    {"truncated", "cut at the sequence length"},
}};

std::string rows_of(std::int64_t count) { return fmt::format("{} row{}", count, count == 1 ? "" : "s"); }

}  // namespace

std::string_view describe(DropReason reason) { return kReasons[static_cast<std::size_t>(reason)].second; }

std::int64_t DataReport::dropped() const {
  std::int64_t rows = 0;
  for (const Entry& entry : entries_) rows += entry.rows;
  return rows - of(DropReason::kTruncated).rows;
}

std::string DataReport::text() const {
  std::string text = fmt::format("{} used, {} left out\n", rows_of(used_), dropped());
  for (std::size_t i = 0; i < kDropReasons; ++i) {
    const Entry& entry = entries_[i];
    if (entry.rows == 0) continue;
    text += fmt::format("  {}: {}\n", kReasons[i].second, rows_of(entry.rows));
    for (const std::string& message : entry.first) text += "    " + message + "\n";
    const std::int64_t more = entry.rows - static_cast<std::int64_t>(entry.first.size());
    if (more > 0) text += fmt::format("    and {} more\n", more);
  }
  return text;
}

Json DataReport::to_json() const {
  Json value = {{"used", used_}};
  for (std::size_t i = 0; i < kDropReasons; ++i) {
    if (entries_[i].rows > 0) value[kReasons[i].first] = {{"rows", entries_[i].rows}, {"first", entries_[i].first}};
  }
  return value;
}

DataReport DataReport::from_json(const Json& value, const std::string& where) {
  DataReport report;
  report.used_ = json_at<std::int64_t>(value, "used", where);
  for (std::size_t i = 0; i < kDropReasons; ++i) {
    const char* key = kReasons[i].first;
    if (!value.contains(key)) continue;
    const Json& entry = value.at(key);
    report.entries_[i].rows = json_at<std::int64_t>(entry, "rows", where);
    if (!entry.contains("first") || !entry.at("first").is_array() || entry.at("first").size() > kShown) {
      fail(ErrorKind::kBadInput, where, "\"first\" of \"{}\" is not a list of at most {} texts", key, kShown);
    }
    for (const Json& message : entry.at("first")) {
      if (!message.is_string()) fail(ErrorKind::kBadInput, where, "\"first\" of \"{}\" holds {}", key, message.type_name());
      report.entries_[i].first.push_back(message.get<std::string>());
    }
  }
  return report;
}

}  // namespace puna
