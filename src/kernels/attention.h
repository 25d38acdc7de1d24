// SPDX-License-Identifier: Apache-2.0
// Causal grouped-query attention over a ragged batch and a paged cache of keys and values:
//   out[t, h] = sum_s softmax_s(q[t, h] · k[s, h / (H / G)] / sqrt(E)) v[s, h / (H / G)],   s <= position of t, same sequence
// The softmax runs online over pages (Milakov & Gimelshein, 2018; Dao, 2023), so the T × S score matrix is never built.
// Sums run in an order that depends only on the positions, not on threads or on the rest of the batch; on a GPU a sequence's
// positions are split among blocks by how many sequences there are, too.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "kernels/kv_pages.h"

namespace puna {

// q [T, H, E] (rows `stride` floats apart) -> out [T, H, E] (dense). The batch's own keys and values are in the cache already.
struct AttentionQuery {
  const float* q;
  std::int64_t heads, stride;  // H
  float* out;
};
void attention_forward(Device& device, const KvLayer& layer, const KvBatch& batch, const AttentionQuery& query);

// rope_and_store() (kernels/kv_pages.h) with queries, then attention of the same rows -> out [T, H, E]: one kernel on a GPU where
// every sequence has few rows.
void rope_store_and_attend(Device& device, const KvLayer& layer, const KvBatch& batch, const RopeStore& rows, float* out);

}  // namespace puna
