// SPDX-License-Identifier: Apache-2.0
// The parts that the tensor-core kernels of packed attention are made of. A block owns a tile's rows in shared memory and walks
// through the rows it meets, kStageRows at a time, two stages in shared memory: one is read while the next one is copied. Every
// warp owns kTiles * 16 rows and multiplies them with all rows it meets, or with its share where several warps own the same rows.
// Its scores, and the sums over what it meets, stay in registers as mma.m16n8k16 leaves them: of a 16 × 8 tile, lane l has rows l /
// 4 and l / 4 + 8, columns l % 4 * 2 and the next.
#pragma once

#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/mma.h"
#include "kernels/cuda/packed_attention_plan.h"

namespace puna::cuda {

inline constexpr float kLog2E = 1.44269504088896341f;

// Rows that a tile meets next, all of one segment and one head.
struct Stage {
  int row, rows;  // of the batch
  int head;
  bool causal;
};

// The stages of a tile, head after head: the spans met in full, then the causal one.
template <int kStageRows>
class StageWalk {
 public:
  __device__ StageWalk(const PackedTile& tile, const RowSpan* spans, int first_head, int heads)
      : spans_(spans + tile.first_span),
        causal_(tile.causal),
        count_(tile.spans),
        head_(first_head),
        end_head_(first_head + heads) {
    left_ = span();
  }

  __device__ bool at_end() const { return head_ == end_head_; }
  __device__ Stage stage() const { return {left_.row, min(left_.rows, kStageRows), head_, at_ == count_}; }
  __device__ void advance() {
    left_.row += kStageRows;
    left_.rows -= kStageRows;
    if (left_.rows > 0) return;
    if (++at_ > count_) {
      at_ = 0;
      ++head_;
    }
    left_ = span();
  }

 private:
  __device__ RowSpan span() const { return at_ == count_ ? causal_ : spans_[at_]; }

  const RowSpan* spans_;
  RowSpan causal_;
  int count_;
  int head_, end_head_;
  int at_ = 0;
  RowSpan left_;
};

// What a warp's rows, from batch row `own` on, see of the columns from batch row `met` on, `columns` of which there are: a query
// sees its own row and those before it, if the span is causal, else all.
template <int kRows, int kColumns, bool kOwnsQueries>
struct Meeting {
  int own, met, columns;
  bool causal;

  __device__ bool none_visible() const {
    if (columns <= 0) return true;
    if (!causal) return false;
    return kOwnsQueries ? met > own + kRows - 1 : met + kColumns - 1 < own;
  }
  __device__ bool all_visible() const {
    if (columns < kColumns) return false;
    if (!causal) return true;
    return kOwnsQueries ? met + kColumns - 1 <= own : met >= own + kRows - 1;
  }
  __device__ bool visible(int row, int column) const {
    if (column >= columns) return false;
    if (!causal) return true;
    return kOwnsQueries ? met + column <= own + row : met + column >= own + row;
  }
};

// Where 16 bytes of a row of kWidth numbers lie in shared memory: eight rows' chunks of one column are in different banks.
template <int kWidth>
__device__ __forceinline__ int shared_at(int row, int chunk) {
  return row * kWidth + ((chunk ^ (row & 7)) << 3);
}

// Batch rows [row, row + count) of one head [T, kWidth] -> kRows rows of shared memory, zeros behind them: a copy that is not valid
// does not read its address.
template <int kWidth, int kRows, int kThreads>
__device__ __forceinline__ void copy_rows(__nv_bfloat16* to, const __nv_bfloat16* head, int row, int count) {
  constexpr int kChunks = kWidth / 8;
  static_assert(kRows * kChunks % kThreads == 0);
  const __nv_bfloat16* const from = head + std::int64_t{row} * kWidth;
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kThreads; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    const int r = at / kChunks, chunk = at % kChunks;
    copy_async_16(to + shared_at<kWidth>(r, chunk), from + at * 8, r < count);
  }
}

template <int kTiles, int kColumnTiles>
using WarpTile = float[kTiles][kColumnTiles][4];  // kTiles * 16 rows, kColumnTiles * 8 columns

template <int kTiles, int kColumnTiles>
__device__ __forceinline__ void clear(WarpTile<kTiles, kColumnTiles>& tile) {
#pragma unroll
  for (int r = 0; r < kTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) tile[r][n][i] = 0;
    }
  }
}

// Of a value in a warp's tile; `half`: 0 in the upper 8 rows of its 16, 1 in the lower ones.
struct Place {
  int row, column;
  int tile, half, column_tile, i;
};

// f(place, value) for all that this lane has.
template <int kTiles, int kColumnTiles, typename F>
__device__ __forceinline__ void for_each_value(WarpTile<kTiles, kColumnTiles>& values, const F& f) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int r = 0; r < kTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        f(Place{16 * r + i / 2 * 8 + lane / 4, 8 * n + lane % 4 * 2 + i % 2, r, i / 2, n, i}, values[r][n][i]);
      }
    }
  }
}

// A warp's own rows as the left operand of products: fragments(a, e) gives columns [16 e, 16 e + 16). They are read from the
// block's memory, [., kWidth], from the given place on, a multiple of 8 rows, each time ...
template <int kWidth, int kTiles>
struct SharedRows {
  const __nv_bfloat16* memory;
  int own;

  __device__ __forceinline__ void fragments(unsigned (&a)[kTiles][4], int e) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int at = own + shared_at<kWidth>(lane % 16, lane / 16);
#pragma unroll
    for (int r = 0; r < kTiles; ++r) load_matrix_x4(a[r], memory + (at ^ 16 * e) + 16 * r * kWidth);
  }
};

// ... or once, into registers.
template <int kWidth, int kTiles>
class HeldRows {
 public:
  __device__ __forceinline__ explicit HeldRows(const SharedRows<kWidth, kTiles>& rows) {
#pragma unroll
    for (int e = 0; e < kWidth / 16; ++e) rows.fragments(held_[e], e);
  }
  __device__ __forceinline__ void fragments(unsigned (&a)[kTiles][4], int e) const {
#pragma unroll
    for (int r = 0; r < kTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[r][i] = held_[e][r][i];
    }
  }

 private:
  unsigned held_[kWidth / 16][kTiles][4];
};

// A kernel holds its own rows where there are registers for them.
template <bool kHeld, int kWidth, int kTiles>
using OwnRows = std::conditional_t<kHeld, HeldRows<kWidth, kTiles>, SharedRows<kWidth, kTiles>>;

// scores = own rows · met rows, [., kWidth] in the block's memory from the given place on, a multiple of 8 rows.
template <int kWidth, int kTiles, int kColumnTiles, class Own>
__device__ __forceinline__ void multiply(WarpTile<kTiles, kColumnTiles>& scores, const Own& own, const __nv_bfloat16* memory,
                                         int met) {
  static_assert(kColumnTiles % 2 == 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int met_at = met + shared_at<kWidth>(lane / 16 * 8 + lane % 8, lane / 8 % 2);
  clear<kTiles, kColumnTiles>(scores);
#pragma unroll
  for (int e = 0; e < kWidth / 16; ++e) {
    unsigned a[kTiles][4];
    own.fragments(a, e);
#pragma unroll
    for (int n = 0; n < kColumnTiles; n += 2) {
      unsigned b[4];
      load_matrix_x4(b, memory + (met_at ^ 16 * e) + 8 * n * kWidth);
#pragma unroll
      for (int r = 0; r < kTiles; ++r) {
        mma_16x8x16(scores[r][n], a[r], {b[0], b[1]}, __nv_bfloat16{});
        mma_16x8x16(scores[r][n + 1], a[r], {b[2], b[3]}, __nv_bfloat16{});
      }
    }
  }
}

__device__ __forceinline__ unsigned rounded_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

// sums [., kWidth] += weights, rounded to BF16, times the met rows, [., kWidth] in the block's memory from the given place on.
template <int kWidth, int kTiles, int kColumnTiles>
__device__ __forceinline__ void accumulate(WarpTile<kTiles, kWidth / 8>& sums, const WarpTile<kTiles, kColumnTiles>& weights,
                                           const __nv_bfloat16* memory, int met) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int met_at = met + shared_at<kWidth>(lane % 16, lane / 16);
#pragma unroll
  for (int k = 0; k < kColumnTiles / 2; ++k) {
    unsigned a[kTiles][4];
#pragma unroll
    for (int r = 0; r < kTiles; ++r) {
      const float(&left)[4] = weights[r][2 * k];
      const float(&right)[4] = weights[r][2 * k + 1];
      a[r][0] = rounded_pair(left[0], left[1]);
      a[r][1] = rounded_pair(left[2], left[3]);
      a[r][2] = rounded_pair(right[0], right[1]);
      a[r][3] = rounded_pair(right[2], right[3]);
    }
#pragma unroll
    for (int n = 0; n < kWidth / 8; n += 2) {
      unsigned b[4];
      load_matrix_x4_trans(b, memory + (met_at ^ 8 * n) + 16 * k * kWidth);
#pragma unroll
      for (int r = 0; r < kTiles; ++r) {
        mma_16x8x16(sums[r][n], a[r], {b[0], b[1]}, __nv_bfloat16{});
        mma_16x8x16(sums[r][n + 1], a[r], {b[2], b[3]}, __nv_bfloat16{});
      }
    }
  }
}

// What is not visible gets no weight.
template <int kTiles, int kColumnTiles, bool kOwnsQueries>
__device__ __forceinline__ void hide(WarpTile<kTiles, kColumnTiles>& scores,
                                     const Meeting<16 * kTiles, 8 * kColumnTiles, kOwnsQueries>& meeting) {
  if (meeting.all_visible()) return;
  for_each_value<kTiles, kColumnTiles>(scores, [&](const Place& place, float& score) {
    if (!meeting.visible(place.row, place.column)) score = -INFINITY;
  });
}

}  // namespace puna::cuda
