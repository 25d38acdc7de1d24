// SPDX-License-Identifier: Apache-2.0
// The packed product on the CPU. Three nested blocks: kBlockColumns of B in the last cache, kBlockRows of A in the second, a panel
// of B in the first, and a tile of C in registers: kTileRows numbers of A are broadcast against kTileColumns of B for each k.
#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <memory>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/transpose_inl.h"
#include "kernels/cpu/weight_load_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna::HWY_NAMESPACE {
namespace {
using cpu::Depth;
using cpu::Gemm;
using cpu::GemmOperand;

// Sums of a tile, two vectors for each row, stay in registers: 32 of them on AVX-512 and NEON, 16 on AVX2 and SSE4, whose processors
// have half the second cache too.
// Products are summed from zero over a run of k before they join the sum over all K: rounding grows with the length of a run.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4
constexpr int kTileRows = 6;
constexpr std::int64_t kRun = 256;       // a panel of B takes 16 KiB
constexpr std::int64_t kBlockRows = 96;  // 96 KiB of A
#else
constexpr int kTileRows = 12;
constexpr std::int64_t kRun = 512;
constexpr std::int64_t kBlockRows = 240;  // 480 KiB of A
#endif
constexpr std::int64_t kLanes = hn::MaxLanes(F32());
constexpr std::int64_t kTileColumns = 2 * kLanes;

constexpr std::int64_t kBlockColumns = 1024;  // 1 or 2 MiB of B
static_assert(kBlockRows % kTileRows == 0 && kBlockColumns % kTileColumns == 0);

// Quantized formats are decoded from whole blocks: spans begin at multiples of this.
constexpr std::int64_t kDecodeSpan = 256;
static_assert(kRun % kDecodeSpan == 0 && kBlockColumns % kDecodeSpan == 0);

constexpr std::int64_t kDecodedRows = 4;  // rows of W, when they lie along K, that are decoded at a time

// A thread's room, made once.
struct PackBuffer {
  alignas(64) float a[kBlockRows * kRun];     // [rows / kTileRows, run, kTileRows]
  alignas(64) float b[kBlockColumns * kRun];  // [columns / kTileColumns, run, kTileColumns]
  alignas(64) float tile[kTileRows * kTileColumns];
  alignas(64) float decoded[std::max(kTileColumns * kDecodeSpan, kDecodedRows* kBlockColumns)];  // rows of W on their way
};

inline PackBuffer& pack_buffer() {
  thread_local const std::unique_ptr<PackBuffer> buffer = std::make_unique_for_overwrite<PackBuffer>();
  return *buffer;
}

// Where a block of an operand lies: `count` rows or columns of C from `first` on, k in [k, k + depth).
struct PackBlock {
  std::int64_t first, count, k, depth;
};

inline void decode_scaled(const Tensor& w, std::int64_t row, std::int64_t first, std::int64_t count, float* values) {
  decode_span(w, w.row(row), first, count, values);
  if (w.row_scales.empty()) return;
  const float scale = w.row_scale(row);
  for (std::int64_t i = 0; i < count; ++i) values[i] *= scale;
}

// Rows of `from` are k: they are copied piece by piece. to [count / kPanel, depth, kPanel], the last panel padded with zeros.
// A few panels together: whole cache lines are read, and few enough are written at a time that they stay in the first cache
// although they lie a power of two apart.
template <std::int64_t kPanel>
void copy_panels(const float* from, std::int64_t stride, std::int64_t count, std::int64_t depth, std::int64_t panel_stride,
                 float* to) {
  constexpr std::int64_t kTogether = 8;
  const std::int64_t whole = count / kPanel;
  for (std::int64_t first = 0; first < whole; first += kTogether) {
    const std::int64_t last = std::min(first + kTogether, whole);
    for (std::int64_t k = 0; k < depth; ++k) {
      for (std::int64_t p = first; p < last; ++p)
        std::copy_n(from + k * stride + p * kPanel, kPanel, to + p * panel_stride + k * kPanel);
    }
  }
  const std::int64_t rest = count - whole * kPanel;
  if (rest == 0) return;
  for (std::int64_t k = 0; k < depth; ++k) {
    float* const place = to + whole * panel_stride + k * kPanel;
    std::copy_n(from + k * stride + whole * kPanel, rest, place);
    std::fill(place + rest, place + kPanel, 0.0f);
  }
}

template <std::int64_t kPanel>
void pack_along_rows(const GemmOperand& operand, const PackBlock& block, float* decoded, float* to) {
  if (operand.values != nullptr) {
    return copy_panels<kPanel>(operand.values + block.k * operand.stride + block.first, operand.stride, block.count, block.depth,
                               block.depth * kPanel, to);
  }
  for (std::int64_t k = 0; k < block.depth; k += kDecodedRows) {
    const std::int64_t rows = std::min(kDecodedRows, block.depth - k);
    for (std::int64_t r = 0; r < rows; ++r) {
      decode_scaled(*operand.weight, block.k + k + r, block.first, block.count, decoded + r * kBlockColumns);
    }
    copy_panels<kPanel>(decoded, kBlockColumns, block.count, rows, block.depth * kPanel, to + k * kPanel);
  }
}

// Values [k, k + count) of rows [first, first + rows) are asked for: their rows lie so far apart that the processor does not guess
// what comes next.
inline void ask_for(const GemmOperand& operand, std::int64_t first, std::int64_t rows, std::int64_t k, std::int64_t count) {
  const Format format = operand.weight != nullptr ? operand.weight->format : Format::kF32;
  const std::int64_t begin = format_bytes(format, k), end = format_bytes(format, k + count);
  for (std::int64_t r = first; r < first + rows; ++r) {
    const std::byte* const row =
        operand.weight != nullptr ? operand.weight->row(r) : reinterpret_cast<const std::byte*>(operand.values + r * operand.stride);
    for (std::int64_t line = begin; line < end; line += 64) __builtin_prefetch(row + line, 0, 3);
  }
}

// Rows of the operand are rows or columns of C: they are turned, piece by piece, so that what is read and the lines that are
// written stay in the first cache until all rows have been there.
template <std::int64_t kPanel>
void pack_within_rows(const GemmOperand& operand, const PackBlock& block, float* decoded, float* to) {
  const bool in_blocks = operand.weight != nullptr && info(operand.weight->format).block_values > 1;
  const std::int64_t piece = in_blocks ? kDecodeSpan : 64;
  for (std::int64_t i = 0; i < block.count; i += kPanel, to += block.depth * kPanel) {
    const std::int64_t rows = std::min(kPanel, block.count - i), first = block.first + i;
    if (rows < kPanel) std::fill_n(to, block.depth * kPanel, 0.0f);
    for (std::int64_t k = 0; k < block.depth; k += piece) {
      const std::int64_t count = std::min(piece, block.depth - k), after = k + count;
      if (after < block.depth) {
        ask_for(operand, first, rows, block.k + after, std::min(piece, block.depth - after));
      } else {
        ask_for(operand, first + rows, std::min(kPanel, block.count - i - rows), block.k, std::min(piece, block.depth));
      }
      float* const place = to + k * kPanel;
      if (operand.values != nullptr) {
        transpose(operand.values + first * operand.stride + block.k + k, operand.stride, rows, count, place, kPanel);
        continue;
      }
      for (std::int64_t r = 0; r < rows; ++r) decode_scaled(*operand.weight, first + r, block.k + k, count, decoded + r * piece);
      transpose(decoded, piece, rows, count, place, kPanel);
    }
  }
}

template <std::int64_t kPanel>
void pack(const GemmOperand& operand, const PackBlock& block, float* decoded, float* to) {
  (operand.depth == Depth::kAlongRows ? pack_along_rows<kPanel> : pack_within_rows<kPanel>)(operand, block, decoded, to);
}

// c [kRows, kTileColumns] = a [depth, kTileRows]^T b [depth, kTileColumns] (+ c)
template <int kRows>
void multiply_tile(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, std::int64_t depth, float* HWY_RESTRICT c,
                   std::int64_t stride, bool add) {
  const F32 d;
  VecF32 sums[kRows][2];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = hn::Zero(d);
  for (int r = 0; r < kRows; ++r) {
    __builtin_prefetch(c + r * stride, 1, 3);
    __builtin_prefetch(c + r * stride + kTileColumns - 1, 1, 3);
  }
  for (std::int64_t k = 0; k < depth; ++k, a += kTileRows, b += kTileColumns) {
    const auto b0 = hn::Load(d, b), b1 = hn::Load(d, b + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const auto one = hn::Set(d, a[r]);
      sums[r][0] = hn::MulAdd(one, b0, sums[r][0]);
      sums[r][1] = hn::MulAdd(one, b1, sums[r][1]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 2; ++v) {
      float* const place = c + r * stride + v * kLanes;
      hn::StoreU(add ? hn::Add(hn::LoadU(d, place), sums[r][v]) : sums[r][v], d, place);
    }
  }
}

using MultiplyTile = void (*)(const float*, const float*, std::int64_t, float*, std::int64_t, bool);

// The smallest kernel that has `rows` rows; the panel of A is padded for it.
inline MultiplyTile multiply_tile_of(std::int64_t rows) {
  if (rows <= 2) return multiply_tile<2>;
  if (rows <= 4) return multiply_tile<4>;
  if (rows <= kTileRows - 4) return multiply_tile<(kTileRows > 8 ? kTileRows - 4 : kTileRows)>;
  return multiply_tile<kTileRows>;
}

// One tile of C [rows, columns], at the edges by way of a whole one.
HWY_INLINE void compute_tile(const float* a, const float* b, std::int64_t depth, std::int64_t rows, std::int64_t columns, float* c,
                             std::int64_t stride, bool add, float* whole) {
  if (rows == kTileRows && columns == kTileColumns) return multiply_tile<kTileRows>(a, b, depth, c, stride, add);
  multiply_tile_of(rows)(a, b, depth, whole, kTileColumns, false);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < columns; ++i) {
      const float sum = whole[r * kTileColumns + i];
      c[r * stride + i] = add ? c[r * stride + i] + sum : sum;
    }
  }
}

// The block of C that a packed block of A and one of B make, `depth` k's of it.
void multiply_block(const Gemm& g, const PackBlock& rows, const PackBlock& columns, bool add, PackBuffer& buffer) {
  for (std::int64_t j = 0; j < columns.count; j += kTileColumns) {
    const float* const b = buffer.b + j * columns.depth;
    for (std::int64_t i = 0; i < rows.count; i += kTileRows) {
      compute_tile(buffer.a + i * rows.depth, b, rows.depth, std::min<std::int64_t>(kTileRows, rows.count - i),
                   std::min(kTileColumns, columns.count - j), g.c + (rows.first + i) * g.stride + columns.first + j, g.stride, add,
                   buffer.tile);
    }
  }
}

// Few rows: A is packed once for each run of k, and blocks of B are so small that they stay in the second cache beside it.
void multiply_few_rows(const Gemm& g, const cpu::GemmRange& range, PackBuffer& buffer) {
  for (std::int64_t k = 0; k < g.depth; k += kRun) {
    const std::int64_t depth = std::min(kRun, g.depth - k);
    const PackBlock rows{range.row_begin, range.row_end - range.row_begin, k, depth};
    pack<kTileRows>(g.a, rows, buffer.decoded, buffer.a);
    for (std::int64_t j = range.column_begin; j < range.column_end; j += kDecodeSpan) {
      const PackBlock columns{j, std::min(kDecodeSpan, range.column_end - j), k, depth};
      pack<kTileColumns>(g.b, columns, buffer.decoded, buffer.b);
      multiply_block(g, rows, columns, g.add || k > 0, buffer);
    }
  }
}

void multiply_range(const Gemm& g, const cpu::GemmRange& range) {
  PackBuffer& buffer = pack_buffer();
  if (range.row_end - range.row_begin <= kBlockRows) return multiply_few_rows(g, range, buffer);
  for (std::int64_t j = range.column_begin; j < range.column_end; j += kBlockColumns) {
    for (std::int64_t k = 0; k < g.depth; k += kRun) {
      const std::int64_t depth = std::min(kRun, g.depth - k);
      const PackBlock columns{j, std::min(kBlockColumns, range.column_end - j), k, depth};
      pack<kTileColumns>(g.b, columns, buffer.decoded, buffer.b);
      for (std::int64_t i = range.row_begin; i < range.row_end; i += kBlockRows) {
        const PackBlock rows{i, std::min(kBlockRows, range.row_end - i), k, depth};
        pack<kTileRows>(g.a, rows, buffer.decoded, buffer.a);
        multiply_block(g, rows, columns, g.add || k > 0, buffer);
      }
    }
  }
}

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna::cpu {
namespace {

HWY_EXPORT(multiply_range);

constexpr std::int64_t kGrain = 1 << 19;  // multiplications worth waking a thread for
constexpr std::int64_t kRowGrain = 12;    // every instruction set's tiles divide these
constexpr std::int64_t kColumnGrain = 32;
constexpr std::int64_t kDecodedColumnGrain = 256;  // blocks of quantized formats stay whole
constexpr double kPackCost = 16;                   // of a number, in multiplications of a whole run

// Threads as a grid over C.
struct Grid {
  int rows, columns;
};

// Every thread packs its rows of A and its columns of B: the grid for which these are fewest, and the largest part smallest.
Grid grid_of(const Gemm& g, int threads, std::int64_t column_grain) {
  const auto part = [](std::int64_t count, std::int64_t grain, int parts) {
    return (((count + grain - 1) / grain + parts - 1) / parts) * grain;
  };
  Grid best{1, threads};
  double least = 0;
  for (int down = 1; down <= threads; ++down) {
    if (threads % down != 0) continue;
    const auto rows = static_cast<double>(part(g.rows, kRowGrain, down));
    const auto columns = static_cast<double>(part(g.columns, column_grain, threads / down));
    const double cost = rows * columns + kPackCost * (rows + columns);
    if (down > 1 && cost >= least) continue;
    least = cost;
    best = {down, threads / down};
  }
  return best;
}

}  // namespace

void gemm(Device& device, const Gemm& g) {
  if (g.rows == 0 || g.columns == 0) return;
  if (g.depth == 0) {
    for (std::int64_t r = 0; r < g.rows && !g.add; ++r) std::fill_n(g.c + r * g.stride, g.columns, 0.0f);
    return;
  }
  const auto kernel = HWY_DYNAMIC_DISPATCH(multiply_range);
  if (g.rows * g.columns * g.depth <= kGrain) return kernel(g, {0, g.rows, 0, g.columns});
  const bool decoded = g.b.weight != nullptr && g.b.depth == Depth::kAlongRows;
  const std::int64_t column_grain = decoded ? kDecodedColumnGrain : kColumnGrain;
  const Grid grid = grid_of(g, device.pool.size(), column_grain);
  device.pool.run([&](int thread) {
    const auto [row_begin, row_end] = ThreadPool::range_of(g.rows, kRowGrain, thread / grid.columns, grid.rows);
    const auto [column_begin, column_end] = ThreadPool::range_of(g.columns, column_grain, thread % grid.columns, grid.columns);
    if (row_begin < row_end && column_begin < column_end) kernel(g, {row_begin, row_end, column_begin, column_end});
  });
}

}  // namespace puna::cpu
#endif
