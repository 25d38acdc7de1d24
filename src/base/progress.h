// SPDX-License-Identifier: Apache-2.0
// A progress bar on standard error: redrawn in place at most ten times a second, and only on a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace puna {

class ProgressBar {
 public:
  // `total` units of work; `unit` is printed behind the counts ("tensors", "tokens"), "bytes" is scaled to MB or GB.
  // Control characters in the label, which may be a file's name, are shown as symbols.
  ProgressBar(std::string_view label, std::uint64_t total, std::string unit);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void advance(std::uint64_t amount) { set(done_ + amount); }
  void set(std::uint64_t done);

 private:
  void draw();

  std::string label_, unit_;
  std::uint64_t total_, done_ = 0;
  bool terminal_;
  std::chrono::steady_clock::time_point start_, drawn_;
};

// "1.2 GB", "340 MB", "17 KB": decimal units, as files are listed.
std::string human_bytes(std::uint64_t bytes);

}  // namespace puna
