// SPDX-License-Identifier: Apache-2.0
// Attention at the shape of a 1B Llama (H 32, G 8, E 64). Prefill counts the multiplications and additions of Q K^T and P V that
// the causal mask leaves; decode counts the bytes of keys and values it reads. Arguments: format (0 F32, 1 F16, 2 Q8_0), first
// position, rows, threads.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "base/random.h"
#include "kernels/attention.h"
#include "kernels/softmax.h"
#include "tensor/arena.h"

namespace puna {
namespace {

constexpr std::int64_t kHeads = 32, kGroups = 8, kWidth = 64;
constexpr Format kFormats[] = {Format::kF32, Format::kF16, Format::kQ8_0};

std::vector<float> normal_values(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random_normal(1, 2, i));
  return values;
}

// One layer's cache, its pages in order, filled page by page with the same normal numbers.
struct Cache {
  Cache(Device& device, Format format, std::int64_t length)
      : pages(static_cast<std::size_t>((length + kPagePositions - 1) / kPagePositions)) {
    const auto bytes = pages.size() * static_cast<std::size_t>(kGroups * kv_page_bytes(format, kWidth));
    arena = Arena(2 * Arena::padded(bytes), "the benchmark");
    layer = {format, kGroups, kWidth, arena.take(bytes).data(), arena.take(bytes).data()};
    std::iota(pages.begin(), pages.end(), 0);
    const auto rows = normal_values(kPagePositions * kGroups * kWidth);
    for (std::size_t page = 0; page < pages.size(); ++page) {
      const BatchSequence batch[] = {{0, kPagePositions, static_cast<std::int64_t>(page) * kPagePositions, pages}};
      kv_store(device, layer, {batch}, {rows.data(), rows.data(), kGroups * kWidth});
    }
  }

  std::vector<std::int32_t> pages;
  Arena arena;
  KvLayer layer;
};

void attention(benchmark::State& state) {
  const Format format = kFormats[state.range(0)];
  const std::int64_t first = state.range(1), rows = state.range(2);
  ThreadPool pool(static_cast<int>(state.range(3)));
  Device device{pool};
  const Cache cache(device, format, first + rows);
  const auto q = normal_values(rows * kHeads * kWidth);
  std::vector<float> out(q.size());
  const BatchSequence batch[] = {{0, rows, first, cache.pages}};
  for (auto _ : state) attention_forward(device, cache.layer, {batch}, {q.data(), kHeads, kHeads * kWidth, out.data()});

  const double seen = static_cast<double>(rows) * (static_cast<double>(first) + static_cast<double>(rows + 1) / 2);
  const double bytes = 2.0 * static_cast<double>(format_bytes(format, (first + rows) * kGroups * kWidth));
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["flop/s"] = benchmark::Counter(4 * seen * kHeads * kWidth * iterations, benchmark::Counter::kIsRate);
  state.counters["kv bytes/s"] = benchmark::Counter(bytes * iterations, benchmark::Counter::kIsRate);
  state.SetLabel(std::string(info(format).name));
}

void prefill_cases(benchmark::internal::Benchmark* bench) {
  for (const int format : {0, 1, 2}) {
    for (const int first : {0, 3584, 15872}) {
      for (const int threads : {1, 2}) bench->Args({format, first, 512, threads});
    }
  }
}

void decode_cases(benchmark::internal::Benchmark* bench) {
  for (const int format : {0, 1, 2}) {
    for (const int first : {1023, 32767, 131071}) {
      for (const int threads : {1, 2}) bench->Args({format, first, 1, threads});
    }
  }
}

BENCHMARK(attention)->Name("prefill")->Apply(prefill_cases)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(attention)->Name("decode")->Apply(decode_cases)->UseRealTime()->Unit(benchmark::kMicrosecond);

void store(benchmark::State& state) {
  const Format format = kFormats[state.range(0)];
  const std::int64_t rows = state.range(1);
  ThreadPool pool(2);
  Device device{pool};
  const Cache cache(device, format, rows);
  const auto k = normal_values(rows * kGroups * kWidth);
  const BatchSequence batch[] = {{0, rows, 0, cache.pages}};
  for (auto _ : state) kv_store(device, cache.layer, {batch}, {k.data(), k.data(), kGroups * kWidth});
  state.SetLabel(std::string(info(format).name));
}
BENCHMARK(store)->ArgsProduct({{0, 1, 2}, {1, 512}})->UseRealTime()->Unit(benchmark::kMicrosecond);

void vocabulary_log_sum_exp(benchmark::State& state) {
  const auto logits = normal_values(128256);
  for (auto _ : state) benchmark::DoNotOptimize(log_sum_exp(logits));
}
BENCHMARK(vocabulary_log_sum_exp)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace puna

BENCHMARK_MAIN();
