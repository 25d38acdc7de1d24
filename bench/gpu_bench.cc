// SPDX-License-Identifier: Apache-2.0
// The GPU's operations at the shapes of Llama 3.1 8B, against what the card gives at most: bytes of a copy within its memory, and
// the rate of square products. Time is the wall's around many queued operations and one wait; operations of a decode step are
// recorded and replayed, as the network does, on copies of the weights that together are larger than the card's caches. A minute in
// all; `gpu_bench --benchmark_filter=decode/q4_k`.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/as_size.h"
#include "base/random.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/gpu.h"
#include "kernels/matmul.h"
#include "kernels/packed_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/rows.h"
#include "kernels/shortlist.h"
#include "kernels/swiglu.h"
#include "kernels/top_k.h"
#include "model/step_input.h"

namespace puna {
namespace {

constexpr std::int64_t kHeads = 32, kKvHeads = 8, kHeadWidth = 128;
constexpr std::size_t kBeyondCaches = std::size_t{512} << 20;
constexpr double kMeasured = 0.08;  // seconds, about, of each case

// The card, and numbers in its memory.
struct Card {
  ThreadPool pool;
  std::shared_ptr<Gpu> gpu = std::make_shared<Gpu>();
  Device device{pool, gpu.get()};
  // A processor that plays a GPU shows only that the cases run, at an eighth of every size.
  std::int64_t shrink = gpu->info().name.starts_with("Emulated") ? 8 : 1;
  std::uint64_t records = 0;

  std::int64_t size(std::int64_t full) const { return full / shrink; }
  void wait() const { gpu->library().wait(gpu->context()); }
  void copy(void* to, const void* from, std::size_t bytes) const { gpu->library().copy_within(gpu->context(), to, from, bytes); }

  // The first `known` bytes over and over.
  void repeat(std::byte* memory, std::size_t known, std::size_t bytes) const {
    for (std::size_t done = known; done < bytes; done *= 2) copy(memory + done, memory, std::min(done, bytes - done));
  }
  // Normal numbers in a float format.
  Arena normal(std::int64_t count, std::byte*& memory, Format format = Format::kF32) const {
    const std::int64_t known = std::min<std::int64_t>(count, 1 << 17);
    std::vector<float> values(as_size(known));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random_normal(1, 0, i));
    std::vector<std::byte> bytes(as_size(format_bytes(format, known)));
    info(format).encode(values.data(), bytes.data(), known);
    const auto all = as_size(format_bytes(format, count));
    Arena arena = device.arena(all, "the benchmark");
    memory = arena.take(all).data();
    device.copy_in(memory, bytes.data(), bytes.size());
    repeat(memory, bytes.size(), all);
    return arena;
  }
};

Card* card = nullptr;

struct Numbers {
  explicit Numbers(std::int64_t count, Format format = Format::kF32) : arena(card->normal(count, memory, format)) {}
  float* data() const { return reinterpret_cast<float*>(memory); }

  std::byte* memory = nullptr;
  Arena arena;
};

// Seconds of one call of `queue`, which asks for operations and does not wait.
double seconds_of(const std::function<void()>& queue) {
  const auto run = [&](int times) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < times; ++i) queue();
    card->wait();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  run(3);  // loads the kernels, records
  const double once = run(1);
  const int times = std::clamp(static_cast<int>(kMeasured / once), card->shrink > 1 ? 1 : 3, 2000);
  return run(times) / times;
}
// The same of operations that are recorded.
double seconds_recorded(const std::function<void()>& compute) {
  const std::uint64_t key = ++card->records;
  const double seconds = seconds_of([&] { card->gpu->replay_or_record(key, compute); });
  card->gpu->forget_records();
  return seconds;
}

// What the card gives at most.
struct Ceilings {
  double copy = 0, bf16 = 0, f8 = 0;  // bytes read and written, operations per second
};
Ceilings ceilings;

void report(benchmark::State& state, double seconds, double amount, double ceiling, const char* unit) {
  for (auto _ : state) state.SetIterationTime(seconds);
  const double rate = amount / seconds;
  state.SetLabel(ceiling > 0 ? fmt::format("{:7.2f} T{} {:4.0f} %", rate / 1e12, unit, 100 * rate / ceiling)
                             : fmt::format("{:7.2f} T{}", rate / 1e12, unit));
}
void report_bytes(benchmark::State& state, double seconds, double bytes) { report(state, seconds, bytes, ceilings.copy, "B/s"); }
void report_operations(benchmark::State& state, double seconds, double operations, double ceiling) {
  report(state, seconds, operations, ceiling, "FLOP/s");
}

// --- products ---

// Copies of one matrix of eight rows repeated, together larger than the caches.
struct Copies {
  Copies(Format format, std::int64_t n, std::int64_t k, std::size_t least_count)
      : bytes_each(as_size(n * format_bytes(format, k))) {
    constexpr std::int64_t kDistinct = 8;
    std::vector<float> values(as_size(kDistinct * k)), scales(as_size(n), 1.0f);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(0.02 * random_normal(1, 0, i));
    std::vector<std::byte> rows(bytes_each);
    const auto known = as_size(format_bytes(format, kDistinct * k));
    info(format).encode(values.data(), rows.data(), kDistinct * k);
    for (std::size_t done = known; done < rows.size(); done *= 2)
      std::copy_n(rows.begin(), std::min(done, rows.size() - done), rows.begin() + static_cast<std::ptrdiff_t>(done));
    Tensor tensor{"w", format, Shape{n, k}, rows, {}};
    if (format == Format::kF8E4M3) tensor.row_scales = std::as_bytes(std::span(scales));

    const GpuLibrary& library = card->gpu->library();
    const std::size_t each = Arena::padded(library.weight_bytes(tensor));
    const std::size_t count =
        card->shrink > 1 ? least_count : std::max(least_count, kBeyondCaches / bytes_each / least_count * least_count);
    arena = card->device.arena(count * each, "the weights");
    std::byte* const first = arena.take(count * each).data();
    const Tensor loaded = library.load_weight(card->gpu->context(), tensor, first);
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0) card->copy(first + i * each, first, each);
      Tensor& copy = tensors.emplace_back(loaded);
      copy.bytes = {loaded.bytes.data() + i * each, loaded.bytes.size()};
      if (!loaded.row_scales.empty()) copy.row_scales = {loaded.row_scales.data() + i * each, loaded.row_scales.size()};
    }
  }

  std::size_t bytes_each;
  Arena arena;
  std::vector<Tensor> tensors;
};

enum class Role { kQkv, kAttentionOutput, kGateUp, kDown, kOutput };
struct RoleInfo {
  Role role;
  const char* name;
  std::int64_t n, k;
};
constexpr RoleInfo kRoles[] = {{Role::kQkv, "qkv", 6144, 4096},
                               {Role::kAttentionOutput, "out", 4096, 4096},
                               {Role::kGateUp, "gate_up", 14336, 4096},
                               {Role::kDown, "down", 4096, 14336},
                               {Role::kOutput, "logits", 128256, 4096}};

// As the network asks for it: a norm before qkv and gate_up, the residual added to out and down. Gate and up are two of the copies.
class RoleProduct {
 public:
  RoleProduct(const RoleInfo& role, Format format, std::int64_t rows)
      : role_(role),
        rows_(rows),
        n_(card->size(role.n)),
        k_(card->size(role.k)),
        weights_(format, n_, k_, role.role == Role::kOutput ? 2 : 4),
        x_(rows * k_),
        norm_(k_),
        y_(rows * n_),
        second_(rows * n_),
        buffer_(card->device, rows, k_) {}

  std::size_t count() const { return weights_.tensors.size() / (role_.role == Role::kGateUp ? 2 : 1); }
  double weight_bytes() const { return static_cast<double>(weights_.bytes_each) * (role_.role == Role::kGateUp ? 2 : 1); }
  double operations() const { return 2.0 * static_cast<double>(rows_ * n_ * k_) * (role_.role == Role::kGateUp ? 2 : 1); }

  void run(std::size_t i) {
    Device& device = card->device;
    const bool normed = role_.role == Role::kQkv || role_.role == Role::kGateUp;
    Activations x = normed ? buffer_.prepare_normed(device, x_.data(), {norm_.data(), 1e-5f, nullptr}, rows_, k_)
                           : buffer_.prepare(x_.data(), rows_, k_);
    const std::vector<Tensor>& w = weights_.tensors;
    if (role_.role == Role::kGateUp)
      return gated_matmul_forward(device, x, {&w[2 * i], &w[2 * i + 1], y_.data(), second_.data(), y_.data()});
    const bool added = role_.role == Role::kAttentionOutput || role_.role == Role::kDown;
    const Product product{&w[i], y_.data(), n_, added ? second_.data() : nullptr};
    matmul_forward(device, x, {&product, 1});
  }

 private:
  RoleInfo role_;
  std::int64_t rows_, n_, k_;
  Copies weights_;
  Numbers x_, norm_, y_, second_;
  ActivationBuffer buffer_;
};

void decode_product(benchmark::State& state, const RoleInfo& role, Format format, std::int64_t rows) {
  RoleProduct product(role, format, rows);
  const double seconds = seconds_recorded([&] {
    for (std::size_t i = 0; i < product.count(); ++i) product.run(i);
  });
  report_bytes(state, seconds / static_cast<double>(product.count()), product.weight_bytes());
}

// The products of a layer between one attention and the next.
void decode_layer(benchmark::State& state, Format format, std::int64_t rows) {
  constexpr int kOrder[] = {1, 2, 3, 0};
  std::vector<std::unique_ptr<RoleProduct>> products;
  std::size_t layers = 1 << 20;
  double bytes = 0;
  for (const int role : kOrder) {
    const RoleProduct& product = *products.emplace_back(std::make_unique<RoleProduct>(kRoles[role], format, rows));
    layers = std::min(layers, product.count());
    bytes += product.weight_bytes();
  }
  const Numbers x(kHeads), y(kHeads);
  const double seconds = seconds_recorded([&] {
    for (std::size_t i = 0; i < layers; ++i) {
      for (const auto& product : products) product->run(i);
      add_forward(card->device, x.data(), y.data(), 1, kHeads);  // where attention would be
    }
  });
  report_bytes(state, seconds / static_cast<double>(layers), bytes);
}

void prefill_product(benchmark::State& state, const RoleInfo& role, Format format, std::int64_t rows) {
  RoleProduct product(role, format, card->size(rows));
  std::size_t next = 0;
  const double seconds = seconds_of([&] { product.run(next++ % product.count()); });
  report_operations(state, seconds, product.operations(), format == Format::kF8E4M3 ? ceilings.f8 : ceilings.bf16);
}

// Square products whose activations are rounded once.
double square_rate(Format format) {
  const std::int64_t n = card->shrink > 1 ? 256 : 8192;
  const Copies weights(format, n, n, 1);
  const Numbers x(n * n), y(n * n);
  ActivationBuffer buffer(card->device, n, n);
  Activations activations = buffer.prepare(x.data(), n, n);
  const Product product{&weights.tensors[0], y.data(), n};
  const double seconds = seconds_of([&] { matmul_forward(card->device, activations, {&product, 1}); });
  return 2.0 * static_cast<double>(n * n * n) / seconds;
}

void measure_ceilings() {
  const std::int64_t count = card->size(std::int64_t{1} << 28);
  const Numbers from(count), to(count);
  const auto bytes = as_size(count) * sizeof(float);
  ceilings.copy = 2.0 * static_cast<double>(bytes) / seconds_of([&] { card->copy(to.data(), from.data(), bytes); });
  ceilings.bf16 = square_rate(Format::kBF16);
  ceilings.f8 = square_rate(Format::kF8E4M3);
  fmt::print("{}, {} processors: copies {:.2f} TB/s; products of 8192: BF16 {:.0f} TFLOP/s, F8E4M3 {:.0f} TFLOP/s\n",
             card->gpu->info().name, card->gpu->info().processors, ceilings.copy / 1e12, ceilings.bf16 / 1e12, ceilings.f8 / 1e12);
}

// --- attention ---

// Sequences of equal length, each with pages of its own.
struct PagedSequences {
  PagedSequences(Format format, std::int64_t count, std::int64_t rows, std::int64_t first_position)
      : pages_each((first_position + rows + kPagePositions - 1) / kPagePositions),
        keys(count * pages_each * kPagePositions * kKvHeads * kHeadWidth, format),
        values(count * pages_each * kPagePositions * kKvHeads * kHeadWidth, format),
        q(count * rows * kHeads * kHeadWidth),
        out(count * rows * kHeads * kHeadWidth),
        input(card->device) {
    layer = {format, kKvHeads, kHeadWidth, keys.memory, values.memory};
    for (std::int32_t page = 0; page < count * pages_each; ++page) pages.push_back(page);
    for (std::int64_t s = 0; s < count; ++s)
      sequences.push_back({s * rows, rows, first_position,
                           std::span<const std::int32_t>(pages).subspan(as_size(s * pages_each), as_size(pages_each))});
    input.set(std::vector<Token>(as_size(count * rows)), {}, sequences, {});
  }
  void attend() { attention_forward(card->device, layer, input.batch(), {q.data(), kHeads, kHeads * kHeadWidth, out.data()}); }

  std::int64_t pages_each;
  Numbers keys, values, q, out;
  KvLayer layer{};
  std::vector<std::int32_t> pages;
  std::vector<BatchSequence> sequences;
  StepInput input;
};

void attention_decode(benchmark::State& state, Format format, std::int64_t count, std::int64_t positions) {
  const std::int64_t length = card->size(positions);
  const double bytes = 2.0 * static_cast<double>(format_bytes(format, count * length * kKvHeads * kHeadWidth));
  if (bytes * 1.1 > static_cast<double>(card->gpu->free_memory())) {
    for (auto _ : state) state.SetIterationTime(0);
    return state.SetLabel("more than is free of the card's memory");
  }
  PagedSequences sequences(format, count, 1, length - 1);
  constexpr int kTimes = 4;
  const double seconds = seconds_recorded([&] {
    for (int i = 0; i < kTimes; ++i) sequences.attend();
  });
  report_bytes(state, seconds / kTimes, bytes);
}

void attention_prefill(benchmark::State& state, Format format, std::int64_t rows, std::int64_t first_position) {
  const std::int64_t t = card->size(rows), first = card->size(first_position);
  PagedSequences sequences(format, 1, t, first);
  const double seconds = seconds_of([&] { sequences.attend(); });
  const double seen = static_cast<double>(t) * (static_cast<double>(first) + static_cast<double>(t + 1) / 2);
  report_operations(state, seconds, 4.0 * seen * kHeads * kHeadWidth, ceilings.bf16);
}

void packed_attention(benchmark::State& state, std::int64_t width, bool backward) {
  const std::int64_t t = card->size(4096), stride = (kHeads + 2 * kKvHeads) * width;
  const Numbers qkv(t * stride), gradient(t * stride), out(t * kHeads * width), dout(t * kHeads * width), log_sum_exp(t * kHeads);
  const std::int64_t k = kHeads * width, v = k + kKvHeads * width;
  const PackedRows rows = {qkv.data(), qkv.data() + k, qkv.data() + v, stride, kHeads, kKvHeads, width};
  const PackedSegment segment[] = {{0, t}};
  packed_attention_forward(card->device, rows, segment, out.data(), log_sum_exp.data());
  const double seconds = seconds_of([&] {
    if (!backward) return packed_attention_forward(card->device, rows, segment, out.data(), log_sum_exp.data());
    float* const g = gradient.data();
    packed_attention_backward(card->device, rows, segment, {out.data(), log_sum_exp.data(), dout.data(), g, g + k, g + v, stride});
  });
  const double products = backward ? 5 : 2;  // of the triangle below the diagonal
  report_operations(state, seconds, products * static_cast<double>(t * t) * static_cast<double>(kHeads * width), ceilings.bf16);
}

// --- what moves numbers ---

void norm(benchmark::State& state) {
  const std::int64_t rows = card->size(8192), width = card->size(4096);
  const Numbers x(rows * width), weight(width), y(rows * width);
  const double seconds = seconds_of([&] { rms_norm_forward(card->device, x.data(), weight.data(), 1e-5f, rows, width, y.data()); });
  report_bytes(state, seconds, 8.0 * static_cast<double>(rows * width));
}

void swiglu(benchmark::State& state) {
  const std::int64_t rows = card->size(4096), width = card->size(14336);
  const Numbers gate(rows * width), up(rows * width), out(rows * width);
  const double seconds = seconds_of([&] { swiglu_forward(card->device, gate.data(), up.data(), rows, width, out.data()); });
  report_bytes(state, seconds, 12.0 * static_cast<double>(rows * width));
}

void adamw(benchmark::State& state, bool in_8_bits) {
  const auto count = as_size(card->size(std::int64_t{1} << 27));
  const Numbers weight(static_cast<std::int64_t>(count)), gradient(static_cast<std::int64_t>(count));
  const AdamwStep step{1e-5, 0.9, 0.95, 1e-8, 0.1, 10, 1};
  const std::span<float> w(weight.data(), count), g(gradient.data(), count);
  Arena states = card->device.arena(8 * count + (std::size_t{1} << 20) + count / 16, "the states");
  if (in_8_bits) {
    const Adamw8BitState state_8{states.take<std::int8_t>(count), states.take<std::uint8_t>(count), states.take<float>(count / 256),
                                 states.take<float>(count / 256)};
    const double seconds = seconds_of([&] { adamw_update(card->device, step, w, g, state_8); });
    return report_bytes(state, seconds, 16.0 * static_cast<double>(count));  // weight 8, gradient 4, states 4
  }
  const std::span<float> m = states.take<float>(count), v = states.take<float>(count);
  const double seconds = seconds_of([&] { adamw_update(card->device, step, w, g, m, v); });
  report_bytes(state, seconds, 28.0 * static_cast<double>(count));  // all four read, three written
}

void cross_entropy(benchmark::State& state) {
  const std::int64_t rows = card->size(2048), vocabulary = card->size(128256);
  const Numbers logits(rows * vocabulary), weights(rows);
  Arena arena = card->device.arena(as_size(rows) * sizeof(std::int32_t), "the targets");  // all 0
  const TargetRows targets{arena.take<std::int32_t>(as_size(rows)).data(), rows, vocabulary};
  std::vector<double> log_probs(as_size(rows));
  const double seconds =
      seconds_of([&] { cross_entropy_backward(card->device, logits.data(), targets, weights.data(), log_probs.data()); });
  report_bytes(state, seconds, 12.0 * static_cast<double>(rows * vocabulary));  // read twice, written once
}

// Of a teacher's whole distributions, whose divergence is KL(p || q) or holds both.
void distillation(benchmark::State& state, KlDirection direction) {
  const std::int64_t rows = card->size(2048), vocabulary = card->size(128256);
  const Numbers student(rows * vocabulary), teacher(rows * vocabulary), dlogits(rows * vocabulary), weights(rows);
  std::vector<double> losses(as_size(rows));
  const double seconds = seconds_of([&] {
    distillation_backward(card->device, student.data(), {teacher.data(), rows, vocabulary, 2, direction}, weights.data(),
                          dlogits.data(), losses.data());
  });
  // Both read twice or three times, the gradient read and written.
  report_bytes(state, seconds, (direction == KlDirection::kForward ? 24.0 : 32.0) * static_cast<double>(rows * vocabulary));
}

// What a teacher's rows keep: ids and log-probabilities on their way to the host are not counted.
void top_k(benchmark::State& state, std::int64_t k) {
  const std::int64_t rows = card->size(2048), vocabulary = card->size(128256);
  const Numbers logits(rows * vocabulary);
  std::vector<std::int32_t> ids(as_size(rows * k));
  std::vector<float> log_probs(as_size(rows * k)), rest(as_size(rows));
  const double seconds = seconds_of([&] {
    top_k_log_probs(card->device, logits.data(), rows, vocabulary, {k, ids.data(), log_probs.data(), rest.data()});
  });
  report_bytes(state, seconds, 24.0 * static_cast<double>(rows * vocabulary));  // three digits, two for the ids, the rest
}

void top_k_distillation(benchmark::State& state, std::int64_t k) {
  const std::int64_t rows = card->size(2048), vocabulary = card->size(128256);
  const Numbers logits(rows * vocabulary), dlogits(rows * vocabulary), weights(rows);
  std::vector<std::int64_t> begin{0};
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < k; ++i) ids.push_back(static_cast<std::int32_t>(i * (vocabulary / k)));
    begin.push_back(static_cast<std::int64_t>(ids.size()));
  }
  // All kept tokens are as likely, and so is the rest.
  const std::vector<float> log_probs(ids.size(), -std::log(static_cast<float>(k + 1))), rest(as_size(rows), log_probs[0]);
  Arena arena = card->device.arena(
      2 * Arena::padded(ids.size() * 4) + Arena::padded(begin.size() * 8) + Arena::padded(rest.size() * 4), "a teacher's rows");
  const auto on_card = [&]<typename T>(const std::vector<T>& values) {
    T* const memory = arena.take<T>(values.size()).data();
    card->device.copy_in(memory, values.data(), values.size() * sizeof(T));
    return memory;
  };
  const TopKDistillationRows kept{on_card(begin),       on_card(ids), on_card(log_probs), on_card(rest), rows, vocabulary, 2,
                                  KlDirection::kForward};
  std::vector<double> losses(as_size(rows));
  const double seconds = seconds_of(
      [&] { top_k_distillation_backward(card->device, logits.data(), kept, weights.data(), dlogits.data(), losses.data()); });
  report_bytes(state, seconds, 16.0 * static_cast<double>(rows * vocabulary));  // read twice, the gradient read and written
}

// What a step copies to the host to draw a token of each row, where top-p cuts or the device draws.
void shortlist(benchmark::State& state, std::int64_t full_rows, bool draws_too) {
  const std::int64_t rows = std::max<std::int64_t>(1, card->size(full_rows)), vocabulary = card->size(128256);
  const Numbers logits(rows * vocabulary);
  Arena arena = card->device.arena(as_size(rows) * (sizeof(RowDraw) + sizeof(Shortlist)) + 512, "the shortlists");
  const std::span<RowDraw> draws = arena.take<RowDraw>(as_size(rows));
  const std::vector<RowDraw> wanted(as_size(rows), RowDraw{draws_too ? 0.5 : -1, 1});
  card->device.copy_in(draws.data(), wanted.data(), draws.size_bytes());
  Shortlist* const found = arena.take<Shortlist>(as_size(rows)).data();
  const LogitColumns columns{logits.data(), rows, vocabulary, vocabulary};
  const double seconds = seconds_recorded([&] { shortlist_rows(card->device, columns, draws.data(), found); });
  report_bytes(state, seconds, 4.0 * static_cast<double>(rows * vocabulary));  // read once
}

// --- the table ---

// A line for each case: its name, the time of one operation, its rate and the share of what the card gives.
class Table : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs)
      fmt::print("{:34} {:10.1f} us {}\n", run.run_name.function_name, run.GetAdjustedRealTime(), run.report_label);
    std::fflush(stdout);
  }
};

template <typename Case, typename... Arguments>
void add(const std::string& name, Case&& run, Arguments... arguments) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { run(state, arguments...); })
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

void add_cases() {
  const auto name_of = [](Format format) { return std::string(info(format).name); };
  for (const Format format : {Format::kBF16, Format::kF8E4M3, Format::kQ8_0, Format::kQ4_0, Format::kQ4_K, Format::kQ6_K}) {
    for (const RoleInfo& role : kRoles)
      add(fmt::format("decode/{}/{}", name_of(format), role.name), decode_product, role, format, 1);
    add(fmt::format("decode/{}/layer", name_of(format)), decode_layer, format, 1);
  }
  for (const Format format : {Format::kBF16, Format::kF8E4M3, Format::kQ4_K}) {
    for (const std::int64_t rows : {4, 7, 8, 64})
      add(fmt::format("decode{}/{}/gate_up", rows, name_of(format)), decode_product, kRoles[2], format, rows);
  }
  for (const Format format : {Format::kBF16, Format::kF8E4M3, Format::kQ8_0, Format::kQ4_K}) {
    for (const int role : {0, 2, 3})
      add(fmt::format("prefill4096/{}/{}", name_of(format), kRoles[role].name), prefill_product, kRoles[role], format, 4096);
  }
  for (const Format format : {Format::kF16, Format::kF8E4M3}) {
    for (const std::int64_t count : {1, 64, 256}) {
      for (const std::int64_t positions : {1024, 131072}) {
        if (count == 256 && positions > 1024) continue;  // no card has 137 GB for it
        add(fmt::format("attention/{}/decode {} x {}", name_of(format), count, positions), attention_decode, format, count,
            positions);
      }
    }
    add(fmt::format("attention/{}/prefill 4096", name_of(format)), attention_prefill, format, 4096, 0);
    add(fmt::format("attention/{}/prefill 32768", name_of(format)), attention_prefill, format, 32768, 0);
    add(fmt::format("attention/{}/512 behind 32256", name_of(format)), attention_prefill, format, 512, 32256);
  }
  for (const std::int64_t width : {64, 128}) {
    add(fmt::format("packed attention/{}/forward", width), packed_attention, width, false);
    add(fmt::format("packed attention/{}/backward", width), packed_attention, width, true);
  }
  add("rms_norm", norm);
  add("swiglu", swiglu);
  add("adamw", adamw, false);
  add("adamw 8 bit", adamw, true);
  add("cross_entropy_backward", cross_entropy);
  add("distillation/forward", distillation, KlDirection::kForward);
  add("distillation/symmetric", distillation, KlDirection::kSymmetric);
  add("top_k/64", top_k, 64);
  add("top_k_distillation/64", top_k_distillation, 64);
  for (const std::int64_t rows : {1, 8, 64, 256}) {
    add(fmt::format("shortlist/{} rows", rows), shortlist, rows, false);
    add(fmt::format("shortlist/{} rows, drawn", rows), shortlist, rows, true);
  }
}

}  // namespace
}  // namespace puna

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (const puna::GpuSearch search = puna::find_gpus(); search.gpus.empty()) {
    fmt::print("no GPU: {}\n", search.why_none);
    return 0;
  }
  puna::Card opened;
  puna::card = &opened;
  puna::measure_ceilings();
  puna::add_cases();
  puna::Table table;
  benchmark::RunSpecifiedBenchmarks(&table);
}
