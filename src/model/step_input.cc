// SPDX-License-Identifier: Apache-2.0
#include "model/step_input.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/as_size.h"

namespace puna {
namespace {

std::int64_t positions_of(const BatchSequence& sequence) { return sequence.first_position + sequence.rows; }

std::int64_t most_positions(std::span<const BatchSequence> sequences) {
  std::int64_t most = 0;
  for (const BatchSequence& sequence : sequences) most = std::max(most, positions_of(sequence));
  return most;
}

std::int64_t most_rows(std::span<const BatchSequence> sequences) {
  std::int64_t most = 0;
  for (const BatchSequence& sequence : sequences) most = std::max(most, sequence.rows);
  return most;
}

}  // namespace

StepInput::Piece StepInput::put(std::size_t count) {
  const Piece piece{host_.size(), count};
  host_.resize(host_.size() + (count + 3) / 4 * 4);  // pieces begin at 16 bytes
  return piece;
}

void StepInput::set(std::span<const Token> tokens, std::span<const std::int32_t> wanted, std::span<const BatchSequence> sequences,
                    std::span<const BatchSequence> runs, std::int64_t wanted_before, std::span<const RowDraw> draws) {
  host_.clear();
  tokens_ = put(tokens.size());
  std::ranges::transform(tokens, host_.begin() + static_cast<std::ptrdiff_t>(tokens_.first), id);
  positions_ = put(tokens.size());
  row_sequence_ = put(tokens.size());
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const BatchSequence& sequence = sequences[i];
    for (std::int64_t r = 0; r < sequence.rows; ++r) {
      host_[positions_.first + as_size(sequence.first_row + r)] = static_cast<std::int32_t>(sequence.first_position + r);
      host_[row_sequence_.first + as_size(sequence.first_row + r)] = static_cast<std::int32_t>(i);
    }
  }
  wanted_ = put(wanted.size());
  std::ranges::copy(wanted, host_.begin() + static_cast<std::ptrdiff_t>(wanted_.first));
  likeliest_ = put(as_size(wanted_before) + wanted.size());
  likeliest_values_ = put(as_size(wanted_before) + wanted.size());
  draws_ = put(draws.size_bytes() / sizeof(std::int32_t));
  if (!draws.empty()) std::memcpy(host_.data() + draws_.first, draws.data(), draws.size_bytes());
  batch_ = {.sequences = sequences, .rows = static_cast<std::int64_t>(tokens.size())};
  wanted_batch_ = {.sequences = runs, .rows = batch_.rows};
  if (device_.gpu != nullptr) {
    // Rounded up, so that few kinds of step are recorded while sequences grow.
    const auto pages = static_cast<std::uint64_t>((most_positions(sequences) + kPagePositions - 1) / kPagePositions);
    const auto stride = static_cast<std::int64_t>(std::bit_ceil(std::max<std::uint64_t>(pages, 4)));
    places_ = place(batch_, stride);
    const bool same = std::ranges::equal(sequences, runs, [](const BatchSequence& a, const BatchSequence& b) {
      return a.first_row == b.first_row && a.rows == b.rows;  // every row is wanted
    });
    if (same) wanted_batch_ = batch_;
    wanted_places_ = same ? places_ : place(wanted_batch_, stride);
  }
  make_room();
  if (device_.gpu == nullptr) return;
  device_.copy_in(memory_, host_.data(), host_.size() * sizeof(std::int32_t));
  resolve(batch_, places_);
  resolve(wanted_batch_, wanted_places_);
}

// On the CPU the array is where it was filled.
void StepInput::make_room() {
  if (device_.gpu == nullptr) {
    memory_ = host_.data();
    return;
  }
  if (host_.size() <= room_) return;
  device_.gpu->forget_records();  // they read the array where it was
  room_ = std::bit_ceil(host_.size());
  arena_ = device_.arena(room_ * sizeof(std::int32_t), "the batch");
  memory_ = arena_.take<std::int32_t>(room_).data();
}

// The sequences of a batch as arrays, in the array.
StepInput::Places StepInput::place(KvBatch& batch, std::int64_t page_stride) {
  const std::size_t count = batch.sequences.size();
  batch.count = static_cast<std::int64_t>(count);
  batch.page_stride = page_stride;
  batch.most_rows = most_rows(batch.sequences);
  batch.most_positions = page_stride * kPagePositions;
  const Places places{put(count), put(count), put(count), put(count * as_size(page_stride))};
  for (std::size_t i = 0; i < count; ++i) {
    const BatchSequence& sequence = batch.sequences[i];
    host_[places.first_row.first + i] = static_cast<std::int32_t>(sequence.first_row);
    host_[places.rows.first + i] = static_cast<std::int32_t>(sequence.rows);
    host_[places.first_position.first + i] = static_cast<std::int32_t>(sequence.first_position);
    const auto pages = static_cast<std::ptrdiff_t>((positions_of(sequence) + kPagePositions - 1) / kPagePositions);
    std::copy_n(sequence.pages.begin(), pages,
                host_.begin() + static_cast<std::ptrdiff_t>(places.pages.first + i * as_size(page_stride)));
  }
  return places;
}

void StepInput::resolve(KvBatch& batch, const Places& places) const {
  batch.row_sequence = at(row_sequence_).data();
  batch.row_position = at(positions_).data();
  batch.first_row = at(places.first_row).data();
  batch.sequence_rows = at(places.rows).data();
  batch.first_position = at(places.first_position).data();
  batch.pages = at(places.pages).data();
}

std::uint64_t StepInput::shape() const {
  return static_cast<std::uint64_t>(batch_.rows) << 24 | static_cast<std::uint64_t>(batch_.page_stride);
}

std::int64_t StepInput::bytes(std::int64_t max_rows) {
  return max_rows * static_cast<std::int64_t>(6 * sizeof(std::int32_t) + sizeof(RowDraw));
}

const std::byte* HostCopies::Pinned::copy_bytes(const Gpu& gpu, std::span<const std::byte> on_gpu) {
  if (on_gpu.size() > room) {
    memory = gpu.pinned(on_gpu.size() / sizeof(float));
    room = on_gpu.size();
  }
  gpu.library().copy_out(gpu.context(), memory.get(), on_gpu.data(), on_gpu.size());
  return reinterpret_cast<const std::byte*>(memory.get());
}

}  // namespace puna
