// SPDX-License-Identifier: Apache-2.0
// Every row is in one sequence of one piece and every wanted row in one run, so the room for all pieces is known beforehand.
#include "model/placed_batch.h"

#include <algorithm>

#include "base/as_size.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/activations.h"

namespace puna {

PlacedBatches::PlacedBatches(std::int64_t max_rows, std::int64_t max_logit_rows) {
  sequences_.reserve(as_size(max_rows));
  wanted_.reserve(as_size(max_logit_rows));
  runs_.reserve(as_size(max_logit_rows));
  adapters_.reserve(as_size(max_rows));
}

void PlacedBatches::place(const Batch& batch, std::span<const BatchSequence> sequences, std::span<const RowAdapters> adapters,
                          int pieces) {
  pieces_.clear();
  sequences_.clear();
  runs_.clear();
  wanted_.clear();
  adapters_.clear();
  const std::span<const std::int32_t> wanted = batch.logit_rows;
  for (int piece = 0; piece < pieces; ++piece) {
    const auto [first, last] = ThreadPool::range_of(static_cast<std::int64_t>(batch.tokens.size()), kPanelRows, piece, pieces);
    const std::size_t wanted_before = wanted_.size();
    for (std::size_t w = wanted_before; w < wanted.size() && wanted[w] < last; ++w)
      wanted_.push_back(wanted[w] - static_cast<std::int32_t>(first));
    const std::span<const std::int32_t> own_wanted = std::span<const std::int32_t>(wanted_).subspan(wanted_before);
    const std::span<const BatchSequence> own_sequences = cut_sequences(sequences, first, last);
    pieces_.push_back({.tokens = batch.tokens.subspan(as_size(first), as_size(last - first)),
                       .wanted = own_wanted,
                       .sequences = own_sequences,
                       .runs = find_runs(own_sequences, own_wanted),
                       .adapters = {},
                       .all_states = batch.all_states,
                       .likeliest_only = batch.likeliest_only,
                       .rows_before = first,
                       .wanted_before = static_cast<std::int64_t>(wanted_before),
                       .last = piece + 1 == pieces,
                       .draws = piece + 1 == pieces ? batch.draws : std::span<const RowDraw>(),
                       .known_tokens = batch.known_tokens});
    pieces_.back().adapters = cut_adapters(adapters, pieces_.back());
  }
}

// What rows [first, last) of the batch hold of every sequence.
std::span<const BatchSequence> PlacedBatches::cut_sequences(std::span<const BatchSequence> whole, std::int64_t first,
                                                            std::int64_t last) {
  const std::size_t before = sequences_.size();
  for (const BatchSequence& sequence : whole) {
    const std::int64_t from = std::max(first, sequence.first_row), to = std::min(last, sequence.first_row + sequence.rows);
    if (from >= to) continue;
    sequences_.push_back({from - first, to - from, sequence.first_position + from - sequence.first_row, sequence.pages});
  }
  return std::span<const BatchSequence>(sequences_).subspan(before);
}

// What the piece has of the rows of each.
std::span<const RowAdapters> PlacedBatches::cut_adapters(std::span<const RowAdapters> whole, const PlacedBatch& piece) {
  const std::size_t before = adapters_.size();
  const auto rows = static_cast<std::int64_t>(piece.tokens.size()), wanted = static_cast<std::int64_t>(piece.wanted.size());
  for (const RowAdapters& adapted : whole) {
    const std::int64_t first = adapted.first - piece.rows_before, first_wanted = adapted.first_wanted - piece.wanted_before;
    const std::int64_t from = std::max<std::int64_t>(first, 0), to = std::min(first + adapted.rows, rows);
    if (from >= to) continue;
    const std::int64_t from_wanted = std::clamp<std::int64_t>(first_wanted, 0, wanted);
    const std::int64_t to_wanted = std::clamp<std::int64_t>(first_wanted + adapted.wanted, 0, wanted);
    adapters_.push_back({adapted.set, from, to - from, from_wanted, to_wanted - from_wanted});
  }
  return std::span<const RowAdapters>(adapters_).subspan(before);
}

// The wanted rows as runs of following positions of one sequence, at most one run per row.
std::span<const BatchSequence> PlacedBatches::find_runs(std::span<const BatchSequence> sequences,
                                                        std::span<const std::int32_t> wanted) {
  const std::size_t before = runs_.size();
  auto sequence = sequences.begin();
  for (const std::int32_t row : wanted) {
    while (row >= sequence->first_row + sequence->rows) ++sequence;
    const std::int64_t position = sequence->first_position + row - sequence->first_row;
    const bool follows = runs_.size() > before && runs_.back().first_row + runs_.back().rows == row && row != sequence->first_row;
    if (follows) {
      ++runs_.back().rows;
    } else {
      runs_.push_back({row, 1, position, sequence->pages});
    }
  }
  return std::span<const BatchSequence>(runs_).subspan(before);
}

}  // namespace puna
