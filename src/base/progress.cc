// SPDX-License-Identifier: Apache-2.0
#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/without_controls.h"

namespace puna {
namespace {

constexpr int kBarWidth = 24;
constexpr std::chrono::milliseconds kRedraw{100};

std::string human_seconds(double seconds) {
  const int whole = static_cast<int>(std::min(seconds, 3600.0 * 1000));
  return whole >= 3600 ? fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60) : fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

std::string human_bytes(std::uint64_t bytes) {
  const double size = static_cast<double>(bytes);
  // A little below each unit already rounds up to it: 999,999 bytes are 1.0 MB.
  if (size >= 999.95e6) return fmt::format("{:.2f} GB", size / 1e9);
  if (size >= 999.95e3) return fmt::format("{:.1f} MB", size / 1e6);
  if (size >= 1e3) return fmt::format("{:.1f} KB", size / 1e3);
  return fmt::format("{} bytes", bytes);
}

ProgressBar::ProgressBar(std::string_view label, std::uint64_t total, std::string unit)
    : label_(without_controls(label)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()) {}

ProgressBar::~ProgressBar() {
  if (!terminal_ || done_ == 0) return;
  draw();
  std::fputc('\n', stderr);
}

void ProgressBar::set(std::uint64_t done) {
  done_ = done;
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || now - drawn_ < kRedraw) return;
  drawn_ = now;
  draw();
}

void ProgressBar::draw() {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double fraction = total_ > 0 ? std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)) : 0.0;
  const int full = static_cast<int>(fraction * kBarWidth);
  const bool bytes = unit_ == "bytes";
  const std::string counts =
      bytes ? fmt::format("{} of {}", human_bytes(done_), human_bytes(total_)) : fmt::format("{} of {} {}", done_, total_, unit_);
  const double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0.0;
  const std::string speed = bytes ? human_bytes(static_cast<std::uint64_t>(rate)) + "/s" : fmt::format("{:.1f} {}/s", rate, unit_);
  const std::string left = rate > 0 ? human_seconds(static_cast<double>(total_ - std::min(done_, total_)) / rate) : "?";
  fmt::print(stderr, "\r\033[K{} [{:#>{}}{:->{}}] {:3.0f} %  {}  {}  {} left", label_, "", full, "", kBarWidth - full,
             fraction * 100, counts, speed, left);
  std::fflush(stderr);
}

}  // namespace puna
