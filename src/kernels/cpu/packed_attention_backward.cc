// SPDX-License-Identifier: Apache-2.0
// The gradients of packed attention (Dao, 2023, algorithm 2): for each block of 64 keys, the query blocks that see it, in order.
//   P = exp(S - lse),  dV += P^T dO,  dS = P (dO V^T - delta),  dQ += dS K / sqrt(E),  dK += dS^T Q / sqrt(E)
// A key block's dK and dV stay in the cache; dQ grows in its place, key block after key block.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/aligned_room.h"
#include "kernels/cpu/packed_attention_units.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/packed_attention_backward.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/by_vectors_inl.h"
#include "kernels/cpu/exp_inl.h"
#include "kernels/cpu/packed_rows_inl.h"
#include "kernels/cpu/row_product_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

constexpr std::int64_t kBlock = 64;  // keys, and queries, of a block

inline std::int64_t lanes() { return static_cast<std::int64_t>(hn::Lanes(D())); }
inline std::int64_t whole_vectors(std::int64_t count) { return (count + lanes() - 1) / lanes() * lanes(); }

// A thread's room for one key block and one query block.
struct Scratch {
  std::int64_t padded;   // E rounded up to whole vectors
  float* keys_turned;    // [E, kBlock] K^T / sqrt(E)
  float* values_turned;  // [E, kBlock] V^T
  float* keys;           // [kBlock, padded] K / sqrt(E)
  float *dk, *dv;        // [kBlock, padded]
  float *p, *ds;         // [kBlock, kBlock]
  float *q, *dout, *dq;  // [kBlock, padded], where rows are not whole vectors
};

Scratch& scratch_of(std::int64_t width) {
  thread_local AlignedRoom room;
  thread_local Scratch s;
  s.padded = whole_vectors(width);
  const std::int64_t turned = width * kBlock, rows = s.padded * kBlock, square = kBlock * kBlock;
  room.divide({{&s.keys_turned, turned},
               {&s.values_turned, turned},
               {&s.keys, rows},
               {&s.dk, rows},
               {&s.dv, rows},
               {&s.p, square},
               {&s.ds, square},
               {&s.q, rows},
               {&s.dout, rows},
               {&s.dq, rows}});
  return s;
}

// Up to kBlock rows of the batch from `row` on.
struct Block {
  std::int64_t row, count;
};

struct Meeting {
  Block queries, keys;
  std::int64_t offset;  // query i sees the keys up to i + offset: kBlock where all queries see all keys
  bool first;           // the first keys that these queries meet

  std::int64_t visible(std::int64_t query) const { return std::min(query + offset + 1, keys.count); }
  // The first query that sees the key.
  std::int64_t first_query(std::int64_t key) const { return std::clamp<std::int64_t>(key - offset, 0, queries.count); }
};

void load_keys(const PackedFamily& family, const Block& keys, Scratch& s) {
  const PackedRows& rows = *family.rows;
  const std::int64_t width = rows.head_width, at = keys.row * rows.stride + family.group * width;
  const V scale = hn::Set(D(), static_cast<float>(1.0 / std::sqrt(static_cast<double>(width))));
  for (std::int64_t r = 0; r < keys.count; ++r) {
    float* const to = s.keys + r * s.padded;
    const float* const from = rows.k + at + r * rows.stride;
    by_vectors(width, [&](std::int64_t e, auto part) { hn::Store(hn::Mul(part.load(from + e), scale), D(), to + e); });
  }
  if (keys.count < kBlock) {
    std::fill_n(s.keys_turned, width * kBlock, 0.0f);
    std::fill_n(s.values_turned, width * kBlock, 0.0f);
  }
  transpose(s.keys, s.padded, keys.count, width, s.keys_turned, kBlock);
  transpose(rows.v + at, rows.stride, keys.count, width, s.values_turned, kBlock);
  std::fill_n(s.dk, s.padded * kBlock, 0.0f);
  std::fill_n(s.dv, s.padded * kBlock, 0.0f);
}

void store_keys(const PackedFamily& family, const Block& keys, const Scratch& s) {
  const PackedAttentionGradient& gradient = *family.gradient;
  const std::int64_t width = family.rows->head_width;
  const V scale = hn::Set(D(), static_cast<float>(1.0 / std::sqrt(static_cast<double>(width))));
  for (std::int64_t r = 0; r < keys.count; ++r) {
    const std::int64_t at = (keys.row + r) * gradient.stride + family.group * width;
    by_vectors(width, [&](std::int64_t e, auto part) {
      part.store(hn::Mul(hn::Load(D(), s.dk + r * s.padded + e), scale), gradient.dk + at + e);
      part.store(hn::Load(D(), s.dv + r * s.padded + e), gradient.dv + at + e);
    });
  }
}

// Scores and products with dO of one query -> p and ds, in place; zero from `visible` on.
HWY_INLINE void soften(float* p, float* ds, std::int64_t visible, float log_sum_exp, float delta) {
  const D d;
  const V shift = hn::Set(d, log_sum_exp), deltas = hn::Set(d, delta);
  std::int64_t i = 0;
  for (; i < visible; i += lanes()) {
    const auto seen = hn::FirstN(d, static_cast<std::size_t>(visible - i));
    const V share = hn::IfThenElseZero(seen, exp_of_negative(d, hn::Sub(hn::Load(d, p + i), shift)));
    hn::Store(hn::Mul(share, hn::Sub(hn::Load(d, ds + i), deltas)), d, ds + i);
    hn::Store(share, d, p + i);
  }
  std::fill(p + i, p + kBlock, 0.0f);
  std::fill(ds + i, ds + kBlock, 0.0f);
}

// One query head's block of queries meets the block of keys.
void meet(const PackedFamily& family, const Meeting& meeting, std::int64_t head, Scratch& s) {
  const PackedRows& rows = *family.rows;
  const PackedAttentionGradient& gradient = *family.gradient;
  const std::int64_t width = rows.head_width, count = meeting.queries.count, first_row = meeting.queries.row;
  const RowView q = padded_rows({rows.q + first_row * rows.stride + head * width, rows.stride}, count, width, s.padded, s.q);
  const RowView dout =
      padded_rows({gradient.dout + (first_row * rows.heads + head) * width, rows.heads * width}, count, width, s.padded, s.dout);
  by_row_blocks(0, count, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t columns = whole_vectors(meeting.visible(end - 1)), at = begin * kBlock;
    multiply(end - begin, {q.values + begin * q.stride, q.stride, s.keys_turned, kBlock, width, s.p + at, kBlock, nullptr},
             columns);
    multiply(end - begin,
             {dout.values + begin * dout.stride, dout.stride, s.values_turned, kBlock, width, s.ds + at, kBlock, nullptr}, columns);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t place = (first_row + i) * rows.heads + head;
      soften(s.p + i * kBlock, s.ds + i * kBlock, meeting.visible(i), gradient.log_sum_exp[place], family.deltas[place]);
    }
  });
  by_row_blocks(0, meeting.keys.count, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t from = meeting.first_query(begin), at = from * kBlock + begin;
    multiply<true>(
        end - begin,
        {s.p + at, kBlock, dout.values + from * dout.stride, dout.stride, count - from, s.dv + begin * s.padded, s.padded, kOnes},
        s.padded);
    multiply<true>(
        end - begin,
        {s.ds + at, kBlock, q.values + from * q.stride, q.stride, count - from, s.dk + begin * s.padded, s.padded, kOnes},
        s.padded);
  });
  const bool in_place = s.padded == width;
  float* const place = gradient.dq + first_row * gradient.stride + head * width;
  float* const dq = in_place ? place : s.dq;
  const std::int64_t stride = in_place ? gradient.stride : s.padded;
  if (!in_place) padded_rows({place, gradient.stride}, count, width, s.padded, s.dq);
  by_row_blocks(0, count, [&](std::int64_t begin, std::int64_t end) {
    multiply(end - begin,
             {s.ds + begin * kBlock, kBlock, s.keys, s.padded, meeting.visible(end - 1), dq + begin * stride, stride,
              meeting.first ? nullptr : kOnes},
             s.padded);
  });
  if (in_place) return;
  for (std::int64_t i = 0; i < count; ++i) std::copy_n(s.dq + i * s.padded, width, place + i * gradient.stride);
}

void attend_family(const PackedFamily& family) {
  const std::int64_t shared = family.rows->heads / family.rows->kv_heads;
  Scratch& s = scratch_of(family.rows->head_width);
  const auto meet_heads = [&](const Meeting& meeting) {
    for (std::int64_t i = 0; i < shared; ++i) meet(family, meeting, family.group * shared + i, s);
  };
  for (const std::int32_t key_member : family.members) {
    const PackedSegment& key_segment = family.segments[static_cast<std::size_t>(key_member)];
    for (std::int64_t key = 0; key < key_segment.rows; key += kBlock) {
      const Block keys = {key_segment.first_row + key, std::min(kBlock, key_segment.rows - key)};
      load_keys(family, keys, s);
      for (const std::int32_t member : family.members) {
        const PackedSegment& segment = family.segments[static_cast<std::size_t>(member)];
        const bool own = member == key_member;
        if (!own && (segment.prefix_rows == 0 || segment.prefix_row != key_segment.first_row)) continue;
        for (std::int64_t query = own ? key : 0; query < segment.rows; query += kBlock) {
          meet_heads({{segment.first_row + query, std::min(kBlock, segment.rows - query)},
                      keys,
                      own ? query - key : kBlock,
                      key == 0 && (!own || segment.prefix_rows == 0)});
        }
      }
      store_keys(family, keys, s);
    }
  }
}

void deltas_of(const PackedRows& rows, const PackedAttentionGradient& gradient, std::int64_t begin, std::int64_t end,
               float* deltas) {
  for (std::int64_t i = begin * rows.heads; i < end * rows.heads; ++i) {
    V sum = hn::Zero(D());
    by_vectors(rows.head_width, [&](std::int64_t e, auto part) {
      const std::int64_t at = i * rows.head_width + e;
      sum = hn::MulAdd(part.load(gradient.dout + at), part.load(gradient.out + at), sum);
    });
    deltas[i] = hn::GetLane(hn::SumOfLanes(D(), sum));
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
HWY_EXPORT(attend_family);
HWY_EXPORT(deltas_of);

void attend_packed_family(const PackedFamily& family) { HWY_DYNAMIC_DISPATCH(attend_family)(family); }

void attention_deltas(const PackedRows& rows, const PackedAttentionGradient& gradient, std::int64_t begin, std::int64_t end,
                      float* deltas) {
  HWY_DYNAMIC_DISPATCH(deltas_of)(rows, gradient, begin, end, deltas);
}

}  // namespace puna
#endif
