// SPDX-License-Identifier: Apache-2.0
// Shapes of Llama 3.1 8B on a real GPU: indices beyond 2^31, many blocks at once, splits over long contexts. References are
// computed for some of the results only.
#include <array>
#include <numeric>

#include "gpu/gpu_fixture.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/matmul.h"
#include "kernels/packed_attention.h"
#include "kernels/rows.h"
#include "model/step_input.h"

namespace puna {
namespace {

class GpuBigShapes : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    if (is_emulated()) GTEST_SKIP() << "an emulated GPU would take hours";
    if (gpu()->info().memory < std::int64_t{16} << 30) GTEST_SKIP() << "needs a GPU with 16 GB";
  }
};

// A matrix whose rows repeat after kDistinctRows, which no block of rows does.
struct RepeatedWeight {
  static constexpr std::int64_t kDistinctRows = 61;
  HostWeight few;
  std::vector<std::byte> bytes;
  std::vector<float> scales;
  Tensor tensor;

  RepeatedWeight(Format format, std::int64_t n, std::int64_t k)
      : few(format, kDistinctRows, k, 1), bytes(as_size(n * few.tensor.row_bytes())) {
    for (std::size_t done = 0; done < bytes.size(); done += few.blocks.size())
      std::copy_n(few.blocks.begin(), std::min(few.blocks.size(), bytes.size() - done),
                  bytes.begin() + static_cast<std::ptrdiff_t>(done));
    tensor = {"w", format, Shape{n, k}, bytes, {}};
    if (format != Format::kF8E4M3) return;
    for (std::int64_t row = 0; row < n; ++row) scales.push_back(few.row_scales[as_size(row % kDistinctRows)]);
    tensor.row_scales = std::as_bytes(std::span(scales));
  }
};

// Y [T, N] of X [T, K] and the distinct rows, in F64.
Doubles distinct_products(const RepeatedWeight& w, const std::vector<float>& x, std::int64_t rows, std::int64_t k) {
  Doubles y(as_size(rows * RepeatedWeight::kDistinctRows));
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t n = 0; n < RepeatedWeight::kDistinctRows; ++n)
      y[as_size(t * RepeatedWeight::kDistinctRows + n)] =
          std::inner_product(x.begin() + t * k, x.begin() + (t + 1) * k, w.few.values.begin() + n * k, 0.0);
  }
  return y;
}

TEST_F(GpuBigShapes, ProductsOf8BsMatrices) {
  struct Big {
    Format format;
    std::int64_t n, k;
  };
  for (const Big& c : {Big{Format::kBF16, 14336, 4096}, Big{Format::kF8E4M3, 14336, 4096}, Big{Format::kQ8_0, 4096, 14336},
                       Big{Format::kQ4_K, 4096, 14336}, Big{Format::kQ6_K, 128256, 4096}, Big{Format::kBF16, 128256, 4096},
                       Big{Format::kF16, 28672, 8192}}) {
    const RepeatedWeight w(c.format, c.n, c.k);
    const GpuWeight on_gpu(device, w.tensor);
    for (const std::int64_t rows : {1, 3, 7, 64, 500}) {
      const std::int64_t known = std::min<std::int64_t>(rows, 7);  // the last of them
      const auto x = normal_values(rows * c.k, 2);
      const GpuArray<float> x_on_gpu(device, x), y(device, as_size(rows * c.n));
      ActivationBuffer buffer(device, rows, c.k);
      Activations activations = buffer.prepare(x_on_gpu.data(), rows, c.k);
      const Product product{&on_gpu.tensor, y.data(), c.n};
      matmul_forward(device, activations, {&product, 1});
      const auto all = y.read();
      const std::vector<float> got(all.end() - known * c.n, all.end());
      const Doubles distinct = distinct_products(w, {x.end() - known * c.k, x.end()}, known, c.k);
      Doubles want(got.size());
      for (std::int64_t i = 0; i < known * c.n; ++i)
        want[as_size(i)] = distinct[as_size(i / c.n * RepeatedWeight::kDistinctRows + i % c.n % RepeatedWeight::kDistinctRows)];
      // Activations of many rows are rounded to F16, BF16 or F8E4M3: 2^-12, 2^-9 and 2^-5 in the mean.
      const double of_many = c.format == Format::kBF16 ? 5e-3 : c.format == Format::kF8E4M3 ? 6e-2 : 1e-3;
      expect_close(got, want, rows < kPanelRows ? 1e-5 : of_many,
                   fmt::format("{} {} rows x [{}, {}]", info(c.format).name, rows, c.n, c.k));
      EXPECT_TRUE(std::all_of(all.begin(), all.end(), [](float value) { return std::isfinite(value); }));
    }
  }
}

// Keys and values of a long sequence: random numbers of a table, by position.
class LongSequence {
 public:
  LongSequence(const Device& device, Format format, std::int64_t heads, std::int64_t kv_heads, std::int64_t width,
               std::int64_t rows, std::int64_t first)
      : device_(device), heads_(heads), kv_heads_(kv_heads), width_(width), rows_(rows), first_(first), input_(device) {
    const std::int64_t positions = first + rows, row = kv_heads * width;
    const auto noise = normal_values(kNoise, 5);
    keys_.resize(as_size(positions * row));
    values_.resize(keys_.size());
    for (std::int64_t i = 0; i < positions * row; ++i) {
      keys_[as_size(i)] = noise[as_size(i * 31 % kNoise)];
      values_[as_size(i)] = noise[as_size((i * 17 + 5) % kNoise)];
    }
    for (std::int64_t page = (positions + kPagePositions - 1) / kPagePositions; page-- > 0;)
      pages_.push_back(static_cast<std::int32_t>(page));
    const auto bytes = pages_.size() * as_size(kv_heads * kv_page_bytes(format, width));
    arena_ = device.arena(2 * Arena::padded(bytes), "pages");
    layer_ = {format, kv_heads, width, arena_.take(bytes).data(), arena_.take(bytes).data()};
    for (std::int64_t done = 0; done < positions; done += 1 << 15) {
      const std::int64_t count = std::min<std::int64_t>(1 << 15, positions - done);
      set(count, done);
      const GpuArray<float> k(device, std::span(keys_).subspan(as_size(done * row), as_size(count * row))),
          v(device, std::span(values_).subspan(as_size(done * row), as_size(count * row)));
      kv_store(device_, layer_, input_.batch(), {k.data(), v.data(), row});
    }
    round(keys_, format);
    round(values_, format);
  }

  std::vector<float> attend(const std::vector<float>& q) {
    set(rows_, first_);
    const GpuArray<float> q_on_gpu(device_, q), out(device_, q.size());
    attention_forward(device_, layer_, input_.batch(), {q_on_gpu.data(), heads_, heads_ * width_, out.data()});
    return out.read();
  }

  // One head of one row, in F64.
  Doubles expected(const std::vector<float>& q, std::int64_t row, std::int64_t head) const {
    const std::int64_t group = head / (heads_ / kv_heads_), positions = first_ + row + 1;
    const float* const query = q.data() + (row * heads_ + head) * width_;
    Doubles weights(as_size(positions)), out(as_size(width_));
    double best = -INFINITY, total = 0;
    for (std::int64_t s = 0; s < positions; ++s) {
      const float* const key = keys_.data() + (s * kv_heads_ + group) * width_;
      weights[as_size(s)] = std::inner_product(query, query + width_, key, 0.0) / std::sqrt(static_cast<double>(width_));
      best = std::max(best, weights[as_size(s)]);
    }
    for (double& weight : weights) total += weight = std::exp(weight - best);
    for (std::int64_t s = 0; s < positions; ++s) {
      for (std::int64_t e = 0; e < width_; ++e)
        out[as_size(e)] += weights[as_size(s)] / total * values_[as_size((s * kv_heads_ + group) * width_ + e)];
    }
    return out;
  }

 private:
  static constexpr std::int64_t kNoise = 99991;  // a prime: heads and positions never fall in step

  void set(std::int64_t rows, std::int64_t first) {
    sequence_ = {BatchSequence{0, rows, first, pages_}};
    input_.set(std::vector<Token>(as_size(rows)), {}, sequence_, {});
  }
  static void round(std::vector<float>& values, Format format) {
    std::vector<std::byte> bytes(as_size(format_bytes(format, static_cast<std::int64_t>(values.size()))));
    info(format).encode(values.data(), bytes.data(), static_cast<std::int64_t>(values.size()));
    info(format).decode(bytes.data(), values.data(), static_cast<std::int64_t>(values.size()));
  }

  Device device_;
  std::int64_t heads_, kv_heads_, width_, rows_, first_;
  StepInput input_;
  std::vector<float> keys_, values_;  // [S, G, E]
  std::vector<std::int32_t> pages_;
  Arena arena_;
  KvLayer layer_{};
  std::array<BatchSequence, 1> sequence_{};
};

TEST_F(GpuBigShapes, AttentionOverLongContexts) {
  struct Long {
    Format format;
    std::int64_t heads, kv_heads, width, rows, first;
  };
  for (const Long& c : {Long{Format::kF16, 8, 2, 128, 1, 131071}, Long{Format::kBF16, 8, 2, 128, 3, 131069},
                        Long{Format::kF8E4M3, 8, 2, 128, 1, 131071}, Long{Format::kF32, 4, 1, 64, 1, 131071},
                        Long{Format::kF16, 32, 8, 128, 512, 28000}, Long{Format::kBF16, 32, 8, 64, 4096, 0},
                        Long{Format::kF8E4M3, 32, 8, 128, 2048, 1000}}) {
    LongSequence sequence(device, c.format, c.heads, c.kv_heads, c.width, c.rows, c.first);
    const auto q = normal_values(c.rows * c.heads * c.width, 3, 2);
    const auto out = sequence.attend(q);
    std::vector<float> got;
    Doubles want;
    for (const std::int64_t row : {std::int64_t{0}, c.rows / 3, c.rows / 2 + 1, c.rows - 1}) {
      if (row >= c.rows) continue;
      for (const std::int64_t head : {std::int64_t{0}, c.heads / 2, c.heads - 1}) {
        const auto first = out.begin() + (row * c.heads + head) * c.width;
        got.insert(got.end(), first, first + c.width);
        const Doubles expected = sequence.expected(q, row, head);
        want.insert(want.end(), expected.begin(), expected.end());
      }
    }
    // As in paged_attention_test.cc; rounding of the softmax's weights averages out over long contexts, and so do the values.
    const double tolerance = c.format == Format::kF32 ? 1e-4 : c.format == Format::kF16 ? 5e-3 : 2e-2;
    expect_close(got, want, tolerance, fmt::format("{} {} rows behind {}", info(c.format).name, c.rows, c.first));
    EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); }));
  }
}

TEST_F(GpuBigShapes, PackedAttentionOfManyRows) {
  const std::int64_t heads = 8, kv_heads = 2, width = 64, rows = 2048, stride = (heads + 2 * kv_heads) * width, k = heads * width,
                     v = k + kv_heads * width;
  const PackedSegment segments[] = {{0, 1000}, {1000, 600, 0, 1000}, {1600, 448}};
  const auto x = normal_values(rows * stride, 1), dout = normal_values(rows * heads * width, 2);
  std::vector<float> out(dout.size()), log_sum_exp(as_size(rows * heads)), gradient(x.size());
  packed_attention_forward(cpu, {x.data(), x.data() + k, x.data() + v, stride, heads, kv_heads, width}, segments, out.data(),
                           log_sum_exp.data());
  packed_attention_backward(
      cpu, {x.data(), x.data() + k, x.data() + v, stride, heads, kv_heads, width}, segments,
      {out.data(), log_sum_exp.data(), dout.data(), gradient.data(), gradient.data() + k, gradient.data() + v, stride});
  const GpuArray<float> x_on_gpu(device, x), dout_on_gpu(device, dout);
  for (const auto& [format, tolerance] : {std::pair{Format::kF32, 2e-5}, {Format::kBF16, 1.5e-2}}) {
    const GradientFormat in_format(*gpu(), format);
    const GpuArray<float> got_out(device, out.size()), got_sums(device, log_sum_exp.size()), got(device, x.size());
    const PackedRows on_gpu{x_on_gpu.data(), x_on_gpu.data() + k, x_on_gpu.data() + v, stride, heads, kv_heads, width};
    packed_attention_forward(device, on_gpu, segments, got_out.data(), got_sums.data());
    packed_attention_backward(
        device, on_gpu, segments,
        {got_out.data(), got_sums.data(), dout_on_gpu.data(), got.data(), got.data() + k, got.data() + v, stride});
    expect_close(got_out.read(), as_doubles(out), tolerance, "out");
    expect_close(got.read(), as_doubles(gradient), tolerance, "gradient");
  }
}

// 20,000 rows of 128,256: more numbers than 31 bits count.
TEST_F(GpuBigShapes, RowsOfTheWholeVocabulary) {
  const std::int64_t rows = 20000, vocabulary = 128256;
  if (gpu()->free_memory() < rows * vocabulary * 4 + (std::int64_t{1} << 30)) GTEST_SKIP() << "needs 11 GB";
  Arena arena = device.arena(as_size(rows * vocabulary) * sizeof(float), "logits");
  float* const logits = arena.take<float>(as_size(rows * vocabulary)).data();  // zeros
  const auto last = normal_values(vocabulary, 1, 4);
  device.copy_in(logits + (rows - 1) * vocabulary, last.data(), last.size() * sizeof(float));
  const GpuArray<std::int32_t> places(device, as_size(rows));
  const GpuArray<float> values(device, as_size(rows));
  arg_max_rows(device, logits, rows, vocabulary, {places.data(), values.data()});
  EXPECT_EQ(places.read().front(), 0);
  EXPECT_EQ(places.read().back(), std::ranges::max_element(last) - last.begin());

  const GpuArray<std::int32_t> targets(device, std::vector<std::int32_t>(as_size(rows), 7));
  const GpuArray<float> weights(device, std::vector<float>(as_size(rows), 2.0f));
  Doubles log_probs(as_size(rows));
  cross_entropy_backward(device, logits, {targets.data(), rows, vocabulary}, weights.data(), log_probs.data());
  double sum = 0;
  for (const float z : last) sum += std::exp(static_cast<double>(z));
  EXPECT_NEAR(log_probs.front(), -std::log(static_cast<double>(vocabulary)), 1e-6);
  EXPECT_NEAR(log_probs.back(), last[7] - std::log(sum), 1e-5);
  std::vector<float> row(as_size(vocabulary));
  device.copy_out(row.data(), logits + (rows - 1) * vocabulary, row.size() * sizeof(float));
  Doubles want(row.size());
  for (std::size_t i = 0; i < want.size(); ++i) want[i] = 2 * (std::exp(static_cast<double>(last[i])) / sum - (i == 7 ? 1 : 0));
  expect_close(row, want, 1e-5, "the last row");
}

}  // namespace
}  // namespace puna
