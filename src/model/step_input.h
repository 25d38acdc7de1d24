// SPDX-License-Identifier: Apache-2.0
// What one batch tells the network beside its weights: tokens, positions, which rows are wanted, how tokens are drawn of them, and
// where keys and values lie. On a GPU it is one array of whole numbers, copied at once to the same place for every batch, so that
// recorded steps find it there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "kernels/gpu.h"
#include "kernels/kv_pages.h"
#include "kernels/rows.h"
#include "kernels/shortlist.h"
#include "tensor/arena.h"
#include "text/token.h"

namespace puna {

class StepInput {
 public:
  explicit StepInput(const Device& device) : device_(device) {}

  // tokens [T]; wanted [R] rows; the sequences cover all rows, the runs the wanted ones. All but the tokens is read until the next
  // set(). wanted_before: rows that were wanted of the same batch's pieces before this one. draws: of all these rows, or none.
  void set(std::span<const Token> tokens, std::span<const std::int32_t> wanted, std::span<const BatchSequence> sequences,
           std::span<const BatchSequence> runs, std::int64_t wanted_before = 0, std::span<const RowDraw> draws = {});

  // The device's memory.
  std::span<const std::int32_t> tokens() const { return at(tokens_); }
  std::span<const std::int32_t> positions() const { return at(positions_); }
  std::span<const std::int32_t> wanted() const { return at(wanted_); }
  ArgMax likeliest() const {  // [wanted_before + R] room for what arg_max_rows() finds
    return {memory_ + likeliest_.first, reinterpret_cast<float*>(memory_ + likeliest_values_.first)};
  }
  const RowDraw* draws() const { return reinterpret_cast<const RowDraw*>(memory_ + draws_.first); }
  const KvBatch& batch() const { return batch_; }
  const KvBatch& wanted_batch() const { return wanted_batch_; }
  // Of 46 bits; equal for batches of one-row parts that have everything in the same places, and for no others.
  std::uint64_t shape() const;

  // At least; long contexts of many sequences take more when they come.
  static std::int64_t bytes(std::int64_t max_rows);

 private:
  struct Piece {
    std::size_t first = 0, count = 0;
  };
  Piece put(std::size_t count);
  std::span<const std::int32_t> at(const Piece& piece) const { return {memory_ + piece.first, piece.count}; }
  void make_room();
  struct Places {
    Piece first_row, rows, first_position, pages;
  };
  Places place(KvBatch& batch, std::int64_t page_stride);
  void resolve(KvBatch& batch, const Places& places) const;

  Device device_;
  Arena arena_;                     // of a GPU
  std::vector<std::int32_t> host_;  // the array, filled here first; on the CPU it is the array
  std::int32_t* memory_ = nullptr;
  std::size_t room_ = 0;
  Piece tokens_, positions_, row_sequence_, wanted_, likeliest_, likeliest_values_, draws_;
  Places places_, wanted_places_;
  KvBatch batch_, wanted_batch_;
};

// A GPU's numbers brought to pinned memory of the host, which grows to the largest that was asked for.
class HostCopies {
 public:
  explicit HostCopies(const Gpu& gpu) : gpu_(gpu) {}
  std::span<const float> logits(std::span<const float> on_gpu) { return logits_.copy(gpu_, on_gpu); }
  std::span<const float> states(std::span<const float> on_gpu) { return states_.copy(gpu_, on_gpu); }
  std::span<const Shortlist> shortlists(std::span<const Shortlist> on_gpu) { return shortlists_.copy(gpu_, on_gpu); }

 private:
  struct Pinned {
    std::shared_ptr<float> memory;
    std::size_t room = 0;  // bytes
    template <typename T>
    std::span<const T> copy(const Gpu& gpu, std::span<const T> on_gpu) {
      return {reinterpret_cast<const T*>(copy_bytes(gpu, std::as_bytes(on_gpu))), on_gpu.size()};
    }
    const std::byte* copy_bytes(const Gpu& gpu, std::span<const std::byte> on_gpu);
  };
  const Gpu& gpu_;
  Pinned logits_, states_, shortlists_;
};

}  // namespace puna
