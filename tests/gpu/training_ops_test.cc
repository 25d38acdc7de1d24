// SPDX-License-Identifier: Apache-2.0
// The GPU's operations of training that are not products: packed attention, losses over the vocabulary, AdamW. In F32, as the
// CPU's, which are held against F64 in tests/kernels.
#include <limits>

#include "expect_error.h"
#include "gpu/gpu_fixture.h"
#include "kernels/adamw.h"
#include "kernels/cross_entropy.h"
#include "kernels/packed_attention.h"

namespace puna {
namespace {

struct PackedCase {
  std::int64_t heads, kv_heads, width, gap;  // the gap lies behind q, k, v of a row
  std::vector<PackedSegment> segments;

  std::int64_t rows() const { return segments.back().first_row + segments.back().rows; }
  std::int64_t stride() const { return (heads + 2 * kv_heads) * width + gap; }
  std::int64_t outputs() const { return rows() * heads * width; }
  std::string text() const { return fmt::format("H {} G {} E {}, {} rows, stride {}", heads, kv_heads, width, rows(), stride()); }
};

std::vector<PackedCase> packed_cases() {
  return {
      {1, 1, 16, 5, {{0, 1}}},
      {2, 1, 64, 0, {{0, 63}, {63, 64}, {127, 1}}},
      {4, 4, 32, 5, {{0, 65}, {65, 7}}},
      {4, 1, 24, 4, {{0, 20}, {20, 70, 0, 20}, {90, 3, 0, 20}}},
      {4, 2, 64, 0, {{0, 5}, {5, 200}, {205, 66, 5, 200}, {271, 40, 0, 5}, {311, 1, 5, 200}}},
      {3, 3, 7, 5, {{0, 64}, {64, 9, 0, 64}}},
      {8, 1, 128, 0, {{0, 130}}},
      {2, 2, 96, 3, {{0, 40}, {40, 33, 0, 40}}},
      {2, 1, 256, 0, {{0, 70}}},
  };
}

struct PackedResult {
  std::vector<float> out, log_sum_exp, gradient;
  bool operator==(const PackedResult&) const = default;
};

class GpuTraining : public GpuTest {
 protected:
  // gradient: of q, k, v as they lie, with the gap as it was
  PackedResult attend(const PackedCase& c, const std::vector<float>& x, const std::vector<float>& dout) {
    const GpuArray<float> x_on_gpu(device, x), dout_on_gpu(device, dout), out(device, as_size(c.outputs())),
        log_sum_exp(device, as_size(c.rows() * c.heads)), gradient(device, x.size());
    const std::int64_t k = c.heads * c.width, v = k + c.kv_heads * c.width;
    const PackedRows rows = {x_on_gpu.data(), x_on_gpu.data() + k, x_on_gpu.data() + v, c.stride(), c.heads, c.kv_heads, c.width};
    packed_attention_forward(device, rows, c.segments, out.data(), log_sum_exp.data());
    float* const g = gradient.data();
    packed_attention_backward(device, rows, c.segments,
                              {out.data(), log_sum_exp.data(), dout_on_gpu.data(), g, g + k, g + v, c.stride()});
    return {out.read(), log_sum_exp.read(), gradient.read()};
  }

  PackedResult attend_on_cpu(const PackedCase& c, const std::vector<float>& x, const std::vector<float>& dout) {
    PackedResult result{std::vector<float>(as_size(c.outputs())), std::vector<float>(as_size(c.rows() * c.heads)),
                        std::vector<float>(x.size(), NAN)};
    const std::int64_t k = c.heads * c.width, v = k + c.kv_heads * c.width;
    const PackedRows rows = {x.data(), x.data() + k, x.data() + v, c.stride(), c.heads, c.kv_heads, c.width};
    packed_attention_forward(cpu, rows, c.segments, result.out.data(), result.log_sum_exp.data());
    float* const g = result.gradient.data();
    packed_attention_backward(cpu, rows, c.segments,
                              {result.out.data(), result.log_sum_exp.data(), dout.data(), g, g + k, g + v, c.stride()});
    return result;
  }

  // The gaps, which are NaN still, as zeros.
  static std::vector<float> without_gaps(const PackedCase& c, std::vector<float> gradient) {
    for (std::int64_t t = 0; t < c.rows(); ++t) {
      for (std::int64_t i = c.stride() - c.gap; i < c.stride(); ++i) {
        float& value = gradient[as_size(t * c.stride() + i)];
        EXPECT_TRUE(std::isnan(value)) << c.text() << ": written behind row " << t;
        value = 0;
      }
    }
    return gradient;
  }
};

TEST_F(GpuTraining, PackedAttentionAndItsGradientEqualTheCpus) {
  for (const PackedCase& c : packed_cases()) {
    const auto x = normal_values(c.rows() * c.stride(), 1), dout = normal_values(c.outputs(), 2);
    const PackedResult got = attend(c, x, dout), want = attend_on_cpu(c, x, dout);
    expect_close(got.out, as_doubles(want.out), 1e-5, c.text() + " out");
    expect_close(got.log_sum_exp, as_doubles(want.log_sum_exp), 1e-5, c.text() + " log sums");
    expect_close(without_gaps(c, got.gradient), as_doubles(without_gaps(c, want.gradient)), 1e-5, c.text() + " gradient");
  }
}

// Queries, keys, values, their gradients and the softmax are rounded to 8 significant bits, 2^-9 in the mean.
TEST_F(GpuTraining, PackedAttentionInBf16IsNearTheCpus) {
  const GradientFormat bf16(*gpu(), Format::kBF16);
  for (const PackedCase& c : packed_cases()) {
    const auto x = normal_values(c.rows() * c.stride(), 1), dout = normal_values(c.outputs(), 2);
    const PackedResult got = attend(c, x, dout), want = attend_on_cpu(c, x, dout);
    expect_close(got.out, as_doubles(want.out), 1e-2, c.text() + " out");
    expect_close(got.log_sum_exp, as_doubles(want.log_sum_exp), 1e-2, c.text() + " log sums");
    expect_close(without_gaps(c, got.gradient), as_doubles(without_gaps(c, want.gradient)), 1.5e-2, c.text() + " gradient");
  }
}

TEST_F(GpuTraining, PackedAttentionComesOutTheSameEveryTime) {
  const PackedCase c = packed_cases()[4];
  const auto x = normal_values(c.rows() * c.stride(), 1), dout = normal_values(c.outputs(), 2);
  EXPECT_EQ(attend(c, x, dout), attend(c, x, dout));
  const GradientFormat bf16(*gpu(), Format::kBF16);
  EXPECT_EQ(attend(c, x, dout), attend(c, x, dout));
}

TEST_F(GpuTraining, PackedAttentionStaysFiniteForLargeScores) {
  const PackedCase c{2, 1, 64, 0, {{0, 70}, {70, 10, 0, 70}}};
  const PackedResult got = attend(c, normal_values(c.rows() * c.stride(), 7, 30), normal_values(c.outputs(), 8));
  for (const auto* numbers : {&got.out, &got.log_sum_exp, &got.gradient})
    EXPECT_TRUE(std::all_of(numbers->begin(), numbers->end(), [](float x) { return std::isfinite(x); }));
}

// Of columns that are a rank's: one row has its target here, one elsewhere, one is far away.
TEST_F(GpuTraining, SumsAndSoftmaxOfSomeColumnsEqualTheProcessors) {
  for (const std::int64_t columns : {1, 15, 4096, 16033}) {
    for (const std::size_t shift : {0, 1}) {
      const std::int64_t rows = 3;
      const auto logits = normal_values(rows * columns, 3, 4);
      const std::vector<std::int32_t> targets{static_cast<std::int32_t>(columns - 1), kNotHere, 0};
      const std::vector<float> peaks{5, 7, 30}, factors{0.5f, 0, 0.125f}, at_targets{-0.5f, 9, -0.25f};
      std::vector<float> want = logits;
      std::vector<LogitSums> want_sums(3), sums(3);
      sum_logits(cpu, logits.data(), {targets.data(), rows, columns}, want_sums.data());
      softmax_gradient(cpu, want.data(), {targets.data(), rows, columns}, {peaks.data(), factors.data(), at_targets.data()});
      const GpuArray<float> on_gpu(device, logits, shift), gpu_peaks(device, peaks), gpu_factors(device, factors),
          gpu_at_targets(device, at_targets);
      const GpuArray<std::int32_t> gpu_targets(device, targets);
      const TargetRows target_rows{gpu_targets.data(), rows, columns};
      sum_logits(device, on_gpu.data(), target_rows, sums.data());
      for (std::size_t r = 0; r < 3; ++r) {
        EXPECT_EQ(sums[r].peak, want_sums[r].peak) << columns << " row " << r;
        EXPECT_EQ(sums[r].target, want_sums[r].target) << columns << " row " << r;
        EXPECT_NEAR(sums[r].sum, want_sums[r].sum, 1e-6 * want_sums[r].sum) << columns << " row " << r;
      }
      softmax_gradient(device, on_gpu.data(), target_rows, {gpu_peaks.data(), gpu_factors.data(), gpu_at_targets.data()});
      expect_close(on_gpu.read(), as_doubles(want), 2e-6, fmt::format("softmax of {} columns", columns));
    }
  }
}

TEST_F(GpuTraining, CrossEntropyAndItsGradientEqualTheFormula) {
  const std::int64_t rows = 5;
  for (const std::int64_t vocabulary : {1, 2, 15, 33, 4096, 32001}) {
    for (const std::size_t shift : {0, 1}) {
      auto logits = normal_values(rows * vocabulary, 3, 4);
      if (vocabulary > 2) {
        logits[as_size(vocabulary - 1)] = -INFINITY;  // ruled out
        logits[as_size(vocabulary)] = 60;
      }
      std::vector<float> weights;
      std::vector<std::int32_t> targets;
      for (std::int64_t r = 0; r < rows; ++r) {
        weights.push_back(r % 3 == 2 ? 0.0f : 0.25f * static_cast<float>(r + 1));
        targets.push_back(static_cast<std::int32_t>(r * 7919 % vocabulary));
      }
      Doubles want(logits.size()), want_log_probs(as_size(rows));
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::span<const float> row(logits.data() + r * vocabulary, as_size(vocabulary));
        const double peak = *std::ranges::max_element(row);
        double sum = 0;
        for (const float z : row) sum += std::exp(z - peak);
        const auto target = as_size(targets[as_size(r)]);
        want_log_probs[as_size(r)] = row[target] - peak - std::log(sum);
        for (std::size_t v = 0; v < row.size(); ++v) {
          const double share = v == target ? std::expm1(want_log_probs[as_size(r)]) : std::exp(row[v] - peak) / sum;
          want[as_size(r * vocabulary) + v] = weights[as_size(r)] * share;
        }
      }
      const GpuArray<float> on_gpu(device, logits, shift), weights_on_gpu(device, weights);
      const GpuArray<std::int32_t> targets_on_gpu(device, targets);
      const TargetRows target_rows{targets_on_gpu.data(), rows, vocabulary};
      Doubles alone(as_size(rows), NAN), log_probs(as_size(rows), NAN);
      target_log_probs(device, on_gpu.data(), target_rows, alone.data());
      cross_entropy_backward(device, on_gpu.data(), target_rows, weights_on_gpu.data(), log_probs.data());
      for (std::size_t r = 0; r < as_size(rows); ++r) {
        // The sum is of F32 exponentials.
        EXPECT_NEAR(log_probs[r], want_log_probs[r], 1e-6 * (1 + std::abs(want_log_probs[r]))) << vocabulary << " row " << r;
        EXPECT_EQ(alone[r], log_probs[r]) << vocabulary << " row " << r;
      }
      expect_close(on_gpu.read(), want, 2e-6, fmt::format("vocabulary {}", vocabulary));
    }
  }
}

// Also where a thread meets nothing else, or only what is ruled out.
TEST_F(GpuTraining, WhatIsNoNumberShowsInCrossEntropy) {
  for (const std::size_t vocabulary : {7, 8}) {  // one by one, and in packs
    for (const std::size_t at : {0, 3, 6}) {
      std::vector<float> logits(vocabulary, -INFINITY);
      logits[5] = 1;
      logits[at] = NAN;
      const GpuArray<float> on_gpu(device, logits);
      const GpuArray<std::int32_t> target(device, std::vector<std::int32_t>{5});
      double log_prob = 0;
      target_log_probs(device, on_gpu.data(), {target.data(), 1, static_cast<std::int64_t>(vocabulary)}, &log_prob);
      EXPECT_TRUE(std::isnan(log_prob)) << vocabulary << " " << at;
    }
  }
}

// A certain prediction: p - 1 would cancel.
TEST_F(GpuTraining, TheTargetsGradientDoesNotCancel) {
  const GpuArray<float> logits(device, std::vector<float>{20, 0, -INFINITY, 0}), weight(device, std::vector<float>{1});
  const GpuArray<std::int32_t> target(device, std::vector<std::int32_t>{0});
  double log_prob = 0;
  cross_entropy_backward(device, logits.data(), {target.data(), 1, 4}, weight.data(), &log_prob);
  EXPECT_NEAR(logits.read()[0], -2 * std::exp(-20.0), 2e-6 * std::exp(-20.0));
  EXPECT_EQ(logits.read()[2], 0);
  EXPECT_NEAR(log_prob, -2 * std::exp(-20.0), 1e-14);
}

TEST_F(GpuTraining, TargetsMustBeInTheVocabulary) {
  const GpuArray<float> logits(device, std::vector<float>{1, 2});
  double log_prob = 0;
  for (const std::int32_t outside : {-1, 2}) {
    const GpuArray<std::int32_t> target(device, std::vector<std::int32_t>{outside});
    expect_error(ErrorKind::kInternal, "row 0", [&] { target_log_probs(device, logits.data(), {target.data(), 1, 2}, &log_prob); });
  }
}

AdamwStep adamw_step(std::int64_t step) { return {1e-2, 0.9, 0.95, 1e-8, 0.1, step, 0.5}; }

TEST_F(GpuTraining, AdamwEqualsTheCpusOverSteps) {
  for (const std::int64_t count : {1, 15, 257, 40001}) {
    auto weight = normal_values(count, 1);
    std::vector<float> m(weight.size(), 0.0f), v = m;
    const GpuArray<float> weight_on_gpu(device, weight), m_on_gpu(device, m), v_on_gpu(device, v);
    for (std::int64_t step = 1; step <= 5; ++step) {
      const auto gradient = normal_values(count, 100 + static_cast<std::uint64_t>(step), 0.01);
      const GpuArray<float> gradient_on_gpu(device, gradient);
      adamw_update(device, adamw_step(step), weight_on_gpu.span(), gradient_on_gpu.span(), m_on_gpu.span(), v_on_gpu.span());
      adamw_update(cpu, adamw_step(step), weight, gradient, m, v);
    }
    expect_close(weight_on_gpu.read(), as_doubles(weight), 1e-6, "weight");
    expect_close(m_on_gpu.read(), as_doubles(m), 1e-6, "m");
    expect_close(v_on_gpu.read(), as_doubles(v), 1e-6, "v");
  }
}

// The states are the CPU's bit for bit, so a run can go on elsewhere.
TEST_F(GpuTraining, AdamwIn8BitsHasTheCpusStates) {
  for (const std::int64_t count : {1, 255, 256, 257, 5000}) {
    const std::size_t blocks = as_size((count + kAdamwBlock - 1) / kAdamwBlock);
    auto weight = normal_values(count, 1);
    std::vector<std::int8_t> m(weight.size());
    std::vector<std::uint8_t> v(weight.size());
    std::vector<float> m_scale(blocks), v_scale(blocks);
    const GpuArray<float> weight_on_gpu(device, weight), m_scale_on_gpu(device, m_scale), v_scale_on_gpu(device, v_scale);
    const GpuArray<std::int8_t> m_on_gpu(device, m);
    const GpuArray<std::uint8_t> v_on_gpu(device, v);
    for (std::int64_t step = 1; step <= 8; ++step) {
      auto gradient = normal_values(count, 100 + static_cast<std::uint64_t>(step), 0.01);
      for (std::size_t i = 0; i < gradient.size(); i += 10) gradient[i] = step % 2 == 0 ? 0.0f : 1e-6f;
      if (step == 8) std::ranges::fill(gradient, 0.0f);
      const GpuArray<float> gradient_on_gpu(device, gradient);
      adamw_update(device, adamw_step(step), weight_on_gpu.span(), gradient_on_gpu.span(),
                   {m_on_gpu.span(), v_on_gpu.span(), m_scale_on_gpu.span(), v_scale_on_gpu.span()});
      adamw_update(cpu, adamw_step(step), weight, gradient, {m, v, m_scale, v_scale});
      ASSERT_EQ(m_on_gpu.read(), m) << count << " step " << step;
      ASSERT_EQ(v_on_gpu.read(), v) << count << " step " << step;
      ASSERT_EQ(m_scale_on_gpu.read(), m_scale) << count << " step " << step;
      ASSERT_EQ(v_scale_on_gpu.read(), v_scale) << count << " step " << step;
    }
    expect_close(weight_on_gpu.read(), as_doubles(weight), 1e-6, "weight");
  }
}

TEST_F(GpuTraining, SumsOfSquaresAreThoseOfF64) {
  for (const std::int64_t count : {0, 1, 17, 5000, 300003}) {
    for (const std::size_t shift : {0, 1}) {
      const auto x = normal_values(count, 4, 3);
      double want = 0;
      for (const float value : x) want += static_cast<double>(value) * value;
      const GpuArray<float> on_gpu(device, x, shift);
      const double got = sum_of_squares(device, on_gpu.span());
      EXPECT_NEAR(got, want, 1e-12 * want) << count;
      EXPECT_EQ(got, sum_of_squares(device, on_gpu.span())) << count;
    }
  }
}

}  // namespace
}  // namespace puna
