// SPDX-License-Identifier: Apache-2.0
#include "tensor/file_checks.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_set>

#include "base/checked_math.h"
#include "base/error.h"

namespace puna {

void check_name(std::string_view name, const char* what, const std::string& where) {
  if (name.empty()) fail(ErrorKind::kBadInput, where, "a {} is empty: the file is damaged", what);
  const bool printable = std::all_of(name.begin(), name.end(), [](unsigned char c) { return c >= 0x20 && c != 0x7f; });
  if (!printable)
    fail(ErrorKind::kBadInput, where, "a {} of {} bytes holds control characters: the file is damaged", what, name.size());
}

Shape checked_shape(std::span<const std::uint64_t> dims, std::string_view name, const std::string& where) {
  if (dims.size() > Shape::kMaxRank) {
    fail(ErrorKind::kUnsupported, where, "tensor {} has {} dimensions, at most {} are supported", name, dims.size(),
         Shape::kMaxRank);
  }
  std::array<std::int64_t, Shape::kMaxRank> signed_dims{};
  std::uint64_t product = 1;
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (std::size_t axis = 0; axis < dims.size(); ++axis) {
    const auto next = checked_multiply(product, dims[axis]);
    if (dims[axis] > kMost || !next || *next > kMost) {
      fail(ErrorKind::kBadInput, where, "tensor {} has an impossible shape: dimension {} is {}", name, axis, dims[axis]);
    }
    product = *next;
    signed_dims[axis] = static_cast<std::int64_t>(dims[axis]);
  }
  return Shape(std::span<const std::int64_t>(signed_dims.data(), dims.size()));
}

std::uint64_t checked_bytes(Format format, const Shape& shape, std::string_view name, const std::string& where) {
  const FormatInfo& row = info(format);
  if (shape.row_length() % row.block_values != 0) {
    fail(ErrorKind::kBadInput, where, "tensor {} has rows of {} values, {} needs a multiple of {}", name, shape.row_length(),
         row.name, row.block_values);
  }
  const auto blocks = static_cast<std::uint64_t>(shape.count() / row.block_values);
  const auto bytes = checked_multiply(blocks, static_cast<std::uint64_t>(row.block_bytes));
  if (!bytes) fail(ErrorKind::kBadInput, where, "tensor {} of shape {} needs more bytes than can be counted", name, shape.text());
  return *bytes;
}

std::span<const std::byte> checked_range(std::span<const std::byte> file, std::uint64_t offset, std::uint64_t size,
                                         std::string_view name, const std::string& where) {
  const auto end = checked_add(offset, size);
  if (!end) fail(ErrorKind::kBadInput, where, "tensor {} starts at the impossible byte {}", name, offset);
  if (*end > file.size()) {
    fail(ErrorKind::kBadInput, where,
         "tensor {} ends at byte {}, past the end of the file ({}): the file is incomplete; download it again", name, *end,
         file.size());
  }
  return file.subspan(offset, size);
}

void check_unique_names(const std::vector<Tensor>& tensors, const std::string& where) {
  std::unordered_set<std::string_view> names;
  for (const Tensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      fail(ErrorKind::kBadInput, where, "there are two tensors named {}: the file is damaged", tensor.name);
    }
  }
}

}  // namespace puna
