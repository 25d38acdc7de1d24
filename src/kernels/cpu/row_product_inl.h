// SPDX-License-Identifier: Apache-2.0
// Products of a few rows with a tile that is in the cache: what attention is made of, forward and backward.
// Compiled once per instruction set: included inside each target's namespace.
#if defined(PUNA_ROW_PRODUCT_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_ROW_PRODUCT_INL
#undef PUNA_ROW_PRODUCT_INL
#else
#define PUNA_ROW_PRODUCT_INL
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {

// Accumulators of the products: 6 × 4 where there are 32 registers, else 6 × 2, and each vector of B is used 6 times.
constexpr int kRowBlock = 6;
constexpr int kColumnVectors = HWY_MAX_BYTES >= 64 || HWY_ARCH_ARM ? 4 : 2;

// C [rows, columns] = factor[row] C + A [rows, depth] B [depth, columns]; without factors, C = A B.
// A lies row by row, or turned (kTurned): [depth, rows].
struct RowProduct {
  const float* a;
  std::int64_t a_stride;
  const float* b;
  std::int64_t b_stride;
  std::int64_t depth;
  float* c;
  std::int64_t c_stride;
  const float* factors;
};

inline constexpr float kOnes[kRowBlock] = {1, 1, 1, 1, 1, 1};  // factors of C = C + A B

template <int kRows, int kVectors, bool kTurned>
HWY_INLINE void multiply_columns(const RowProduct& p, std::int64_t column) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<float, 16> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = p.factors == nullptr
                       ? hn::Zero(d)
                       : hn::Mul(hn::LoadU(d, p.c + r * p.c_stride + column + v * lanes), hn::Set(d, p.factors[r]));
    }
  }
  const float* b = p.b + column;
  for (std::int64_t k = 0; k < p.depth; ++k, b += p.b_stride) {
    V row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, b + v * lanes);
    for (int r = 0; r < kRows; ++r) {
      const V a = hn::Set(d, kTurned ? p.a[k * p.a_stride + r] : p.a[r * p.a_stride + k]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(a, row[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], d, p.c + r * p.c_stride + column + v * lanes);
  }
}

template <int kRows, bool kTurned>
void multiply_rows(const RowProduct& p, std::int64_t columns) {
  const auto lanes = static_cast<std::int64_t>(hwy::HWY_NAMESPACE::Lanes(hwy::HWY_NAMESPACE::CappedTag<float, 16>()));
  std::int64_t column = 0;
  for (; column + kColumnVectors * lanes <= columns; column += kColumnVectors * lanes) {
    multiply_columns<kRows, kColumnVectors, kTurned>(p, column);
  }
  for (; column + 2 * lanes <= columns; column += 2 * lanes) multiply_columns<kRows, 2, kTurned>(p, column);
  for (; column < columns; column += lanes) multiply_columns<kRows, 1, kTurned>(p, column);
}

// rows <= kRowBlock; columns is a multiple of the lanes.
template <bool kTurned = false>
void multiply(std::int64_t rows, const RowProduct& p, std::int64_t columns) {
  switch (rows) {
    case 1:
      return multiply_rows<1, kTurned>(p, columns);
    case 2:
      return multiply_rows<2, kTurned>(p, columns);
    case 3:
      return multiply_rows<3, kTurned>(p, columns);
    case 4:
      return multiply_rows<4, kTurned>(p, columns);
    case 5:
      return multiply_rows<5, kTurned>(p, columns);
    default:
      return multiply_rows<kRowBlock, kTurned>(p, columns);
  }
}

// Rows [first, last) in blocks of at most kRowBlock, as equal as can be.
template <class Body>
HWY_INLINE void by_row_blocks(std::int64_t first, std::int64_t last, const Body& body) {
  const std::int64_t count = last - first, blocks = (count + kRowBlock - 1) / kRowBlock;
  for (std::int64_t i = 0; i < blocks; ++i) body(first + count * i / blocks, first + count * (i + 1) / blocks);
}

}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#endif
