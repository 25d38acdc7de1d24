// SPDX-License-Identifier: Apache-2.0
// What the tests of the GPU share: the one GPU of the program, arrays in its memory, weights on both sides, and how far results are
// from a reference. Every test of this folder is skipped where there is no GPU.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/as_size.h"
#include "kernels/every_target.h"
#include "kernels/gpu.h"
#include "kernels/gradient_check.h"
#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace puna {

// Opened when the first test asks for it; closed before the program ends, as long as CUDA is still there.
class TheGpu : public testing::Environment {
 public:
  void TearDown() override { gpu_.reset(); }
  const std::shared_ptr<Gpu>& get() {
    if (gpu_ == nullptr && !find_gpus().gpus.empty()) gpu_ = std::make_shared<Gpu>();
    return gpu_;
  }

 private:
  std::shared_ptr<Gpu> gpu_;
};
inline TheGpu& the_gpu = *static_cast<TheGpu*>(testing::AddGlobalTestEnvironment(new TheGpu));

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (the_gpu.get() == nullptr) GTEST_SKIP() << "no GPU: " << find_gpus().why_none;
  }
  const std::shared_ptr<Gpu>& gpu() { return the_gpu.get(); }
  // A processor that plays a GPU runs the same kernels a thousand times slower: fewer shapes, and no large ones.
  bool is_emulated() { return gpu()->info().name.starts_with("Emulated"); }

  ThreadPool pool{2};
  Device cpu{pool};
  Device device{pool, the_gpu.get().get()};
};

// The precision of training's products and attention, for as long as this lives.
class GradientFormat {
 public:
  GradientFormat(const Gpu& gpu, Format format) : gpu_(gpu) { gpu_.library().set_gradient_format(gpu_.context(), format); }
  ~GradientFormat() { gpu_.library().set_gradient_format(gpu_.context(), Format::kF32); }
  GradientFormat(const GradientFormat&) = delete;
  GradientFormat& operator=(const GradientFormat&) = delete;

 private:
  const Gpu& gpu_;
};

// Numbers in the GPU's memory between guards, which read() checks. `shift` numbers more before them: for what is not aligned.
template <typename T>
class GpuArray {
 public:
  GpuArray(const Device& device, std::span<const T> values, std::size_t shift = 0) : GpuArray(device, values.size(), shift) {
    device_.copy_in(data(), values.data(), values.size_bytes());
  }
  GpuArray(const Device& device, const std::vector<T>& values, std::size_t shift = 0)
      : GpuArray(device, std::span<const T>(values), shift) {}
  // Poisoned: every bit is set, which is NaN in every float format and -1 in whole numbers.
  GpuArray(const Device& device, std::size_t count, std::size_t shift = 0)
      : device_(device), count_(count), before_(kGuard + shift * sizeof(T)) {
    const std::vector<std::byte> poison(before_ + count * sizeof(T) + kGuard, std::byte{0xff});
    arena_ = device.arena(poison.size(), "a test");
    memory_ = arena_.take(poison.size()).data();
    device.copy_in(memory_, poison.data(), poison.size());
  }

  T* data() const { return reinterpret_cast<T*>(memory_ + before_); }
  std::span<T> span() const { return {data(), count_}; }
  std::byte* bytes() const { return memory_ + before_; }

  std::vector<T> read() const {
    std::vector<std::byte> all(before_ + count_ * sizeof(T) + kGuard);
    device_.copy_out(all.data(), memory_, all.size());
    const auto behind = all.begin() + static_cast<std::ptrdiff_t>(before_ + count_ * sizeof(T));
    const auto is_poison = [](std::byte byte) { return byte == std::byte{0xff}; };
    EXPECT_TRUE(std::all_of(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(before_), is_poison))
        << "written before the array";
    EXPECT_TRUE(std::all_of(behind, all.end(), is_poison)) << "written behind the array";
    std::vector<T> values(count_);
    if (count_ > 0) std::memcpy(values.data(), all.data() + before_, count_ * sizeof(T));
    return values;
  }

 private:
  static constexpr std::size_t kGuard = 256;
  Device device_;
  std::size_t count_, before_;
  Arena arena_;
  std::byte* memory_;
};

inline bool is_float(Format format) { return info(format).block_values == 1; }

// Rounded as the format rounds.
inline Doubles to_format(const Doubles& values, Format format) {
  std::vector<float> narrow(values.begin(), values.end());
  std::vector<std::byte> bytes(as_size(format_bytes(format, static_cast<std::int64_t>(values.size()))));
  info(format).encode(narrow.data(), bytes.data(), static_cast<std::int64_t>(values.size()));
  info(format).decode(bytes.data(), narrow.data(), static_cast<std::int64_t>(values.size()));
  return as_doubles(narrow);
}

// A matrix [N, K] of a format and what it decodes to; F8E4M3 with row scales.
struct HostWeight {
  std::vector<std::byte> blocks;
  std::vector<float> values;  // [N, K]
  std::vector<float> row_scales;
  Tensor tensor;

  HostWeight(Format format, std::int64_t n, std::int64_t k, std::uint64_t stream)
      : blocks(as_size(format_bytes(format, n * k))), values(normal_values(n * k, stream, 0.1)) {
    info(format).encode(values.data(), blocks.data(), n * k);
    tensor = {"w", format, Shape{n, k}, blocks, {}};
    if (format == Format::kF8E4M3) {
      for (std::int64_t row = 0; row < n; ++row) row_scales.push_back(0.5f + static_cast<float>(row % 7));
      tensor.row_scales = std::as_bytes(std::span(row_scales));
    }
    for (std::int64_t row = 0; row < n; ++row) decode_row(tensor, row, values.data() + row * k);
  }
  HostWeight(const HostWeight&) = delete;
  HostWeight& operator=(const HostWeight&) = delete;
};

struct GpuWeight {
  Arena arena;
  Tensor tensor;

  GpuWeight(const Device& device, const Tensor& on_host)
      : arena(device.arena(device.gpu->library().weight_bytes(on_host), "a weight")),
        tensor(device.gpu->library().load_weight(device.gpu->context(), on_host,
                                                 arena.take(device.gpu->library().weight_bytes(on_host)).data())) {}
};

// |got - want| / |want| within the tolerance, and no number further off than eight times that share of the root mean square and
// once that share of itself: errors are spread evenly, and one wrong number among many shows.
inline void expect_close(const std::vector<float>& got, const Doubles& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double square = 0, largest = 0;  // beyond its own share
  std::size_t place = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    square += want[i] * want[i];
    const double error = std::abs(got[i] - want[i]) - tolerance * std::abs(want[i]);
    if (error <= largest) continue;  // NaN is not
    largest = error;
    place = i;
    if (std::isnan(error)) break;
  }
  if (want.empty()) return;
  const double spread = std::sqrt(square / static_cast<double>(want.size()));
  EXPECT_LE(relative_error(got, want), tolerance) << what;
  EXPECT_LE(largest, 8 * tolerance * spread + 1e-30)
      << what << ": " << got[place] << " instead of " << want[place] << " at " << place << " of " << want.size();
}

// The largest difference, in parts of the largest logit.
inline double farthest(std::span<const float> got, std::span<const float> want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    difference = std::max(difference, std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
    largest = std::max(largest, std::abs(static_cast<double>(want[i])));
  }
  return largest > 0 ? difference / largest : INFINITY;
}

}  // namespace puna
