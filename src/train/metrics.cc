// SPDX-License-Identifier: Apache-2.0
#include "train/metrics.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <system_error>

#include "base/error.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

template <typename T>
std::string little_endian(T value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

// protobuf's wire format: a key is field << 3 | type; 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string key(unsigned field, unsigned type) { return varint(field << 3 | type); }
std::string bytes_field(unsigned field, std::string_view bytes) { return (key(field, 2) + varint(bytes.size())).append(bytes); }

// Event: wall_time = 1, step = 2, file_version = 3, summary = 5.
std::string event(double wall_time, std::int64_t step, const std::string& what) {
  return key(1, 1) + little_endian(std::bit_cast<std::uint64_t>(wall_time)) + key(2, 0) + varint(static_cast<std::uint64_t>(step)) +
         what;
}

// Summary: value = 1 {tag = 1, simple_value = 2, tensor = 8, metadata = 9}. Text is a string tensor (dtype = 1: 7, string_val = 8)
// of the plugin "text" (metadata: plugin_data = 1 {plugin_name = 1}).
std::string tensorboard_text(double wall_time, std::int64_t step, std::string_view tag, std::string_view text) {
  const std::string tensor = key(1, 0) + varint(7) + bytes_field(2, "") + bytes_field(8, text);
  const std::string metadata = bytes_field(1, bytes_field(1, "text"));
  const std::string value = bytes_field(1, tag) + bytes_field(9, metadata) + bytes_field(8, tensor);
  return event(wall_time, step, bytes_field(5, bytes_field(1, value)));
}

// The bytes of metrics.jsonl that belong to steps up to `step`; a torn last line belongs to none.
std::uintmax_t kept_bytes(const fs::path& path, std::int64_t step) {
  std::ifstream file(path, std::ios::binary);
  std::uintmax_t kept = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {
    try {
      if (json_at<std::int64_t>(parse_json(line, path.string()), "step", path.string()) > step) break;
    } catch (const Error&) {
      break;
    }
    kept += line.size() + 1;
  }
  return kept;
}

}  // namespace

std::uint32_t crc32c(std::string_view data) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> rows{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0u);
      rows[i] = value;
    }
    return rows;
  }();
  std::uint32_t crc = ~0u;
  for (const char byte : data) crc = table[(crc ^ static_cast<unsigned char>(byte)) & 0xff] ^ crc >> 8;
  return ~crc;
}

std::string tensorboard_record(std::string_view data) {
  const auto masked = [](std::string_view bytes) {
    const std::uint32_t crc = crc32c(bytes);
    return little_endian((crc >> 15 | crc << 17) + 0xa282ead8u);
  };
  const std::string length = little_endian(static_cast<std::uint64_t>(data.size()));
  return length + masked(length) + std::string(data) + masked(data);
}

std::string tensorboard_scalar(double wall_time, std::int64_t step, std::string_view tag, float value) {
  const std::string scalar = bytes_field(1, tag) + key(2, 5) + little_endian(std::bit_cast<std::uint32_t>(value));
  return event(wall_time, step, bytes_field(5, bytes_field(1, scalar)));
}

MetricsLog::MetricsLog(const fs::path& folder, std::int64_t step) : path_(folder / "metrics.jsonl") {
  std::error_code error;
  fs::create_directories(folder / "tensorboard", error);
  if (fs::exists(path_)) cut(step);
  lines_.open(path_, std::ios::binary | std::ios::app);
  const fs::path events =
      folder / "tensorboard" / fmt::format("events.out.tfevents.{:010}.puna.{}", std::int64_t(now()), ::getpid());
  events_.open(events, std::ios::binary | std::ios::app);
  if (error || !lines_ || !events_)
    fail(ErrorKind::kBadInput, folder.string(), "metrics cannot be written there: {}", error.message());
  events_ << tensorboard_record(event(now(), 0, bytes_field(3, "brain.Event:2"))) << std::flush;
}

void MetricsLog::cut(std::int64_t step) {
  std::error_code error;
  fs::resize_file(path_, kept_bytes(path_, step), error);  // lines_ appends: the next line stands at the new end
  if (error) fail(ErrorKind::kBadInput, path_.string(), "cannot be cut behind step {}: {}", step, error.message());
}

void MetricsLog::write_line(const Json& line) {
  lines_ << dump_json(line) << '\n' << std::flush;
  events_ << std::flush;
  if (!lines_ || !events_) fail(ErrorKind::kNoRoom, path_.string(), "could not be written to: is the disk full?");
}

void MetricsLog::add(std::int64_t step, std::string_view kind, const Figures& figures) {
  Json line = {{"step", step}, {"kind", kind}};
  for (const auto& [name, value] : figures) {
    line[name] = std::isfinite(value) ? Json(value) : Json(nullptr);
    events_ << tensorboard_record(tensorboard_scalar(now(), step, fmt::format("{}/{}", kind, name), static_cast<float>(value)));
  }
  write_line(line);
}

void MetricsLog::add_text(std::int64_t step, std::string_view kind, std::string_view name, std::string_view text) {
  events_ << tensorboard_record(tensorboard_text(now(), step, fmt::format("{}/{}", kind, name), text));
  write_line({{"step", step}, {"kind", kind}, {"name", name}, {"text", text}});
}

}  // namespace puna
