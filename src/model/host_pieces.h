// SPDX-License-Identifier: Apache-2.0
// A device's memory as the host reads and fills it: on the CPU where it lies, on a GPU piece by piece through one pinned buffer, so
// that a model of any size needs no second copy.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>

#include "kernels/device.h"
#include "kernels/gpu.h"

namespace puna {

class HostPieces {
 public:
  static constexpr std::size_t kBytes = std::size_t{16} << 20;  // of a piece

  explicit HostPieces(const Device& device) : device_(device) {}

  // visit(piece) for all of the memory, in order.
  template <typename T, typename Visit>
  void read(std::span<T> memory, Visit&& visit) {
    if (device_.gpu == nullptr) return visit(std::span<const T>(memory));
    each(memory, 1, [&](std::span<T> on_device, std::span<std::remove_const_t<T>> piece) {
      device_.copy_out(piece.data(), on_device.data(), on_device.size_bytes());
      visit(std::span<const T>(piece));
    });
  }

  // produce(first, piece) fills numbers [first, first + piece's size); pieces are whole units.
  template <typename T, typename Produce>
  void fill(std::span<T> memory, std::size_t unit, Produce&& produce) {
    if (device_.gpu == nullptr) return produce(std::size_t{0}, memory);
    each(memory, unit, [&](std::span<T> on_device, std::span<T> piece) {
      produce(static_cast<std::size_t>(on_device.data() - memory.data()), piece);
      device_.copy_in(on_device.data(), piece.data(), piece.size_bytes());
    });
  }

 private:
  template <typename T, typename Step>
  void each(std::span<T> memory, std::size_t unit, Step&& step) {
    if (!pinned_) pinned_ = device_.gpu->pinned(kBytes / sizeof(float));
    auto* const buffer = reinterpret_cast<std::remove_const_t<T>*>(pinned_.get());
    const std::size_t most = kBytes / sizeof(T) / unit * unit;
    for (std::size_t first = 0; first < memory.size(); first += most) {
      const std::span<T> on_device = memory.subspan(first, std::min(most, memory.size() - first));
      step(on_device, std::span(buffer, on_device.size()));
    }
  }

  Device device_;
  std::shared_ptr<float> pinned_;  // made when the first piece comes
};

}  // namespace puna
