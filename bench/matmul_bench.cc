// SPDX-License-Identifier: Apache-2.0
// Products of one row (decode: bytes of weights per second, against the memory's), of eight (batch) and of 512 (prefill: operations
// per second) with matrices of Llama's 1B shape, on two threads. `matmul_bench --benchmark_filter=prefill/q4_k`.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/random.h"
#include "kernels/matmul.h"

namespace puna {
namespace {

constexpr std::int64_t kWidth = 2048, kRows = 8192;
constexpr std::size_t kBeyondCaches = std::size_t{512} << 20;

// Copies of one matrix, together larger than any cache.
struct Matrices {
  std::vector<std::byte> bytes;
  std::vector<Tensor> tensors;

  explicit Matrices(Format format) {
    std::vector<float> row(kWidth);
    const auto size = static_cast<std::size_t>(format_bytes(format, kWidth * kRows)), row_size = size / kRows;
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(0.02 * random_normal(1, 0, i));
    bytes.resize(std::max(size, kBeyondCaches / size * size));
    info(format).encode(row.data(), bytes.data(), kWidth);
    for (std::size_t at = row_size; at < bytes.size(); at += row_size)
      std::copy_n(bytes.begin(), row_size, bytes.begin() + static_cast<std::ptrdiff_t>(at));
    for (std::size_t at = 0; at < bytes.size(); at += size) {
      tensors.push_back({"w", format, Shape{kRows, kWidth}, std::span(bytes).subspan(at, size), {}});
    }
  }
};

void multiply(benchmark::State& state, Format format, std::int64_t rows) {
  const Matrices matrices(format);
  ThreadPool pool(2);
  Device device{pool};
  ActivationBuffer buffer(rows, kWidth);
  std::vector<float> x(static_cast<std::size_t>(rows * kWidth)), y(static_cast<std::size_t>(rows * kRows));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random_normal(2, 0, i));
  std::size_t next = 0;
  for (auto _ : state) {
    Activations activations = buffer.prepare(x.data(), rows, kWidth);
    const Product product{&matrices.tensors[next++ % matrices.tensors.size()], y.data(), kRows};
    matmul_forward(device, activations, {&product, 1});
    benchmark::DoNotOptimize(y.data());
  }
  const auto runs = static_cast<double>(state.iterations());
  state.counters["weights"] =
      benchmark::Counter(runs * static_cast<double>(format_bytes(format, kWidth * kRows)), benchmark::Counter::kIsRate);
  state.counters["operations"] =
      benchmark::Counter(runs * 2.0 * static_cast<double>(rows * kWidth * kRows), benchmark::Counter::kIsRate);
}

}  // namespace
}  // namespace puna

int main(int argc, char** argv) {
  for (const puna::FormatInfo& format : puna::formats()) {
    const auto add = [&](const std::string& name, std::int64_t rows) {
      benchmark::RegisterBenchmark((name + "/" + std::string(format.name)).c_str(), [&format, rows](benchmark::State& state) {
        puna::multiply(state, format.format, rows);
      })->UseRealTime();
    };
    add("decode", 1);
    add("batch", 8);
    add("prefill", 512);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
