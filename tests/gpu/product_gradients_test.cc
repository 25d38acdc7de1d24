// SPDX-License-Identifier: Apache-2.0
// The gradients of the GPU's products against plain loops in F64, in F32 and in BF16.
#include "gpu/gpu_fixture.h"
#include "kernels/matmul.h"

namespace puna {
namespace {

struct GradientCase {
  std::int64_t t, n, k, stride;  // rows of dY are `stride` apart
};
constexpr GradientCase kGradientCases[] = {{1, 1, 1, 1},       {5, 3, 7, 4},       {13, 33, 65, 33},
                                           {64, 96, 256, 100}, {100, 70, 257, 90}, {70, 16, 1024, 16}};

class GpuProductGradients : public GpuTest {};

TEST_F(GpuProductGradients, OfInputsEqualTheLoops) {
  for (const GradientCase& c : kGradientCases) {
    for (const Format format : {Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3, Format::kQ8_0, Format::kQ4_K}) {
      if (!is_float(format) && c.k % 256 != 0) continue;
      const std::string what = fmt::format("{} T {} N {} K {}", info(format).name, c.t, c.n, c.k);
      const HostWeight first(format, c.n, c.k, 1), second(Format::kF32, c.n, c.k, 2);
      const GpuWeight first_on_gpu(device, first.tensor), second_on_gpu(device, second.tensor);
      const auto dy = normal_values(c.t * c.stride, 3), other_dy = normal_values(c.t * c.stride, 4),
                 before = normal_values(c.t * c.k, 5);
      const GpuArray<float> dy_on_gpu(device, dy), other_on_gpu(device, other_dy), dx(device, as_size(c.t * c.k)),
          added(device, before);
      const OutputGradient both[] = {{&first_on_gpu.tensor, dy_on_gpu.data(), c.stride},
                                     {&second_on_gpu.tensor, other_on_gpu.data(), c.stride}};
      matmul_backward_input(device, both, c.t, dx.data(), Gradient::kReplace);
      matmul_backward_input(device, {both, 1}, c.t, added.data(), Gradient::kAdd);

      // Of BF16 weights dY is rounded to BF16 as well.
      const Doubles read = format == Format::kBF16 ? to_format(as_doubles(dy), Format::kBF16) : as_doubles(dy);
      Doubles of_both(as_size(c.t * c.k)), with_before = as_doubles(before);
      for (std::int64_t t = 0; t < c.t; ++t) {
        for (std::int64_t n = 0; n < c.n; ++n) {
          const auto from = as_size(t * c.stride + n);
          for (std::int64_t k = 0; k < c.k; ++k) {
            const double part = read[from] * first.values[as_size(n * c.k + k)];
            of_both[as_size(t * c.k + k)] += part + static_cast<double>(other_dy[from]) * second.values[as_size(n * c.k + k)];
            with_before[as_size(t * c.k + k)] += part;
          }
        }
      }
      expect_close(dx.read(), of_both, 1e-5, what + ", two products");
      expect_close(added.read(), with_before, 1e-5, what + ", added");
    }
  }
}

TEST_F(GpuProductGradients, OfWeightsEqualTheLoops) {
  for (const GradientCase& c : kGradientCases) {
    const std::string what = fmt::format("T {} N {} K {}", c.t, c.n, c.k);
    const auto dy = normal_values(c.t * c.stride, 3), x = normal_values(c.t * c.k, 4), before = normal_values(c.n * c.k, 5);
    const GpuArray<float> dy_on_gpu(device, dy), x_on_gpu(device, x), dw(device, as_size(c.n * c.k)), added(device, before);
    matmul_backward_weight(device, {dy_on_gpu.data(), c.stride, x_on_gpu.data(), c.n, c.k, dw.data()}, c.t, Gradient::kReplace);
    matmul_backward_weight(device, {dy_on_gpu.data(), c.stride, x_on_gpu.data(), c.n, c.k, added.data()}, c.t, Gradient::kAdd);
    Doubles want(as_size(c.n * c.k));
    for (std::int64_t t = 0; t < c.t; ++t) {
      for (std::int64_t n = 0; n < c.n; ++n) {
        for (std::int64_t k = 0; k < c.k; ++k)
          want[as_size(n * c.k + k)] += static_cast<double>(dy[as_size(t * c.stride + n)]) * x[as_size(t * c.k + k)];
      }
    }
    expect_close(dw.read(), want, 1e-5, what);
    for (std::size_t i = 0; i < want.size(); ++i) want[i] += before[i];
    expect_close(added.read(), want, 1e-5, what + ", added");
  }
}

// Everything that is read is rounded to BF16, and the sums are in F32.
TEST_F(GpuProductGradients, InBf16AreThoseOfRoundedNumbers) {
  const GradientFormat bf16(*gpu(), Format::kBF16);
  for (const GradientCase& c : kGradientCases) {
    for (const Format format : {Format::kF32, Format::kBF16, Format::kQ4_K}) {
      if (!is_float(format) && c.k % 256 != 0) continue;
      const std::string what = fmt::format("{} T {} N {} K {}", info(format).name, c.t, c.n, c.k);
      const HostWeight w(format, c.n, c.k, 1);
      const GpuWeight w_on_gpu(device, w.tensor);
      const auto dy = normal_values(c.t * c.stride, 3), x = normal_values(c.t * c.k, 4);
      const GpuArray<float> dy_on_gpu(device, dy), x_on_gpu(device, x), dx(device, as_size(c.t * c.k)),
          dw(device, as_size(c.n * c.k));
      const OutputGradient product{&w_on_gpu.tensor, dy_on_gpu.data(), c.stride};
      matmul_backward_input(device, {&product, 1}, c.t, dx.data(), Gradient::kReplace);
      matmul_backward_weight(device, {dy_on_gpu.data(), c.stride, x_on_gpu.data(), c.n, c.k, dw.data()}, c.t, Gradient::kReplace);
      // Quantized weights come by way of F16.
      const Doubles decoded = is_float(format) ? as_doubles(w.values) : to_format(as_doubles(w.values), Format::kF16);
      const Doubles of_dy = to_format(as_doubles(dy), Format::kBF16), of_w = to_format(decoded, Format::kBF16),
                    of_x = to_format(as_doubles(x), Format::kBF16);
      Doubles want_dx(as_size(c.t * c.k)), want_dw(as_size(c.n * c.k));
      for (std::int64_t t = 0; t < c.t; ++t) {
        for (std::int64_t n = 0; n < c.n; ++n) {
          const double factor = of_dy[as_size(t * c.stride + n)];
          for (std::int64_t k = 0; k < c.k; ++k) {
            want_dx[as_size(t * c.k + k)] += factor * of_w[as_size(n * c.k + k)];
            want_dw[as_size(n * c.k + k)] += factor * of_x[as_size(t * c.k + k)];
          }
        }
      }
      expect_close(dx.read(), want_dx, 1e-4, what + " dx");
      expect_close(dw.read(), want_dw, 1e-5, what + " dw");
    }
  }
}

// Both gradients of several products at once are those of one after the other: dX replaced, each dW added to.
TEST_F(GpuProductGradients, AtOnceAreThoseOneByOne) {
  for (const Format format : {Format::kF32, Format::kBF16}) {
    const GradientFormat in_format(*gpu(), format);
    for (const GradientCase& c : kGradientCases) {
      const std::string what = fmt::format("{} T {} N {} K {}", info(format).name, c.t, c.n, c.k);
      const HostWeight first(Format::kF32, c.n, c.k, 1), second(Format::kBF16, c.n, c.k, 2);
      const GpuWeight first_on_gpu(device, first.tensor), second_on_gpu(device, second.tensor);
      const auto before = normal_values(c.n * c.k, 5);
      const GpuArray<float> x(device, normal_values(c.t * c.k, 4)), dy(device, normal_values(c.t * c.stride, 3)),
          dx(device, as_size(c.t * c.k)), dx_apart(device, as_size(c.t * c.k)), dw(device, before), dw_apart(device, before);
      const ProductGradient both[] = {{&first_on_gpu.tensor, dy.data(), c.stride, dw.data()},
                                      {&second_on_gpu.tensor, dy.data(), c.stride, nullptr}};
      matmul_backward(device, both, x.data(), c.t, dx.data());
      const OutputGradient apart[] = {{&first_on_gpu.tensor, dy.data(), c.stride}, {&second_on_gpu.tensor, dy.data(), c.stride}};
      matmul_backward_input(device, apart, c.t, dx_apart.data(), Gradient::kReplace);
      matmul_backward_weight(device, {dy.data(), c.stride, x.data(), c.n, c.k, dw_apart.data()}, c.t, Gradient::kAdd);
      expect_close(dx.read(), as_doubles(dx_apart.read()), 1e-5, what + " dx");
      expect_close(dw.read(), as_doubles(dw_apart.read()), 1e-5, what + " dw");
    }
  }
}

// No rows: nothing is added, and what is replaced becomes zero.
TEST_F(GpuProductGradients, OfNoRowsAreZero) {
  const std::vector<float> before = {1, 2, 3, 4, 5, 6};
  const GpuArray<float> dw(device, before), none(device, std::size_t{0});
  matmul_backward_weight(device, {none.data(), 2, none.data(), 2, 3, dw.data()}, 0, Gradient::kAdd);
  EXPECT_EQ(dw.read(), before);
  matmul_backward_weight(device, {none.data(), 2, none.data(), 2, 3, dw.data()}, 0, Gradient::kReplace);
  EXPECT_EQ(dw.read(), std::vector<float>(6, 0.0f));
}

}  // namespace
}  // namespace puna
