// SPDX-License-Identifier: Apache-2.0
// What the attention kernels are asked for. Queries that share keys and values are packed: packed row p of a sequence with one
// key/value head g is head g R + p % R of its row p / R, R = H / G. So a page is read once for up to 16 or 128 packed rows.
#pragma once

#include <climits>
#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/kv_pages.h"

namespace puna::cuda {

// Sequences of no more rows than these are attended to by splits of their positions, the others by tiles of their rows.
inline constexpr int kFewRows = 8;

struct SequenceView {
  int first_row, rows, first_position;
  const std::int32_t* pages;
};

struct AttentionWork {
  const float* q;  // [T, H, E], rows `stride` floats apart
  float* out;      // [T, H, E]
  std::int64_t stride;
  std::byte* keys;                     // [pages, G, kPagePositions, E]
  std::byte* values;                   // the same
  const std::int32_t* first_row;       // [S]
  const std::int32_t* sequence_rows;   // [S]
  const std::int32_t* first_position;  // [S]
  const std::int32_t* pages;           // [S, page_stride]
  std::int64_t page_stride;
  int groups, shared, width;  // G, R, E
  float scale;                // log2(e) / sqrt(E): scores are exponents of 2
  // Where the rows' own keys and values are not in the pages yet: they lie behind the queries, which are not turned either.
  const float* rope_table;  // [T, E / 2, 2], or null
  RopePairing pairing;

  __device__ SequenceView sequence(int s) const {
    return {first_row[s], sequence_rows[s], first_position[s], pages + s * page_stride};
  }
  __device__ bool is_fused() const { return rope_table != nullptr; }
  // Positions of the sequence from here on are not in the pages.
  __device__ int stored_until(const SequenceView& sequence) const { return is_fused() ? sequence.first_position : INT_MAX; }
  // Of row t: its key with head g; its value lies G heads behind.
  __device__ const float* key(std::int64_t t, int g) const {
    return q + t * stride + static_cast<std::int64_t>(groups * shared + g) * width;
  }
  // Of packed row p of the sequence with head g: its query, its result and its position.
  __device__ const float* query(const SequenceView& sequence, int g, int p) const {
    return q + (sequence.first_row + p / shared) * stride + static_cast<std::int64_t>(g * shared + p % shared) * width;
  }
  __device__ float* result(const SequenceView& sequence, int g, int p) const {
    const std::int64_t t = sequence.first_row + p / shared;
    return out + ((t * groups + g) * shared + p % shared) * width;
  }
  __device__ int position(const SequenceView& sequence, int p) const { return sequence.first_position + p / shared; }
};

// The kernels' fronts. Each attends to the sequences of more than `above` and at most `most` rows, and leaves the others alone.
struct RowBounds {
  int above, most;
};
void attend_by_splits(GpuContext& gpu, const KvLayer& layer, const KvBatch& batch, const AttentionWork& work, RowBounds bounds);
void attend_by_tiles(GpuContext& gpu, const KvLayer& layer, const KvBatch& batch, const AttentionWork& work, RowBounds bounds);
void attend_plainly(GpuContext& gpu, const KvLayer& layer, const KvBatch& batch, const AttentionWork& work, RowBounds bounds);

}  // namespace puna::cuda
