// SPDX-License-Identifier: Apache-2.0
// The GPU's operations between the products: norms, SwiGLU, rotary positions, and rows moved, looked up and added. Where nothing
// but one sum in order is computed, the bits are the CPU's; elsewhere the formula in F64, to the rounding of F32.
#include <array>
#include <limits>
#include <numeric>

#include "gpu/gpu_fixture.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "kernels/swiglu.h"

namespace puna {
namespace {

constexpr double kF32Tolerance = 1e-6;  // a few roundings of 2^-24, and hardware's exp

struct RowsCase {
  std::int64_t rows, width;
  std::size_t shift = 0;  // numbers that arrays begin behind an aligned place
  std::string text() const { return fmt::format("[{}, {}] {} behind", rows, width, shift); }
};
constexpr RowsCase kRowsCases[] = {{1, 1},     {3, 7},       {5, 64},    {2, 257},  {1, 4096},
                                   {33, 2048}, {4, 1024, 1}, {2, 14336}, {300, 96}, {2, 70000}};

class GpuElementwise : public GpuTest {};

TEST_F(GpuElementwise, NormsEqualTheFormula) {
  const float eps = 1e-5f;
  for (const RowsCase& c : kRowsCases) {
    auto x = normal_values(c.rows * c.width, 1), weight = normal_values(c.width, 2);
    std::fill_n(x.begin(), c.width, 0.0f);
    if (c.rows > 1) std::fill_n(x.begin() + c.width, c.width, 1e15f);
    Doubles want = as_doubles(x);
    for (std::int64_t t = 0; t < c.rows; ++t) {
      double square = 0;
      for (std::int64_t d = 0; d < c.width; ++d) square += want[as_size(t * c.width + d)] * want[as_size(t * c.width + d)];
      const double factor = 1 / std::sqrt(square / static_cast<double>(c.width) + static_cast<double>(eps));
      for (std::int64_t d = 0; d < c.width; ++d) want[as_size(t * c.width + d)] *= factor * weight[as_size(d)];
    }
    const GpuArray<float> in_place(device, x, c.shift), weight_on_gpu(device, weight, c.shift), y(device, x.size(), c.shift);
    rms_norm_forward(device, in_place.data(), weight_on_gpu.data(), eps, c.rows, c.width, y.data());
    rms_norm_forward(device, in_place.data(), weight_on_gpu.data(), eps, c.rows, c.width, in_place.data());
    expect_close(y.read(), want, 2 * kF32Tolerance, c.text());
    EXPECT_EQ(in_place.read(), y.read()) << c.text();
  }
}

TEST_F(GpuElementwise, NormsGradientsEqualTheFormula) {
  const float eps = 1e-5f;
  for (const RowsCase& c : kRowsCases) {
    const auto x = normal_values(c.rows * c.width, 1), weight = normal_values(c.width, 2), dy = normal_values(c.rows * c.width, 3),
               dx_before = normal_values(c.rows * c.width, 4), dweight_before = normal_values(c.width, 5);
    Doubles dx = as_doubles(dx_before), dweight = as_doubles(dweight_before);
    for (std::int64_t t = 0; t < c.rows; ++t) {
      double square = 0, mixed = 0;
      for (std::int64_t d = 0; d < c.width; ++d) {
        const auto i = as_size(t * c.width + d);
        square += static_cast<double>(x[i]) * x[i];
        mixed += static_cast<double>(weight[as_size(d)]) * dy[i] * x[i];
      }
      const auto width = static_cast<double>(c.width);
      const double r = 1 / std::sqrt(square / width + static_cast<double>(eps));
      for (std::int64_t d = 0; d < c.width; ++d) {
        const auto i = as_size(t * c.width + d);
        dx[i] += r * weight[as_size(d)] * dy[i] - r * r * r * x[i] * mixed / width;
        dweight[as_size(d)] += static_cast<double>(dy[i]) * x[i] * r;
      }
    }
    const GpuArray<float> x_on_gpu(device, x, c.shift), weight_on_gpu(device, weight, c.shift), dy_on_gpu(device, dy, c.shift),
        dx_on_gpu(device, dx_before, c.shift), dx_alone(device, dx_before, c.shift),
        dweight_on_gpu(device, dweight_before, c.shift);
    rms_norm_backward(device,
                      {x_on_gpu.data(), weight_on_gpu.data(), dy_on_gpu.data(), eps, dx_on_gpu.data(), dweight_on_gpu.data()},
                      c.rows, c.width);
    rms_norm_backward(device, {x_on_gpu.data(), weight_on_gpu.data(), dy_on_gpu.data(), eps, dx_alone.data(), nullptr}, c.rows,
                      c.width);
    expect_close(dx_on_gpu.read(), dx, 2 * kF32Tolerance, c.text() + " dx");
    expect_close(dweight_on_gpu.read(), dweight, 2 * kF32Tolerance, c.text() + " dweight");
    EXPECT_EQ(dx_alone.read(), dx_on_gpu.read()) << c.text();
  }
}

TEST_F(GpuElementwise, SumsAndScalesHaveTheCpusBits) {
  for (const RowsCase& c : kRowsCases) {
    auto x = normal_values(c.rows * c.width, 1);
    const auto delta = normal_values(c.rows * c.width, 2);
    const GpuArray<float> x_on_gpu(device, x, c.shift), delta_on_gpu(device, delta, c.shift);
    add_forward(device, x_on_gpu.data(), delta_on_gpu.data(), c.rows, c.width);
    scale_values(device, x_on_gpu.data(), c.rows * c.width, 0.3f);
    scale_values(device, x_on_gpu.data(), c.rows * c.width, 1);
    add_forward(cpu, x.data(), delta.data(), c.rows, c.width);
    scale_values(cpu, x.data(), c.rows * c.width, 0.3f);
    EXPECT_EQ(x_on_gpu.read(), x) << c.text();

    for (const std::int64_t gap : {1, 4}) {
      auto y = normal_values(c.rows * (c.width + gap), 3);
      const GpuArray<float> y_on_gpu(device, y, c.shift);
      add_strided(device, y_on_gpu.data(), c.width + gap, delta_on_gpu.data(), c.rows, c.width);
      add_strided(cpu, y.data(), c.width + gap, delta.data(), c.rows, c.width);
      EXPECT_EQ(y_on_gpu.read(), y) << c.text();
    }
  }
}

TEST_F(GpuElementwise, SwigluEqualsTheFormula) {
  for (const RowsCase& c : kRowsCases) {
    auto gate = normal_values(c.rows * c.width, 1, 3);
    const auto up = normal_values(c.rows * c.width, 2), dout = normal_values(c.rows * c.width, 3);
    const float extremes[] = {-1000, -100, -88, -1e-30f, 0, 1e-30f, 88, 100, 1000};
    for (std::size_t i = 0; i < std::min(gate.size(), std::size(extremes)); ++i) gate[gate.size() - 1 - i] = extremes[i];
    Doubles out(gate.size()), dgate(gate.size()), dup(gate.size());
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = gate[i], s = 1 / (1 + std::exp(-g));
      out[i] = g * s * up[i];
      dgate[i] = dout[i] * up[i] * s * (1 + g * (1 - s));
      dup[i] = dout[i] * g * s;
    }
    const GpuArray<float> gate_on_gpu(device, gate, c.shift), up_on_gpu(device, up, c.shift), dout_on_gpu(device, dout, c.shift),
        out_on_gpu(device, gate.size(), c.shift), dgate_on_gpu(device, gate.size(), c.shift),
        dup_on_gpu(device, gate.size(), c.shift);
    swiglu_forward(device, gate_on_gpu.data(), up_on_gpu.data(), c.rows, c.width, out_on_gpu.data());
    swiglu_backward(device, {gate_on_gpu.data(), up_on_gpu.data(), dout_on_gpu.data(), dgate_on_gpu.data(), dup_on_gpu.data()},
                    c.rows, c.width);
    expect_close(out_on_gpu.read(), out, kF32Tolerance, c.text() + " out");
    expect_close(dgate_on_gpu.read(), dgate, kF32Tolerance, c.text() + " dgate");
    expect_close(dup_on_gpu.read(), dup, kF32Tolerance, c.text() + " dup");

    // In place: dgate over dout, dup over up; out over gate.
    swiglu_backward(device, {gate_on_gpu.data(), up_on_gpu.data(), dout_on_gpu.data(), dout_on_gpu.data(), up_on_gpu.data()},
                    c.rows, c.width);
    EXPECT_EQ(dout_on_gpu.read(), dgate_on_gpu.read()) << c.text();
    EXPECT_EQ(up_on_gpu.read(), dup_on_gpu.read()) << c.text();
    const GpuArray<float> up_again(device, up, c.shift);
    swiglu_forward(device, gate_on_gpu.data(), up_again.data(), c.rows, c.width, gate_on_gpu.data());
    EXPECT_EQ(gate_on_gpu.read(), out_on_gpu.read()) << c.text();
  }
}

TEST_F(GpuElementwise, RopeEqualsTheRotation) {
  struct Turned {
    std::int64_t rows, heads, width, gap;
  };
  for (const Turned& c :
       {Turned{1, 1, 2, 0}, Turned{7, 3, 64, 0}, Turned{5, 8, 128, 32}, Turned{3, 2, 6, 5}, Turned{200, 2, 48, 0}}) {
    std::vector<std::int32_t> positions(as_size(c.rows));
    for (std::size_t t = 0; t < positions.size(); ++t) positions[t] = static_cast<std::int32_t>(t * t * 7919 % 131072);
    positions.back() = 131071;
    std::vector<double> frequencies;
    for (std::int64_t p = 0; p < c.width / 2; ++p)
      frequencies.push_back(std::pow(500000.0, -2.0 * static_cast<double>(p) / static_cast<double>(c.width)));
    Doubles want_table;
    for (const std::int32_t position : positions) {
      for (const double frequency : frequencies) {
        want_table.push_back(std::cos(position * frequency));
        want_table.push_back(std::sin(position * frequency));
      }
    }
    const GpuArray<double> frequencies_on_gpu(device, frequencies);
    const GpuArray<std::int32_t> positions_on_gpu(device, positions);
    const GpuArray<float> table(device, want_table.size());
    rope_table(device, frequencies_on_gpu.span(), positions_on_gpu.span(), table.data());
    const auto got_table = table.read();
    for (std::size_t i = 0; i < want_table.size(); ++i) ASSERT_NEAR(got_table[i], want_table[i], 1e-7) << i;

    for (const RopePairing pairing : {RopePairing::kNeighbours, RopePairing::kHalves}) {
      const std::int64_t stride = c.heads * c.width + c.gap;
      auto turned = normal_values(c.rows * stride, 1);
      const GpuArray<float> x(device, turned);
      const RopeRows rows{x.data(), c.rows, c.heads, c.width, stride};
      rope_forward(device, rows, table.data(), pairing);
      rope_forward(cpu, {turned.data(), c.rows, c.heads, c.width, stride}, got_table.data(), pairing);
      expect_close(x.read(), as_doubles(turned), kF32Tolerance, fmt::format("[{}, {}, {}]", c.rows, c.heads, c.width));
      rope_backward(device, rows, table.data(), pairing);
      expect_close(x.read(), as_doubles(normal_values(c.rows * stride, 1)), kF32Tolerance, "back");
    }
  }
}

TEST_F(GpuElementwise, EmbeddingsAreDecodedRows) {
  for (const FormatInfo& format : formats()) {
    for (const std::int64_t width : {256, 1536, 17}) {
      if (width % format.block_values != 0) continue;
      const HostWeight embedding(format.format, 40, width, 1);
      const GpuWeight on_gpu(device, embedding.tensor);
      for (const std::size_t count : {1, 5, 130}) {
        std::vector<std::int32_t> tokens(count);
        Doubles want;
        for (std::size_t t = 0; t < count; ++t) {
          tokens[t] = static_cast<std::int32_t>((t * 17 + 39) % 40);
          want.insert(want.end(), embedding.values.begin() + tokens[t] * width, embedding.values.begin() + (tokens[t] + 1) * width);
        }
        const GpuArray<std::int32_t> tokens_on_gpu(device, tokens);
        const GpuArray<float> x(device, want.size());
        embed_forward(device, on_gpu.tensor, tokens_on_gpu.span(), x.data());
        expect_close(x.read(), want, kF32Tolerance, fmt::format("{} {} x {}", format.name, count, width));
      }
    }
  }
}

TEST_F(GpuElementwise, EmbeddingsGradientsHaveTheCpusBits) {
  for (const RowsCase& c : {RowsCase{1, 1}, RowsCase{9, 64}, RowsCase{700, 33}, RowsCase{300, 256}}) {
    std::vector<std::int32_t> tokens(as_size(c.rows));
    for (std::size_t t = 0; t < tokens.size(); ++t) tokens[t] = static_cast<std::int32_t>(random_bits(1, 2, t) % 11);
    const auto dx = normal_values(c.rows * c.width, 1);
    auto gradient = normal_values(12 * c.width, 2);
    const GpuArray<std::int32_t> tokens_on_gpu(device, tokens);
    const GpuArray<float> dx_on_gpu(device, dx), gradient_on_gpu(device, gradient);
    embed_backward(device, tokens_on_gpu.span(), dx_on_gpu.data(), c.width, gradient_on_gpu.data());
    embed_backward(cpu, tokens, dx.data(), c.width, gradient.data());
    EXPECT_EQ(gradient_on_gpu.read(), gradient) << c.text();
  }
}

TEST_F(GpuElementwise, RowsMoveAlsoInPlace) {
  for (const RowsCase& c : kRowsCases) {
    const auto x = normal_values(c.rows * c.width, 1);
    for (const std::int32_t step : {1, 2, 3}) {
      std::vector<std::int32_t> rows;
      for (auto row = static_cast<std::int32_t>(c.rows) - 1; row >= 0; row -= step) rows.insert(rows.begin(), row);
      std::vector<float> want, sum = normal_values(c.rows * c.width, 2);
      for (const std::int32_t row : rows) want.insert(want.end(), x.begin() + row * c.width, x.begin() + (row + 1) * c.width);
      const GpuArray<std::int32_t> rows_on_gpu(device, rows);
      const GpuArray<float> x_on_gpu(device, x, c.shift), y(device, want.size(), c.shift), sum_on_gpu(device, sum, c.shift);
      gather_rows(device, x_on_gpu.data(), rows_on_gpu.span(), c.width, y.data());
      EXPECT_EQ(y.read(), want) << c.text();
      scatter_add_rows(device, y.data(), rows_on_gpu.span(), c.width, sum_on_gpu.data());
      scatter_add_rows(cpu, want.data(), rows, c.width, sum.data());
      EXPECT_EQ(sum_on_gpu.read(), sum) << c.text();
      gather_rows(device, x_on_gpu.data(), rows_on_gpu.span(), c.width, x_on_gpu.data());
      auto moved = x_on_gpu.read();
      moved.resize(want.size());
      EXPECT_EQ(moved, want) << c.text() << " in place";
    }
  }
}

TEST_F(GpuElementwise, TheLargestIsFoundWithTiesAndNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::int64_t width : {1, 2, 31, 257, 4096, 33000}) {
    const std::int64_t count = 9;
    auto x = normal_values(count * width, 1);
    const auto row = [&](std::int64_t r) { return std::span(x).subspan(as_size(r * width), as_size(width)); };
    std::ranges::fill(row(1), 2.0f);
    std::ranges::fill(row(2), nan);
    std::ranges::fill(row(3), -INFINITY);
    row(4).front() = nan;
    row(5).back() = INFINITY;
    std::ranges::fill(row(6), -0.0f);
    row(6).back() = 0.0f;
    std::ranges::fill(row(7), nan);
    row(7).back() = -1e30f;
    row(8)[as_size(width / 2)] = 100, row(8).back() = 100;
    std::vector<std::int32_t> want(as_size(count));
    std::vector<float> want_values(as_size(count));
    arg_max_rows(cpu, x.data(), count, width, {want.data(), want_values.data()});
    const GpuArray<float> x_on_gpu(device, x);
    const GpuArray<std::int32_t> places(device, as_size(count));
    const GpuArray<float> values(device, as_size(count));
    arg_max_rows(device, x_on_gpu.data(), count, width, {places.data(), values.data()});
    EXPECT_EQ(places.read(), want) << width;
    const std::vector<float> got_values = values.read();
    for (std::size_t r = 0; r < got_values.size(); ++r) {
      EXPECT_TRUE(got_values[r] == want_values[r] || (std::isnan(got_values[r]) && std::isnan(want_values[r])))
          << width << " " << r;
    }
  }
}

TEST_F(GpuElementwise, RoundingIsTheFormatsOwn) {
  std::vector<float> values = normal_values(3001, 1, 100);
  for (const float value : {0.0f, -0.0f, 448.0f, 464.0f, 465.0f, -1e6f, 65504.0f, 65519.0f, 65520.0f, 1e-8f, 5.96e-8f, 2e-3f,
                            0.0009765625f, 1e-40f, 3.3e38f, 1.00390625f, 1.01171875f})
    values.push_back(value);
  for (const Format format : {Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3}) {
    for (const std::size_t count : {values.size(), std::size_t{1}, std::size_t{64}}) {
      for (const std::size_t shift : {0, 1}) {
        const std::span<const float> some = std::span<const float>(values).last(count);
        std::vector<std::byte> want(as_size(format_bytes(format, static_cast<std::int64_t>(count))));
        info(format).encode(some.data(), want.data(), static_cast<std::int64_t>(count));
        const GpuArray<float> on_gpu(device, some, shift);
        const GpuArray<std::byte> rounded(device, want.size(), 4 * shift);
        round_values(device, on_gpu.span(), format, rounded.data());
        EXPECT_EQ(rounded.read(), want) << info(format).name << " " << count;
      }
    }
  }
}

}  // namespace
}  // namespace puna
