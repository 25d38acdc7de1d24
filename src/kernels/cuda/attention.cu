// SPDX-License-Identifier: Apache-2.0
// Chooses the kernel, and plans the splits of those that need them. A step of some long and some short sequences takes two
// launches, each of which leaves the other's sequences alone: which one a sequence takes depends on its own rows only.
#include "kernels/cuda/cuda_kernels.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "kernels/cuda/attention_split.h"
#include "kernels/cuda/attention_work.h"

namespace puna::cuda {
namespace {

constexpr std::int64_t kLeastPages = 4;   // of a split: fewer, and a block's start and end take longer than its reading
constexpr std::int64_t kFewestPages = 2;  // of a split where processors would have nothing to do otherwise
constexpr std::int64_t kBlocksEach = 32;  // for each processor: enough for an even load

AttentionWork work_of(const KvLayer& layer, const KvBatch& batch, const AttentionQuery& query) {
  return {.q = query.q,
          .out = query.out,
          .stride = query.stride,
          .keys = layer.keys,
          .values = layer.values,
          .first_row = batch.first_row,
          .sequence_rows = batch.sequence_rows,
          .first_position = batch.first_position,
          .pages = batch.pages,
          .page_stride = batch.page_stride,
          .groups = static_cast<int>(layer.kv_heads),
          .shared = static_cast<int>(query.heads / layer.kv_heads),
          .width = static_cast<int>(layer.head_width),
          .scale = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(layer.head_width))),
          .rope_table = nullptr,
          .pairing = RopePairing::kHalves};
}

bool is_aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

bool suits_tensor_cores(const KvLayer& layer, const AttentionQuery& query) {
  return layer.format != Format::kF32 && (layer.head_width == 64 || layer.head_width == 128) && is_aligned(layer.keys) &&
         is_aligned(layer.values) && is_aligned(query.out);
}

void check_shapes(const KvLayer& layer, const KvBatch& batch, const AttentionQuery& query) {
  PUNA_CHECK(query.heads > 0 && query.heads % layer.kv_heads == 0, "attention", "{} query heads for {} key/value heads",
             query.heads, layer.kv_heads);
  PUNA_CHECK(batch.count < 65536, "attention", "{} sequences", batch.count);
}

}  // namespace

SplitPlan plan_splits(GpuContext& gpu, const KvBatch& batch, const AttentionWork& work, RowBounds bounds) {
  const std::int64_t packed = static_cast<std::int64_t>(bounds.most) * work.shared, tiles = (packed + kSplitRows - 1) / kSplitRows;
  const std::int64_t units = batch.count * work.groups * tiles, rows = std::min<std::int64_t>(packed, kSplitRows);
  const std::int64_t most_pages = std::max<std::int64_t>(1, (batch.most_positions + kPagePositions - 1) / kPagePositions);
  const std::int64_t bytes = units * rows * static_cast<std::int64_t>((work.width + 3) * sizeof(float));  // of one split
  const std::int64_t room = std::min<std::int64_t>(kMostSplits, static_cast<std::int64_t>(gpu.workspace_bytes) / bytes);
  const std::int64_t allowed = bounds.most <= kFewRows && units <= kCounters ? std::max<std::int64_t>(1, room) : 1;
  const auto splits_of = [&](std::int64_t pages) { return (most_pages + pages - 1) / pages; };
  std::int64_t pages = most_pages > kLeastPages ? kFewestPages : kLeastPages;
  if (units * splits_of(pages) > gpu.processors) pages = kLeastPages;
  while (splits_of(pages) > allowed) pages *= 2;
  const std::int64_t most = splits_of(pages);
  auto* const sums = static_cast<float*>(gpu.workspace);
  return {.bounds = bounds,
          .tiles = static_cast<int>(tiles),
          .most = static_cast<int>(most),
          .pages = static_cast<int>(pages),
          .slots = static_cast<int>(std::clamp<std::int64_t>(kBlocksEach * gpu.processors / units, 1, most)),
          .rows = static_cast<int>(rows),
          .is_wide = units * most <= 2 * gpu.processors,
          .sums = sums,
          .scales = reinterpret_cast<float2*>(sums + (units * most * rows * work.width + 1) / 2 * 2),
          .arrived = gpu.counters};
}

void attention_forward(Device& device, const KvLayer& layer, const KvBatch& batch, const AttentionQuery& query) {
  check_shapes(layer, batch, query);
  if (batch.count == 0 || batch.most_rows == 0) return;
  GpuContext& gpu = context_of(device);
  const AttentionWork work = work_of(layer, batch, query);
  const bool suits = suits_tensor_cores(layer, query);
  const int most = static_cast<int>(batch.most_rows), few = std::min(most, kFewRows);
  const bool has_many = most > kFewRows, may_have_few = !has_many || batch.count > 1;
  if (may_have_few) (suits ? attend_by_splits : attend_plainly)(gpu, layer, batch, work, {.above = 0, .most = few});
  if (has_many)
    (suits ? attend_by_tiles : attend_plainly)(gpu, layer, batch, work, {.above = may_have_few ? few : 0, .most = most});
}

void rope_store_and_attend(Device& device, const KvLayer& layer, const KvBatch& batch, const RopeStore& rows, float* out) {
  const AttentionQuery query{rows.qkv, rows.heads, rows.stride, out};
  const bool is_aligned_for_pairs = is_aligned(rows.qkv) && is_aligned(rows.rope_table) && rows.stride % 2 == 0;
  if (batch.most_rows > kFewRows || !suits_tensor_cores(layer, query) || !is_aligned_for_pairs) {
    RopeStore with_queries = rows;
    with_queries.with_queries = true;
    cuda::rope_and_store(device, layer, batch, with_queries);
    return cuda::attention_forward(device, layer, batch, query);
  }
  check_shapes(layer, batch, query);
  if (batch.count == 0 || batch.most_rows == 0) return;
  AttentionWork work = work_of(layer, batch, query);
  work.rope_table = rows.rope_table;
  work.pairing = rows.pairing;
  attend_by_splits(context_of(device), layer, batch, work, {.above = 0, .most = static_cast<int>(batch.most_rows)});
}

}  // namespace puna::cuda
