// SPDX-License-Identifier: Apache-2.0
// A batch in its places: what the network reads of it, and in which pages it lies. It goes through the network whole, or through
// the stages of one (model/stages.h) in pieces behind each other, so that a stage works on a piece while the one before it works
// on the next.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kv_pages.h"
#include "model/adapters.h"
#include "model/ragged_batch.h"

namespace puna {

// Adapters of all layers and the rows that have them: of the batch, and among the wanted rows.
struct RowAdapters {
  const AdapterSet* set;
  std::int64_t first, rows, first_wanted, wanted;
};

// A batch or a piece of one; rows are numbered from its first.
struct PlacedBatch {
  std::span<const Token> tokens;             // [T]
  std::span<const std::int32_t> wanted;      // [R] rows
  std::span<const BatchSequence> sequences;  // that cover all rows
  std::span<const BatchSequence> runs;       // of wanted rows that follow each other
  std::span<const RowAdapters> adapters;     // rows, and places among `wanted`
  bool all_states, likeliest_only;           // as in Batch
  std::int64_t rows_before, wanted_before;   // rows and wanted rows of the pieces before it
  bool last;                                 // piece
  std::span<const RowDraw> draws;            // in the last piece: as in Batch, of all pieces
  std::int64_t known_tokens;                 // as in Batch
};

class PlacedBatches {
 public:
  // For batches of so many rows and wanted rows at most.
  PlacedBatches(std::int64_t max_rows, std::int64_t max_logit_rows);

  // `sequences` has one entry for each part. Pieces have about as many rows each. All but what is computed here is read until the
  // next place().
  void place(const Batch& batch, std::span<const BatchSequence> sequences, std::span<const RowAdapters> adapters, int pieces);
  std::span<const PlacedBatch> pieces() const { return pieces_; }

 private:
  std::span<const BatchSequence> cut_sequences(std::span<const BatchSequence> whole, std::int64_t first, std::int64_t last);
  std::span<const RowAdapters> cut_adapters(std::span<const RowAdapters> whole, const PlacedBatch& piece);
  std::span<const BatchSequence> find_runs(std::span<const BatchSequence> sequences, std::span<const std::int32_t> wanted);

  std::vector<PlacedBatch> pieces_;
  std::vector<std::int32_t> wanted_;             // [R] of all pieces
  std::vector<BatchSequence> sequences_, runs_;  // the same
  std::vector<RowAdapters> adapters_;            // the same
};

}  // namespace puna
