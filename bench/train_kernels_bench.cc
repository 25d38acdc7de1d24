// SPDX-License-Identifier: Apache-2.0
// What a training step is made of, on one and two threads: the three products of a linear layer (operations per second; OpenBLAS's
// sgemm beside them where it was found), attention forward and backward, and the operations that are bound by memory (bytes per
// second). `train_kernels_bench --benchmark_filter=forward`.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "kernels/adamw.h"
#include "kernels/cross_entropy.h"
#include "kernels/matmul.h"
#include "kernels/packed_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/swiglu.h"

#if PUNA_BENCH_OPENBLAS
#include <cblas.h>
#endif

namespace puna {
namespace {

// Normal numbers, again and again: making them costs more than multiplying them.
std::vector<float> values(std::int64_t count, std::uint64_t stream, double spread = 1) {
  constexpr std::size_t kPeriod = 4093;
  std::vector<float> result(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = i < kPeriod ? static_cast<float>(spread * random_normal(3, stream, i)) : result[i - kPeriod];
  }
  return result;
}

void report(benchmark::State& state, const char* what, double each) {
  state.counters[what] = benchmark::Counter(static_cast<double>(state.iterations()) * each, benchmark::Counter::kIsRate);
}

// A linear layer: X [T, K], W and dW [N, K], Y and dY [T, N], dX [T, K].
struct Layer {
  std::int64_t t, n, k;
  std::vector<float> x, w, y, dx, dw;
  Tensor weight;

  Layer(std::int64_t rows, std::int64_t outputs, std::int64_t inputs) : t(rows), n(outputs), k(inputs) {
    x = values(t * k, 1);
    w = values(n * k, 2, 0.02);
    y = values(t * n, 3);
    dx.resize(x.size());
    dw.resize(w.size());
    weight = {"w", Format::kF32, Shape{n, k}, std::as_bytes(std::span(w)), {}};
  }
  double operations() const { return 2.0 * static_cast<double>(t * n * k); }
};

enum class Form { kForward, kInput, kWeight };

void puna_product(benchmark::State& state, Form form, Layer& layer, int threads) {
  ThreadPool pool(threads);
  Device device{pool};
  ActivationBuffer buffer(layer.t, layer.k);
  for (auto _ : state) {
    if (form == Form::kForward) {
      Activations x = buffer.prepare(layer.x.data(), layer.t, layer.k);
      const Product product{&layer.weight, layer.y.data(), layer.n};
      matmul_forward(device, x, {&product, 1});
    } else if (form == Form::kInput) {
      const OutputGradient gradient{&layer.weight, layer.y.data(), layer.n};
      matmul_backward_input(device, {&gradient, 1}, layer.t, layer.dx.data(), Gradient::kReplace);
    } else {
      matmul_backward_weight(device, {layer.y.data(), layer.n, layer.x.data(), layer.n, layer.k, layer.dw.data()}, layer.t,
                             Gradient::kAdd);
    }
  }
  report(state, "operations", layer.operations());
}

#if PUNA_BENCH_OPENBLAS
void openblas_product(benchmark::State& state, Form form, Layer& layer, int threads) {
  openblas_set_num_threads(threads);
  const auto t = static_cast<blasint>(layer.t), n = static_cast<blasint>(layer.n), k = static_cast<blasint>(layer.k);
  float* const x = layer.x.data();
  float* const w = layer.w.data();
  float* const y = layer.y.data();
  for (auto _ : state) {
    if (form == Form::kForward) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, t, n, k, 1, x, k, w, k, 0, y, n);
    } else if (form == Form::kInput) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, t, k, n, 1, y, n, w, k, 0, layer.dx.data(), k);
    } else {
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, t, 1, y, n, x, k, 1, layer.dw.data(), k);
    }
  }
  report(state, "operations", layer.operations());
}
#endif

void add_products() {
  static Layer layers[] = {{512, 2048, 2048}, {512, 768, 768}, {512, 2048, 768}, {512, 3072, 768},
                           {512, 768, 3072},  {512, 192, 192}, {512, 512, 192},  {2048, 768, 768}};
  for (const auto& [form, name] :
       {std::pair(Form::kForward, "forward"), std::pair(Form::kInput, "input"), std::pair(Form::kWeight, "weight")}) {
    for (Layer& layer : layers) {
      const std::string shape = fmt::format("{}/T{}_N{}_K{}", name, layer.t, layer.n, layer.k);
      for (const int threads : {1, 2}) {
        const auto add = [&, form = form](const char* who, auto run) {
          benchmark::RegisterBenchmark(fmt::format("{}/{}/threads{}", shape, who, threads).c_str(), [run, form, &layer, threads](
                                                                                                        benchmark::State& state) {
            run(state, form, layer, threads);
          })->UseRealTime();
        };
        add("puna", puna_product);
#if PUNA_BENCH_OPENBLAS
        add("openblas", openblas_product);
#endif
      }
    }
  }
}

// Rows of 512 tokens: one segment each. Operations of the products that a causal mask leaves.
void attention(benchmark::State& state, bool backward, std::int64_t heads, std::int64_t kv_heads, int threads) {
  constexpr std::int64_t kWidth = 64, kTokens = 512, kSegments = 4, kRows = kTokens * kSegments;
  const std::int64_t stride = (heads + 2 * kv_heads) * kWidth;
  const auto x = values(kRows * stride, 4), dout = values(kRows * heads * kWidth, 5);
  std::vector<float> out(dout.size()), sums(static_cast<std::size_t>(kRows * heads)), dx(x.size());
  std::vector<PackedSegment> segments;
  for (std::int64_t i = 0; i < kSegments; ++i) segments.push_back({i * kTokens, kTokens});
  const std::int64_t k = heads * kWidth, v = k + kv_heads * kWidth;
  const PackedRows rows = {x.data(), x.data() + k, x.data() + v, stride, heads, kv_heads, kWidth};
  ThreadPool pool(threads);
  Device device{pool};
  packed_attention_forward(device, rows, segments, out.data(), sums.data());
  for (auto _ : state) {
    if (backward) {
      packed_attention_backward(device, rows, segments,
                                {out.data(), sums.data(), dout.data(), dx.data(), dx.data() + k, dx.data() + v, stride});
    } else {
      packed_attention_forward(device, rows, segments, out.data(), sums.data());
    }
  }
  const double pairs = static_cast<double>(kSegments * heads) * kTokens * (kTokens + 1) / 2;
  report(state, "operations", pairs * 2 * kWidth * (backward ? 5 : 2));
}

void add_attention() {
  for (const bool backward : {false, true}) {
    for (const auto& [heads, kv_heads] : {std::pair(12, 12), std::pair(12, 4), std::pair(3, 1)}) {
      for (const int threads : {1, 2}) {
        benchmark::RegisterBenchmark(
            fmt::format("attention_{}/H{}_G{}/threads{}", backward ? "backward" : "forward", heads, kv_heads, threads).c_str(),
            [=, h = heads, g = kv_heads](benchmark::State& state) { attention(state, backward, h, g, threads); })
            ->UseRealTime();
      }
    }
  }
}

// Operations that read and write each value once or a few times: `floats` is what one run moves to and from memory.
template <class Run>
void add_stream(const char* name, double floats, const Run& run) {
  for (const int threads : {1, 2}) {
    benchmark::RegisterBenchmark(fmt::format("{}/threads{}", name, threads).c_str(), [=](benchmark::State& state) {
      ThreadPool pool(threads);
      Device device{pool};
      for (auto _ : state) run(device);
      report(state, "bytes", 4 * floats);
    })->UseRealTime();
  }
}

void add_streams() {
  constexpr std::int64_t kRows = 2048, kWidth = 2048, kVocabulary = 32000, kLogitRows = 128;
  constexpr double kCount = kRows * kWidth;
  static std::vector<float> a = values(kRows * kWidth, 6), b = values(kRows * kWidth, 7), c = values(kRows * kWidth, 8),
                            d(a.size()), logits = values(kLogitRows * kVocabulary, 9), weights(kLogitRows, 1.0f);
  static const std::vector<std::int32_t> targets(kLogitRows, 5);
  static std::vector<double> log_probs(kLogitRows);
  static std::vector<std::int8_t> m8(a.size());
  static std::vector<std::uint8_t> v8(a.size());
  static std::vector<float> m_scale(a.size() / kAdamwBlock), v_scale = m_scale;
  static const AdamwStep step = {1e-3, 0.9, 0.95, 1e-8, 0.1, 10, 1};
  add_stream("rms_norm_forward", 2 * kCount,
             [](Device& device) { rms_norm_forward(device, a.data(), b.data(), 1e-5f, kRows, kWidth, d.data()); });
  add_stream("rms_norm_backward", 4 * kCount, [](Device& device) {
    rms_norm_backward(device, {a.data(), b.data(), c.data(), 1e-5f, d.data(), b.data()}, kRows, kWidth);
  });
  add_stream("swiglu_forward", 3 * kCount,
             [](Device& device) { swiglu_forward(device, a.data(), b.data(), kRows, kWidth, d.data()); });
  add_stream("swiglu_backward", 5 * kCount, [](Device& device) {
    swiglu_backward(device, {a.data(), b.data(), c.data(), d.data(), c.data()}, kRows, kWidth);
  });
  add_stream("cross_entropy_backward", 2.0 * kLogitRows * kVocabulary, [](Device& device) {
    cross_entropy_backward(device, logits.data(), {targets.data(), kLogitRows, kVocabulary}, weights.data(), log_probs.data());
  });
  add_stream("adamw", 7 * kCount, [](Device& device) { adamw_update(device, step, a, b, c, d); });
  add_stream("adamw_8bit", 4 * kCount, [](Device& device) { adamw_update(device, step, a, b, {m8, v8, m_scale, v_scale}); });
  add_stream("sum_of_squares", kCount, [](Device& device) { benchmark::DoNotOptimize(sum_of_squares(device, a)); });
  add_stream("copy", 2 * kCount, [](Device& device) {
    device.pool.split(kRows, 1, [](std::int64_t begin, std::int64_t end, int) {
      std::copy(a.begin() + begin * kWidth, a.begin() + end * kWidth, d.begin() + begin * kWidth);
    });
  });
}

}  // namespace
}  // namespace puna

int main(int argc, char** argv) {
  puna::add_products();
  puna::add_attention();
  puna::add_streams();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
