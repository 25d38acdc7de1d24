// SPDX-License-Identifier: Apache-2.0
// What a training step is made of, on one and two threads: the three products of a linear layer (operations per second; OpenBLAS's
// sgemm beside them where it was found), attention forward and backward, and the operations that are bound by memory (bytes per
// second). `train_kernels_bench --benchmark_filter=forward`.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/random.h"
#include "kernels/adamw.h"
#include "kernels/cross_entropy.h"
#include "kernels/matmul.h"
#include "kernels/packed_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

#if PUNA_BENCH_OPENBLAS
#include <cblas.h>
#endif

namespace puna {
namespace {

std::vector<float> values(std::int64_t count, std::uint64_t stream, double spread = 1) {
  std::vector<float> result(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = static_cast<float>(spread * random_normal(3, stream, i));
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

}  // namespace
}  // namespace puna

int main(int argc, char** argv) {
  puna::add_products();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
