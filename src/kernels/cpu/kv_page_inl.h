// SPDX-License-Identifier: Apache-2.0
// Pages of keys and values as F32, once per instruction set (included again for every target, hence no #pragma once).
// F32 pages are read where they lie; F16 and Q8_0 are unpacked into the thread's scratch.
#if defined(PUNA_KERNELS_CPU_KV_PAGE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_KERNELS_CPU_KV_PAGE_INL_H_
#undef PUNA_KERNELS_CPU_KV_PAGE_INL_H_
#else
#define PUNA_KERNELS_CPU_KV_PAGE_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/online_softmax_inl.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {

// from [count] F16 -> to [count]
template <class D>
HWY_INLINE void unpack_f16(D d, const std::byte* from, std::int64_t count, float* to) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::Rebind<hwy::float16_t, D> narrow;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto* halves = reinterpret_cast<const hwy::float16_t*>(from);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::PromoteTo(d, hn::LoadU(narrow, halves + i)), d, to + i);
  for (; i < count; ++i) to[i] = f32_from_f16(halves[i].bits);
}

// lanes values of q as F32
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> integers(D d, const std::int8_t* q) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<std::int8_t, D> narrow;
  return hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(narrow, q)));
}

// blocks [E / 32] -> keys [E, kPagePositions]
template <class D>
HWY_INLINE void unpack_keys_q8_0(D d, const KeyBlockQ8_0* blocks, std::int64_t width, float* keys) {
  namespace hn = hwy::HWY_NAMESPACE;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN float scales[kPagePositions];
  for (std::int64_t e = 0; e < width; ++e, keys += kPagePositions) {
    const KeyBlockQ8_0& block = blocks[e / kBlock];
    if (e % kBlock == 0) unpack_f16(d, reinterpret_cast<const std::byte*>(block.d), kPagePositions, scales);
    for (std::int64_t s = 0; s < kPagePositions; s += lanes) {
      hn::Store(hn::Mul(integers(d, block.q[e % kBlock] + s), hn::Load(d, scales + s)), d, keys + s);
    }
  }
}

// blocks [count / 32] -> values [count]
template <class D>
HWY_INLINE void unpack_values_q8_0(D d, const BlockQ8_0* blocks, std::int64_t count, float* values) {
  namespace hn = hwy::HWY_NAMESPACE;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < count; i += kBlock, ++blocks) {
    const auto scale = hn::Set(d, f32_from_f16(blocks->d));
    for (std::int64_t j = 0; j < kBlock; j += lanes) hn::StoreU(hn::Mul(integers(d, blocks->q + j), scale), d, values + i + j);
  }
}

// values in `format`, [positions, E] -> to [positions, padded E]; what pads a row is not read by anyone, but must be finite.
template <class D>
HWY_INLINE void unpack_values(D d, Format format, const std::byte* from, std::int64_t positions, std::int64_t width,
                              std::int64_t padded, float* to) {
  if (format == Format::kQ8_0) return unpack_values_q8_0(d, reinterpret_cast<const BlockQ8_0*>(from), positions * width, to);
  if (format == Format::kF16 && padded == width) return unpack_f16(d, from, positions * width, to);
  const std::int64_t row_bytes = format_bytes(format, width);
  for (std::int64_t s = 0; s < positions; ++s, from += row_bytes, to += padded) {
    if (format == Format::kF16) {
      unpack_f16(d, from, width, to);
    } else {
      std::copy_n(reinterpret_cast<const float*>(from), width, to);
    }
    std::fill(to + width, to + padded, 0.0f);
  }
}

// Asks for a page's bytes ahead of time: pages of one head lie apart, so the processor does not foresee them.
inline void prefetch_page(const AttentionTile& tile, std::int64_t page) {
  const std::int64_t offset = tile.pages[static_cast<std::size_t>(page)] * tile.page_stride;
  const std::int64_t bytes = kv_page_bytes(tile.format, tile.head_width);
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(tile.keys + offset + i, 0, 2);
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(tile.values + offset + i, 0, 2);
}

// Page `page` of the tile's sequence, of which `positions` values are wanted.
template <class D>
HWY_INLINE KeyBlock unpack_page(D d, const AttentionTile& tile, AttentionScratch& scratch, std::int64_t page,
                                std::int64_t positions) {
  const std::int64_t width = tile.head_width, offset = tile.pages[static_cast<std::size_t>(page)] * tile.page_stride;
  const std::byte *keys = tile.keys + offset, *values = tile.values + offset;
  const bool in_place = tile.format == Format::kF32;
  const KeyBlock result = {in_place ? reinterpret_cast<const float*>(keys) : scratch.keys,
                           in_place && scratch.padded_width == width ? reinterpret_cast<const float*>(values) : scratch.values,
                           scratch.padded_width};
  if (tile.format == Format::kF16) unpack_f16(d, keys, width * kPagePositions, scratch.keys);
  if (tile.format == Format::kQ8_0) unpack_keys_q8_0(d, reinterpret_cast<const KeyBlockQ8_0*>(keys), width, scratch.keys);
  if (result.values == scratch.values)
    unpack_values(d, tile.format, values, positions, width, scratch.padded_width, scratch.values);
  return result;
}

}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#endif
