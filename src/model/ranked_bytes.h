// SPDX-License-Identifier: Apache-2.0
// Numbers that the ranks of a team have parts of, as the host sees them whole: what one device would have, in the same order. On
// one device there is one part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "model/host_pieces.h"
#include "model/weights.h"

namespace puna {

struct RankedBytes {
  struct Part {
    std::span<std::byte> bytes;
    const Device* device = nullptr;  // whose memory it is; nullptr: the host's
  };
  RankedBytes(std::span<std::byte> on_host) : parts{{on_host}} {}
  // kNone: every part is the whole; kRows: one part lies behind the other; kColumns: of each of `rows` rows, one part beside the
  // other.
  RankedBytes(std::vector<Part> of_ranks, ShardAxis split, std::int64_t row_count)
      : parts(std::move(of_ranks)), axis(split), rows(split == ShardAxis::kColumns ? row_count : 1) {}

  std::size_t size() const;  // of the whole
  // From the whole: into every rank's part.
  void fill(std::span<const std::byte> whole) const;

  std::vector<Part> parts;  // [N], not empty
  ShardAxis axis = ShardAxis::kNone;
  std::int64_t rows = 1;
};

// Reads wholes. Its buffers are used again from one to the next.
class RankedReader {
 public:
  // visit(piece) for all of the whole, in order.
  using Visit = std::function<void(std::span<const std::byte>)>;
  void read(const RankedBytes& bytes, const Visit& visit);

 private:
  void read_part(const RankedBytes::Part& part, const Visit& visit);
  void read_columns(const RankedBytes& bytes, const Visit& visit);

  std::map<const Device*, HostPieces> pieces_;
  std::vector<std::byte> part_rows_, whole_rows_;
};

}  // namespace puna
