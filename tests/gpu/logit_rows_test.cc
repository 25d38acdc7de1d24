// SPDX-License-Identifier: Apache-2.0
// Shortlists of rows of logits: the CPU's tokens and bits of logits, its sums to what kernels/shortlist.h allows, its draws.
#include <algorithm>
#include <cmath>
#include <limits>

#include "gpu/gpu_fixture.h"
#include "kernels/shortlist.h"

namespace puna {
namespace {

class GpuShortlist : public GpuTest {
 protected:
  void expect_the_cpus(const std::vector<float>& x, LogitColumns columns, const std::vector<RowDraw>& draws,
                       std::size_t shift = 0) {
    std::vector<Shortlist> want(draws.size());
    columns.rows = static_cast<std::int64_t>(draws.size());
    columns.logits = x.data();
    shortlist_rows(cpu, columns, draws.data(), want.data());
    const GpuArray<float> x_on_gpu(device, x, shift);
    const GpuArray<RowDraw> draws_on_gpu(device, draws);
    const GpuArray<Shortlist> found(device, draws.size()), again(device, draws.size());
    columns.logits = x_on_gpu.data();
    shortlist_rows(device, columns, draws_on_gpu.data(), found.data());
    shortlist_rows(device, columns, draws_on_gpu.data(), again.data());
    const std::vector<Shortlist> got = found.read(), repeated = again.read();
    for (std::size_t r = 0; r < draws.size(); ++r) {
      SCOPED_TRACE(fmt::format("row {} of {}, {} wide, {} behind", r, draws.size(), columns.width, shift));
      expect_equal(got[r], want[r]);
      EXPECT_EQ(repeated[r].rest, got[r].rest);
      EXPECT_EQ(repeated[r].margin, got[r].margin);
      EXPECT_EQ(repeated[r].drawn, got[r].drawn);
    }
  }

  static void expect_equal(const Shortlist& got, const Shortlist& want) {
    ASSERT_EQ(got.count, want.count);
    EXPECT_EQ(got.width, want.width);
    EXPECT_TRUE(std::ranges::equal(got.tokens(), want.tokens()));
    EXPECT_TRUE(std::ranges::equal(got.values(), want.values()));
    EXPECT_LE(std::abs(got.rest - want.rest), 2 * kRestError * want.rest + 1e-36 * want.width);
    EXPECT_NEAR(got.margin, want.margin, 1e-12);
    if (want.margin > kDrawError) {
      EXPECT_EQ(got.drawn, want.drawn);
    }
  }

  static std::vector<RowDraw> draws_of(std::int64_t rows) {
    std::vector<RowDraw> draws;
    for (std::int64_t r = 0; r < rows; ++r) {
      const double uniform = r % 3 == 1 ? -1 : random_uniform(5, 1, static_cast<std::uint64_t>(r));
      draws.push_back({uniform, r % 2 == 0 ? 1.0f : 1 / 0.6f});
    }
    return draws;
  }
};

// Below and above a tile, and what 32 tiles hold; rows that are aligned and rows that are not.
TEST_F(GpuShortlist, IsTheCpus) {
  for (const std::int64_t width : {1, 5, 255, 256, 257, 4095, 4096, 4097, 20000, 128256, 131073, 150000}) {
    if (is_emulated() && width > 20000) continue;
    for (const std::int64_t rows : {1, 3}) {
      for (const std::int64_t padding : {0, 3}) {
        const std::int64_t stride = width + padding;
        expect_the_cpus(normal_values(rows * stride, 1, 3), {nullptr, rows, stride, width}, draws_of(rows), padding == 0 ? 0 : 1);
      }
    }
  }
}

TEST_F(GpuShortlist, OfManyRowsIsTheCpus) {
  const std::int64_t rows = is_emulated() ? 4 : 300, width = is_emulated() ? 5000 : 128256;
  expect_the_cpus(normal_values(rows * width, 2, 2.5), {nullptr, rows, width, width - 200}, draws_of(rows));
}

TEST_F(GpuShortlist, OfUnlikelyRowsIsTheCpus) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::int64_t width = 9000;
  std::vector<std::vector<float>> rows(9, normal_values(width, 3, 4));
  std::ranges::fill(rows[0], 1.5f);
  for (float& z : rows[1]) z = std::round(z);
  for (std::size_t v = 0; v < rows[2].size(); v += 2) rows[2][v] = v % 4 == 0 ? nan : -INFINITY;
  std::ranges::fill(rows[3], -INFINITY);
  for (std::size_t v = 0; v < 40; ++v) rows[3][v * 170] = static_cast<float>(v % 7);
  std::ranges::fill(rows[4], nan);
  std::ranges::sort(rows[5]);
  std::ranges::sort(rows[6], std::greater<>());
  for (float& z : rows[7]) z = z < 0 ? -0.0f : z > 6 ? z : 0.0f;
  std::fill(rows[8].begin(), rows[8].begin() + 6000, -INFINITY);  // whole tiles of nothing
  for (const std::vector<float>& row : rows) {
    for (const RowDraw& draw : {RowDraw{0.37, 1}, RowDraw{-1, 1e30f}, RowDraw{0.99, 0.01f}})
      expect_the_cpus(row, {nullptr, 1, width, width}, {draw});
  }
}

}  // namespace
}  // namespace puna
