// SPDX-License-Identifier: Apache-2.0
// Examples become packed batches: ragged rows without padding, one segment for each document or part of one, and for preferences a
// segment for the prompt and one for each answer with the prompt as its prefix (kernels/packed_attention.h), or one for all of them
// (Example::one_row).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "train/batch.h"
#include "train/data/example.h"

namespace puna {

// Rows [first, first + rows) of an example. With answers it is always the whole.
struct Slice {
  std::shared_ptr<const Example> example;
  std::int64_t first = 0, rows = 0;
};

// What stays together in a batch: an example, or a full sequence of documents.
struct Unit {
  std::vector<Slice> slices;
  std::int64_t rows = 0;

  void add(Slice slice) {
    rows += slice.rows;
    slices.push_back(std::move(slice));
  }
};

// Each unit goes, longest first, into the fullest batch with room for it (best fit decreasing); units of more than batch_tokens
// get a batch of their own, and so does every unit where `pack` is false. Units keep their order within a batch, and batches are
// ordered by their first unit.
StepBatches pack_units(std::span<const Unit> units, std::int64_t batch_tokens, bool pack);

}  // namespace puna
