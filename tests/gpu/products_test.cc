// SPDX-License-Identifier: Apache-2.0
// The GPU's products of every weight format against plain loops in F64. What the GPU rounds before it multiplies (activations and
// decoded weights of products of many rows) is rounded in the same way here, so that tolerances can be those of the sums.
#include "kernels/matmul.h"

#include <array>
#include <optional>

#include "gpu/gpu_fixture.h"

namespace puna {
namespace {

struct ProductCase {
  std::int64_t rows, n, k;  // T, N, K
  std::int64_t gap = 0;     // between rows of y
  bool residual = false, normed = false;

  std::int64_t stride() const { return n + gap; }
  std::string text(Format format) const {
    return fmt::format("{} [{}, {}] x [{}, {}]{}{}, stride {}", info(format).name, rows, k, n, k, residual ? " + residual" : "",
                       normed ? ", normed" : "", stride());
  }
};

constexpr float kEps = 1e-5f;
constexpr std::array kFloatFormats = {Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3};

// As kernels/cuda/round_activations.h says: s = max|x| / 448 of a row, |x| counted as 1200 at most.
Doubles to_scaled_8_bits(Doubles x, std::int64_t rows, std::int64_t k) {
  for (std::int64_t t = 0; t < rows; ++t) {
    const std::span<double> row(x.data() + t * k, as_size(k));
    double peak = 0;
    for (const double value : row) peak = std::max(peak, std::abs(value));
    const double scale = std::min(peak, 1200.0) / 448;
    if (scale == 0) continue;
    for (double& value : row) value /= scale;
    const Doubles rounded = to_format({row.begin(), row.end()}, Format::kF8E4M3);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = rounded[i] * scale;
  }
  return x;
}

// X [T, K], or rms_norm(X) where there is a norm.
Doubles exact_x(const std::vector<float>& x, const std::vector<float>& norm, std::int64_t k) {
  Doubles exact = as_doubles(x);
  const auto width = as_size(k);
  for (std::size_t row = 0; row < x.size() && !norm.empty(); row += width) {
    double square = 0;
    for (std::size_t i = row; i < row + width; ++i) square += exact[i] * exact[i];
    const double factor = 1 / std::sqrt(square / static_cast<double>(k) + static_cast<double>(kEps));
    for (std::size_t i = row; i < row + width; ++i) exact[i] *= factor * norm[i - row];
  }
  return exact;
}

// y [T, N] = X W^T
Doubles product_of(const Doubles& x, const Doubles& w, std::int64_t rows, std::int64_t n, std::int64_t k) {
  Doubles y(as_size(rows * n));
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t row = 0; row < n; ++row) {
      double sum = 0;
      for (std::int64_t i = 0; i < k; ++i) sum += x[as_size(t * k + i)] * w[as_size(row * k + i)];
      y[as_size(t * n + row)] = sum;
    }
  }
  return y;
}

// A product and how far the GPU's may be from it.
struct Expected {
  Doubles y;  // [T, N]
  double tolerance;
  std::optional<Doubles> otherwise = {};  // where the GPU cannot multiply 8 bits by 8 bits
};

// Few rows: F32. Many rows: F32, or 16 bits by 16 bits summed in F32, where a number that lies between
// two of the 16-bit ones may have gone either way; F8E4M3 by F8E4M3 is summed with fewer bits on Hopper.
Expected expected_product(const HostWeight& w, const Doubles& x, std::int64_t rows, std::int64_t n, std::int64_t k) {
  const Format format = w.tensor.format;
  const Doubles values = as_doubles(w.values);
  if (rows < kPanelRows || format == Format::kF32) return {product_of(x, values, rows, n, k), 1e-5};
  const auto by_bf16 = [&] { return product_of(to_format(x, Format::kBF16), to_format(values, Format::kBF16), rows, n, k); };
  if (format == Format::kBF16) return {by_bf16(), 1e-3};
  if (format != Format::kF8E4M3) return {product_of(to_format(x, Format::kF16), to_format(values, Format::kF16), rows, n, k), 2e-4};
  if (k % 16 != 0 || n % 16 != 0) return {by_bf16(), 1e-3};
  return {product_of(to_scaled_8_bits(x, rows, k), values, rows, n, k), 1e-2, by_bf16()};
}

void expect_product(const std::vector<float>& got, const Expected& expected, const std::string& what) {
  if (expected.otherwise && relative_error(got, *expected.otherwise) < 1e-3) return;
  expect_close(got, expected.y, expected.tolerance, what);
}

class GpuProducts : public GpuTest {
 protected:
  // X [T, K] in the form that `normed` asks for.
  Activations prepare(ActivationBuffer& buffer, const GpuArray<float>& x, const GpuArray<float>* norm, std::int64_t rows,
                      std::int64_t k) {
    if (norm == nullptr) return buffer.prepare(x.data(), rows, k);
    return buffer.prepare_normed(device, x.data(), {norm->data(), kEps, nullptr}, rows, k);
  }

  // y [T, stride]
  std::vector<float> run(const HostWeight& w, const ProductCase& c, const std::vector<float>& x, const std::vector<float>& norm,
                         const std::vector<float>& residual) {
    const GpuWeight weight(device, w.tensor);
    const GpuArray<float> on_gpu(device, x), norm_on_gpu(device, norm), residual_on_gpu(device, residual),
        y(device, as_size(c.rows * c.stride()));
    ActivationBuffer buffer(device, c.rows, c.k);
    Activations activations = prepare(buffer, on_gpu, c.normed ? &norm_on_gpu : nullptr, c.rows, c.k);
    const Product product{&weight.tensor, y.data(), c.stride(), c.residual ? residual_on_gpu.data() : nullptr};
    matmul_forward(device, activations, {&product, 1});
    return y.read();
  }

  void check(const HostWeight& w, const ProductCase& c) {
    const std::string what = c.text(w.tensor.format);
    const auto x = normal_values(c.rows * c.k, 2), residual = normal_values(c.rows * c.stride(), 4);
    auto norm = normal_values(c.k, 3, 0.2);
    for (float& value : norm) value += 1;
    Expected expected = expected_product(w, exact_x(x, c.normed ? norm : std::vector<float>(), c.k), c.rows, c.n, c.k);
    const auto y = run(w, c, x, norm, residual);
    std::vector<float> dense;
    for (std::int64_t t = 0; t < c.rows; ++t) {
      for (std::int64_t i = 0; i < c.stride(); ++i) {
        const auto at = as_size(t * c.stride() + i);
        if (i >= c.n) {
          ASSERT_TRUE(std::isnan(y[at])) << what << ": written between the rows";
          continue;
        }
        dense.push_back(y[at]);
        if (!c.residual) continue;
        expected.y[as_size(t * c.n + i)] += residual[at];
        if (expected.otherwise) (*expected.otherwise)[as_size(t * c.n + i)] += residual[at];
      }
    }
    expect_product(dense, expected, what);
  }
};

class GpuProductsOfFormat : public GpuProducts, public testing::WithParamInterface<Format> {};

TEST_P(GpuProductsOfFormat, EqualTheDecodedProducts) {
  for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{48, 512}, {33, 256}, {7, 1536}}) {
    const HostWeight w(GetParam(), n, k, 1);
    for (const std::int64_t rows : {1, 2, 5, 7, 8, 33, 200}) {
      check(w, {rows, n, k});
      check(w, {.rows = rows, .n = n, .k = k, .gap = 3, .residual = true});
      check(w, {.rows = rows, .n = n, .k = k, .gap = 0, .residual = rows % 2 == 1, .normed = true});
    }
  }
}

// So long that not all rows of X, or not one, fit where the products of few rows keep them.
TEST_P(GpuProductsOfFormat, TakeLongRows) {
  const HostWeight w(GetParam(), 9, 14336, 5);
  for (const std::int64_t rows : {1, 7, 9}) check(w, {.rows = rows, .n = 9, .k = 14336, .normed = rows == 7});
  const HostWeight longer(GetParam(), 3, 65536, 6);
  check(longer, {.rows = 2, .n = 3, .k = 65536});
}

TEST_P(GpuProductsOfFormat, StayFinite) {
  const std::int64_t n = 16, k = 256;
  const HostWeight w(GetParam(), n, k, 7);
  for (const std::int64_t rows : {3, 9}) {
    for (const float value : {0.0f, 1e-40f, -1e-38f, 1e30f}) {
      const auto y = run(w, {rows, n, k}, std::vector<float>(as_size(rows * k), value), {}, {});
      EXPECT_TRUE(std::all_of(y.begin(), y.end(), [](float v) { return std::isfinite(v); })) << rows << " rows of " << value;
    }
  }
}

TEST_P(GpuProductsOfFormat, GatedOnesEqualTheirParts) {
  const std::int64_t n = 48, k = 512;
  const HostWeight gate(GetParam(), n, k, 8), up(GetParam(), n, k, 9);
  const GpuWeight gate_on_gpu(device, gate.tensor), up_on_gpu(device, up.tensor);
  auto norm = normal_values(k, 3, 0.2);
  for (float& value : norm) value += 1;
  const GpuArray<float> norm_on_gpu(device, norm);
  for (const std::int64_t rows : {1, 3, 7, 8, 33}) {
    const bool normed = rows % 2 == 1, in_place = rows == 3 || rows == 33;
    const auto x = normal_values(rows * k, 2);
    const GpuArray<float> x_on_gpu(device, x), first(device, as_size(rows * n)), second(device, as_size(rows * n)),
        apart(device, as_size(rows * n));
    const GpuArray<float>& out = in_place ? first : apart;
    ActivationBuffer buffer(device, rows, k);
    Activations activations = prepare(buffer, x_on_gpu, normed ? &norm_on_gpu : nullptr, rows, k);
    gated_matmul_forward(device, activations, {&gate_on_gpu.tensor, &up_on_gpu.tensor, first.data(), second.data(), out.data()});

    const Doubles known = exact_x(x, normed ? norm : std::vector<float>(), k);
    const auto gated = [](const Doubles& g, const Doubles& u) {
      Doubles result(g.size());
      for (std::size_t i = 0; i < g.size(); ++i) result[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
      return result;
    };
    const Expected g = expected_product(gate, known, rows, n, k), u = expected_product(up, known, rows, n, k);
    Expected expected{gated(g.y, u.y), 2 * g.tolerance};
    if (g.otherwise) expected.otherwise = gated(*g.otherwise, *u.otherwise);
    expect_product(out.read(), expected, fmt::format("gated {}, {} rows", info(GetParam()).name, rows));
  }
}

// One X, several matrices whose weights and results lie side by side, as those of queries, keys and values do.
TEST_P(GpuProductsOfFormat, SideBySideEqualThoseAlone) {
  const std::int64_t k = 256, widths[] = {64, 32, 32}, stride = 128;
  std::vector<std::unique_ptr<HostWeight>> weights;
  std::size_t bytes = 0;
  for (const std::int64_t n : widths) {
    weights.push_back(std::make_unique<HostWeight>(GetParam(), n, k, 10 + weights.size()));
    bytes += Arena::padded(gpu()->library().weight_bytes(weights.back()->tensor));
  }
  Arena arena = device.arena(bytes, "the weights");
  std::vector<Tensor> loaded;
  for (const auto& w : weights)
    loaded.push_back(
        gpu()->library().load_weight(gpu()->context(), w->tensor, arena.take(gpu()->library().weight_bytes(w->tensor)).data()));
  for (const std::int64_t rows : {1, 3, 9}) {
    const auto x = normal_values(rows * k, 2);
    const GpuArray<float> x_on_gpu(device, x), y(device, as_size(rows * stride));
    ActivationBuffer buffer(device, rows, k);
    Activations activations = buffer.prepare(x_on_gpu.data(), rows, k);
    const Product products[] = {
        {&loaded[0], y.data(), stride}, {&loaded[1], y.data() + 64, stride}, {&loaded[2], y.data() + 96, stride}};
    matmul_forward(device, activations, products);
    const auto got = y.read();
    std::int64_t first = 0;
    for (std::size_t m = 0; m < weights.size(); first += widths[m++]) {
      std::vector<float> part;
      for (std::int64_t t = 0; t < rows; ++t)
        part.insert(part.end(), got.begin() + t * stride + first, got.begin() + t * stride + first + widths[m]);
      expect_product(part, expected_product(*weights[m], exact_x(x, {}, k), rows, widths[m], k),
                     fmt::format("{}, {} rows, matrix {}", info(GetParam()).name, rows, m));
    }
  }
}

TEST_P(GpuProductsOfFormat, ComeOutTheSameEveryTime) {
  const HostWeight w(GetParam(), 48, 1536, 14);
  for (const std::int64_t rows : {1, 7, 33}) {
    const ProductCase c{rows, 48, 1536};
    const auto x = normal_values(rows * c.k, 2);
    EXPECT_EQ(run(w, c, x, {}, {}), run(w, c, x, {}, {})) << rows << " rows";
  }
}

std::vector<Format> weight_formats() {
  std::vector<Format> result;
  for (const FormatInfo& row : formats()) result.push_back(row.format);
  return result;
}
INSTANTIATE_TEST_SUITE_P(All, GpuProductsOfFormat, testing::ValuesIn(weight_formats()),
                         [](const auto& format) { return std::string(puna::info(format.param).name); });

// Rows that are not whole pieces of 16 bytes.
TEST_F(GpuProducts, TakeOddWidths) {
  for (const Format format : kFloatFormats) {
    for (const std::int64_t k : {1, 3, 15, 17, 40, 63, 65, 72, 1025}) {
      const HostWeight w(format, 13, k, 15);
      for (const std::int64_t rows : {1, 5, 9}) {
        check(w, {.rows = rows, .n = 13, .k = k, .gap = rows % 2, .residual = rows == 5, .normed = rows == 5 && k > 1});
      }
    }
  }
}

TEST_F(GpuProducts, OfDifferentFormatsShareTheirActivations) {
  const std::int64_t k = 512;
  const HostWeight a(Format::kQ4_K, 20, k, 16), b(Format::kBF16, 9, k, 17), c(Format::kQ6_K, 20, k, 18);
  const GpuWeight a_on_gpu(device, a.tensor), b_on_gpu(device, b.tensor), c_on_gpu(device, c.tensor);
  for (const std::int64_t rows : {2, 11}) {
    const auto x = normal_values(rows * k, 2);
    const GpuArray<float> x_on_gpu(device, x), y(device, as_size(rows * 29)), gate(device, as_size(rows * 20)),
        up(device, as_size(rows * 20)), out(device, as_size(rows * 20));
    ActivationBuffer buffer(device, rows, k);
    Activations activations = buffer.prepare(x_on_gpu.data(), rows, k);
    const Product both[] = {{&a_on_gpu.tensor, y.data(), 29}, {&b_on_gpu.tensor, y.data() + 20, 29}};
    matmul_forward(device, activations, both);
    gated_matmul_forward(device, activations, {&a_on_gpu.tensor, &c_on_gpu.tensor, gate.data(), up.data(), out.data()});
    const auto got = y.read();
    std::vector<float> left, right;
    for (std::int64_t t = 0; t < rows; ++t) {
      left.insert(left.end(), got.begin() + t * 29, got.begin() + t * 29 + 20);
      right.insert(right.end(), got.begin() + t * 29 + 20, got.begin() + t * 29 + 29);
    }
    const Expected of_a = expected_product(a, exact_x(x, {}, k), rows, 20, k),
                   of_c = expected_product(c, exact_x(x, {}, k), rows, 20, k);
    expect_product(left, of_a, "the left part");
    expect_product(right, expected_product(b, exact_x(x, {}, k), rows, 9, k), "the right part");
    Doubles gated(of_a.y.size());
    for (std::size_t i = 0; i < gated.size(); ++i) gated[i] = of_a.y[i] / (1 + std::exp(-of_a.y[i])) * of_c.y[i];
    expect_close(out.read(), gated, 2 * of_a.tolerance, "gate and up of two formats");
  }
}

}  // namespace
}  // namespace puna
