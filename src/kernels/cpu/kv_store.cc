// SPDX-License-Identifier: Apache-2.0
// Writes keys and values into their pages through the format table's encoders, keys transposed. A head belongs to one thread.
#include "kernels/kv_pages.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/cpu/cpu_kernels.h"
#include "tensor/blocks.h"

namespace puna {
namespace {

constexpr std::int64_t kGrain = 8192;  // values worth waking a thread for

void check_layer(const KvLayer& layer, const char* where) {
  PUNA_CHECK(layer.format == Format::kF32 || layer.format == Format::kF16 || layer.format == Format::kQ8_0, where,
             "keys and values in {}, expected f32, f16 or q8_0", info(layer.format).name);
  PUNA_CHECK(layer.kv_heads > 0 && layer.head_width > 0 && layer.head_width % info(layer.format).block_values == 0, where,
             "{} heads of width {} in {}", layer.kv_heads, layer.head_width, info(layer.format).name);
}

void check_sequence(const BatchSequence& sequence, const char* where) {
  PUNA_CHECK(sequence.rows >= 0 && sequence.first_row >= 0 && sequence.first_position >= 0, where,
             "{} rows from row {}, position {}", sequence.rows, sequence.first_row, sequence.first_position);
  const std::int64_t room = static_cast<std::int64_t>(sequence.pages.size()) * kPagePositions;
  PUNA_CHECK(sequence.first_position + sequence.rows <= room, where, "positions up to {} in pages for {}",
             sequence.first_position + sequence.rows, room);
}

// Encodes rows of one head into its keys and values of one page: n positions from `slot` on.
class PageWriter {
 public:
  explicit PageWriter(const KvLayer& layer) : layer_(layer), row_bytes_(format_bytes(layer.format, layer.head_width)) {}

  void write(const float* k, const float* v, std::int64_t slot, std::byte* keys, std::byte* values) const {
    info(layer_.format).encode(v, values + slot * row_bytes_, layer_.head_width);
    switch (layer_.format) {
      case Format::kQ8_0:
        return write_key_q8_0(k, slot, reinterpret_cast<KeyBlockQ8_0*>(keys));
      case Format::kF16:
        return write_key<std::uint16_t>(k, slot, reinterpret_cast<std::uint16_t*>(keys));
      default:
        return write_key<float>(k, slot, reinterpret_cast<float*>(keys));
    }
  }

 private:
  static constexpr std::int64_t kPiece = 256;  // values encoded at a time

  // keys [E, kPagePositions]
  template <class T>
  void write_key(const float* k, std::int64_t slot, T* keys) const {
    T piece[kPiece];
    for (std::int64_t e = 0; e < layer_.head_width; e += kPiece) {
      const std::int64_t count = std::min(kPiece, layer_.head_width - e);
      info(layer_.format).encode(k + e, piece, count);
      for (std::int64_t i = 0; i < count; ++i) keys[(e + i) * kPagePositions + slot] = piece[i];
    }
  }

  // keys [E / 32]
  void write_key_q8_0(const float* k, std::int64_t slot, KeyBlockQ8_0* keys) const {
    for (std::int64_t e = 0; e < layer_.head_width; e += kBlock, ++keys) {
      BlockQ8_0 block;
      info(Format::kQ8_0).encode(k + e, &block, kBlock);
      keys->d[slot] = block.d;
      for (int i = 0; i < kBlock; ++i) keys->q[i][slot] = block.q[i];
    }
  }

  const KvLayer& layer_;
  std::int64_t row_bytes_;
};

}  // namespace

namespace cpu {

void check_kv(const KvLayer& layer, std::span<const BatchSequence> sequences, const char* where) {
  check_layer(layer, where);
  for (const BatchSequence& sequence : sequences) check_sequence(sequence, where);
}

void kv_store(Device& device, const KvLayer& layer, const KvBatch& batch, const KvRows& rows) {
  const std::span<const BatchSequence> sequences = batch.sequences;
  check_kv(layer, sequences, "kv_store");
  const std::int64_t page_bytes = kv_page_bytes(layer.format, layer.head_width);
  const PageWriter writer(layer);
  const auto some_heads = [&](std::int64_t begin, std::int64_t end, int) {
    for (const BatchSequence& sequence : sequences) {
      for (std::int64_t g = begin; g < end; ++g) {
        for (std::int64_t i = 0; i < sequence.rows; ++i) {
          const std::int64_t position = sequence.first_position + i,
                             from = (sequence.first_row + i) * rows.stride + g * layer.head_width;
          const std::int64_t page = sequence.pages[static_cast<std::size_t>(position / kPagePositions)];
          const std::int64_t to = (page * layer.kv_heads + g) * page_bytes;
          writer.write(rows.k + from, rows.v + from, position % kPagePositions, layer.keys + to, layer.values + to);
        }
      }
    }
  };
  std::int64_t count = 0;
  for (const BatchSequence& sequence : sequences) count += sequence.rows * layer.kv_heads * layer.head_width;
  if (count <= kGrain) return some_heads(0, layer.kv_heads, 0);
  device.pool.split(layer.kv_heads, 1, some_heads);
}

void rope_and_store(Device& device, const KvLayer& layer, const KvBatch& batch, const RopeStore& rows) {
  const std::int64_t width = layer.head_width, count = batch.rows;
  float* const k = rows.qkv + rows.heads * width;  // [T, G, E]
  cpu::rope_forward(device, {k, count, layer.kv_heads, width, rows.stride}, rows.rope_table, rows.pairing);
  if (rows.with_queries)
    cpu::rope_forward(device, {rows.qkv, count, rows.heads, width, rows.stride}, rows.rope_table, rows.pairing);
  cpu::kv_store(device, layer, batch, {k, k + layer.kv_heads * width, rows.stride});
}

}  // namespace cpu
}  // namespace puna
