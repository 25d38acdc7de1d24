// SPDX-License-Identifier: Apache-2.0
// What a run writes down while it learns: metrics.jsonl, one JSON object per line, and the same numbers as a TensorBoard event file
// (TFRecord framing with masked CRC-32C around the protobuf messages Event and Summary of tensorflow/core).
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace puna {

// Named numbers of one step, in the order they are written.
using Figures = std::vector<std::pair<std::string, double>>;

class MetricsLog {
 public:
  // Appends to `folder`/metrics.jsonl and begins a new event file in `folder`/tensorboard. Lines of metrics.jsonl behind `step` are
  // those of a run that went on without a checkpoint: they are cut off. Throws kBadInput where the folder cannot be written.
  MetricsLog(const std::filesystem::path& folder, std::int64_t step);

  // Cuts the lines of metrics.jsonl behind `step` off: the run goes back there, and steps never fall in the file.
  void cut(std::int64_t step);
  // {"step": …, "kind": "train", …figures}; in TensorBoard "kind/name". NaN and infinity are null in JSON.
  void add(std::int64_t step, std::string_view kind, const Figures& figures);
  // A sample or a message: text in both.
  void add_text(std::int64_t step, std::string_view kind, std::string_view name, std::string_view text);

 private:
  void write_line(const Json& line);

  std::filesystem::path path_;
  std::ofstream lines_, events_;
};

// One record of an event file: length, masked CRC of the length, data, masked CRC of the data.
std::string tensorboard_record(std::string_view data);
// Event {wall_time, step, summary {value {tag, simple_value}}}.
std::string tensorboard_scalar(double wall_time, std::int64_t step, std::string_view tag, float value);
std::uint32_t crc32c(std::string_view data);

}  // namespace puna
