// SPDX-License-Identifier: Apache-2.0
#include "model/ranked_bytes.h"

#include <algorithm>
#include <cstring>

#include "base/as_size.h"
#include "base/error.h"

namespace puna {
namespace {

void copy_in(const RankedBytes::Part& part, std::span<const std::byte> bytes) {
  if (part.device != nullptr) return part.device->copy_in(part.bytes.data(), bytes.data(), bytes.size());
  std::ranges::copy(bytes, part.bytes.begin());
}

void copy_out(const RankedBytes::Part& part, std::span<const std::byte> bytes, std::byte* to) {
  if (part.device != nullptr) return part.device->copy_out(to, bytes.data(), bytes.size());
  std::ranges::copy(bytes, to);
}

// to [rows, to_width] and from [rows, from_width]: `width` bytes of every row.
void copy_rows(std::size_t rows, std::size_t width, std::byte* to, std::size_t to_width, const std::byte* from,
               std::size_t from_width) {
  for (std::size_t row = 0; row < rows; ++row) std::memcpy(to + row * to_width, from + row * from_width, width);
}

}  // namespace

std::size_t RankedBytes::size() const {
  if (axis == ShardAxis::kNone) return parts.front().bytes.size();
  std::size_t size = 0;
  for (const Part& part : parts) size += part.bytes.size();
  return size;
}

void RankedBytes::fill(std::span<const std::byte> whole) const {
  PUNA_CHECK(whole.size() == size(), "ranked bytes", "{} bytes for {}", whole.size(), size());
  const std::size_t row_count = as_size(rows), whole_width = whole.size() / row_count;
  std::vector<std::byte> columns;
  std::size_t first = 0;  // of this part, in a row of the whole
  for (const Part& part : parts) {
    if (axis == ShardAxis::kNone) {
      copy_in(part, whole);
    } else if (axis == ShardAxis::kRows) {
      copy_in(part, whole.subspan(first, part.bytes.size()));
    } else {
      columns.resize(part.bytes.size());
      const std::size_t width = columns.size() / row_count;
      copy_rows(row_count, width, columns.data(), width, whole.data() + first, whole_width);
      copy_in(part, columns);
    }
    first += part.bytes.size() / row_count;
  }
}

void RankedReader::read(const RankedBytes& bytes, const Visit& visit) {
  if (bytes.axis == ShardAxis::kColumns) return read_columns(bytes, visit);
  const std::size_t parts = bytes.axis == ShardAxis::kNone ? 1 : bytes.parts.size();
  for (const RankedBytes::Part& part : std::span(bytes.parts).first(parts)) read_part(part, visit);
}

void RankedReader::read_part(const RankedBytes::Part& part, const Visit& visit) {
  if (part.device == nullptr) return visit(part.bytes);
  pieces_.try_emplace(part.device, *part.device).first->second.read(part.bytes, visit);
}

// As many rows at a time as a piece holds.
void RankedReader::read_columns(const RankedBytes& bytes, const Visit& visit) {
  const std::size_t row_count = as_size(bytes.rows), whole_width = bytes.size() / row_count;
  const std::size_t most = std::clamp<std::size_t>(HostPieces::kBytes / whole_width, 1, row_count);
  whole_rows_.resize(most * whole_width);
  for (std::size_t row = 0; row < row_count; row += most) {
    const std::size_t count = std::min(most, row_count - row);
    std::size_t first = 0;
    for (const RankedBytes::Part& part : bytes.parts) {
      const std::size_t width = part.bytes.size() / row_count;
      part_rows_.resize(count * width);
      copy_out(part, part.bytes.subspan(row * width, count * width), part_rows_.data());
      copy_rows(count, width, whole_rows_.data() + first, whole_width, part_rows_.data(), width);
      first += width;
    }
    visit(std::span(whole_rows_).first(count * whole_width));
  }
}

}  // namespace puna
