// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <unordered_set>

#include "base/error.h"
#include "base/json.h"
#include "tensor/atomic_file.h"
#include "tensor/safetensors.h"

namespace puna {
namespace {

std::string quoted(const std::string& text) { return dump_json(Json(text)); }

std::string metadata_text(const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> pairs;
  for (const auto& [key, value] : metadata) pairs.push_back(quoted(key) + ':' + quoted(value));
  return fmt::format("\"__metadata__\":{{{}}}", fmt::join(pairs, ","));
}

std::string dims_text(const Shape& shape) {
  std::vector<std::int64_t> dims;
  for (int axis = 0; axis < shape.rank(); ++axis) dims.push_back(shape[axis]);
  return fmt::format("{}", fmt::join(dims, ","));
}

std::int64_t entry_bytes(const SafetensorsEntry& entry) { return format_bytes(entry.format, entry.shape.count()); }

// The JSON header, padded with spaces so that the data begin at a multiple of 8.
std::string header_text(const std::vector<SafetensorsEntry>& entries, const std::map<std::string, std::string>& metadata,
                        const std::string& where) {
  std::string out = "{";
  if (!metadata.empty()) out += metadata_text(metadata);
  std::unordered_set<std::string> names;
  std::int64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    const FormatInfo& row = info(entry.format);
    PUNA_CHECK(!row.safetensors.empty(), where, "tensor {}: safetensors cannot hold {}", entry.name, row.name);
    PUNA_CHECK(names.insert(entry.name).second, where, "tensor {} is there twice", entry.name);
    const std::int64_t end = offset + entry_bytes(entry);
    if (out.size() > 1) out += ',';
    out += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", quoted(entry.name), row.safetensors,
                       dims_text(entry.shape), offset, end);
    offset = end;
  }
  out += '}';
  out.resize((out.size() + 7) / 8 * 8, ' ');
  return out;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& entries,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<std::span<const std::byte>(std::size_t index)>& produce) {
  const std::string where = path.filename().string();
  const std::string header = header_text(entries, metadata, where);
  const std::uint64_t length = header.size();
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::span<const std::byte> bytes = produce(i);
    PUNA_CHECK(static_cast<std::int64_t>(bytes.size()) == entry_bytes(entries[i]), where,
               "tensor {}: {} bytes were produced, expected {}", entries[i].name, bytes.size(), entry_bytes(entries[i]));
    file.write(bytes);
  }
  file.commit();
}

}  // namespace puna
