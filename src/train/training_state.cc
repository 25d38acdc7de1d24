// SPDX-License-Identifier: Apache-2.0
#include "train/training_state.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/error.h"
#include "base/mapped_file.h"
#include "tensor/atomic_file.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStateMagic = "PUNASTAT";
constexpr std::size_t kFixed = kStateMagic.size() + sizeof(std::uint64_t);
static_assert(std::endian::native == std::endian::little, "lengths are written as they lie");

fs::path bytes_path(const fs::path& folder) { return folder / "training_state.bin"; }
fs::path place_path(const fs::path& folder) { return folder / "training_state.json"; }

}  // namespace

void write_training_state(const fs::path& folder, const std::vector<NamedBytes>& states, const Json& place) {
  Json header = Json::object();
  std::uint64_t offset = 0;
  for (const NamedBytes& state : states) {
    header[state.name] = {offset, state.bytes.size()};
    offset += state.bytes.size();
  }
  const std::string text = dump_json(header);
  const std::uint64_t length = text.size();
  AtomicFile file(bytes_path(folder));
  file.write(kStateMagic);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  RankedReader reader;
  for (const NamedBytes& state : states) reader.read(state.bytes, [&](std::span<const std::byte> piece) { file.write(piece); });
  file.commit();
  AtomicFile json(place_path(folder));
  json.write(dump_json(place) + "\n");
  json.commit();
}

Json read_training_state(const fs::path& folder, const std::vector<NamedBytes>& states) {
  const MappedFile file(bytes_path(folder));
  const std::string where = bytes_path(folder).string();
  const std::span<const std::byte> bytes = file.bytes();
  const auto text_at = [&](std::size_t offset, std::size_t count) {
    return std::string_view(reinterpret_cast<const char*>(bytes.data()) + offset, count);
  };
  std::uint64_t length = 0;
  if (bytes.size() < kFixed || text_at(0, kStateMagic.size()) != kStateMagic)
    fail(ErrorKind::kBadInput, where, "is not a training state");
  std::memcpy(&length, bytes.data() + kStateMagic.size(), sizeof(length));
  if (length > bytes.size() - kFixed)
    fail(ErrorKind::kBadInput, where, "has a header of {} bytes in {} bytes", length, bytes.size());
  const Json header = parse_json(text_at(kFixed, length), where);
  const std::span<const std::byte> data = bytes.subspan(kFixed + length);
  for (const NamedBytes& state : states) {
    if (!header.contains(state.name)) {
      fail(ErrorKind::kBadInput, where,
           "has no '{}': it is of another recipe, or was written by another number of devices, which optimizer.eight_bit ties a "
           "run to",
           state.name);
    }
    const auto [offset, count] = header[state.name].get<std::pair<std::uint64_t, std::uint64_t>>();
    if (count != state.bytes.size())
      fail(ErrorKind::kBadInput, where, "'{}' has {} bytes, expected {}: it is of another recipe", state.name, count,
           state.bytes.size());
    if (offset > data.size() || count > data.size() - offset)
      fail(ErrorKind::kBadInput, where, "'{}' ends past the end of the file", state.name);
    state.bytes.fill(data.subspan(offset, count));
    file.release(kFixed + length + offset, count);
  }
  const MappedFile place(place_path(folder));
  const auto text = place.bytes();
  return parse_json({reinterpret_cast<const char*>(text.data()), text.size()}, place_path(folder).string());
}

}  // namespace puna
