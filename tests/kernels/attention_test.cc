// SPDX-License-Identifier: Apache-2.0
// Attention against plain loops in F64 over keys and values rounded as the cache's format rounds them.
#include "kernels/attention.h"

#include "every_target.h"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>

#include "base/error.h"

namespace puna {
namespace {

struct Heads {
  std::int64_t query, kv, width;  // H, G, E
};

// Keys and values of one sequence [S, G, E], and its pages in a pool shared with others.
struct Sequence {
  std::vector<float> k, v;
  std::vector<std::int32_t> pages;
};

// What the cache holds after rounding to `format`.
std::vector<float> rounded(const std::vector<float>& values, Format format) {
  std::vector<std::byte> blocks(static_cast<std::size_t>(format_bytes(format, static_cast<std::int64_t>(values.size()))));
  std::vector<float> result(values.size());
  info(format).encode(values.data(), blocks.data(), static_cast<std::int64_t>(values.size()));
  info(format).decode(blocks.data(), result.data(), static_cast<std::int64_t>(values.size()));
  return result;
}

class Cache {
 public:
  Cache(Heads heads, Format format, std::int64_t pages)
      : heads_(heads),
        keys_(static_cast<std::size_t>(pages * heads.kv * kv_page_bytes(format, heads.width)), std::byte{0x7b}),
        values_(keys_.size(), std::byte{0x7b}),
        layer_{format, heads.kv, heads.width, keys_.data(), values_.data()} {}

  const KvLayer& layer() const { return layer_; }

  // A sequence of `length` positions whose pages are every third one from `first_page` downwards.
  Sequence add(Device& device, std::int64_t length, std::int32_t first_page, std::uint64_t stream, double spread = 1) {
    Sequence sequence = {normal_values(length * heads_.kv * heads_.width, stream, spread),
                         normal_values(length * heads_.kv * heads_.width, stream + 1),
                         {}};
    for (std::int64_t page = 0; page * kPagePositions < length; ++page) {
      sequence.pages.push_back(first_page - 3 * static_cast<std::int32_t>(page));
    }
    const BatchSequence all[] = {{0, length, 0, sequence.pages}};
    kv_store(device, layer_, {all}, {sequence.k.data(), sequence.v.data(), heads_.kv * heads_.width});
    return sequence;
  }

 private:
  Heads heads_;
  std::vector<std::byte> keys_, values_;
  KvLayer layer_;
};

// One row of the formula, in F64: q [H, E] at `position` -> [H, E].
std::vector<double> expected_row(Heads heads, const float* q, const std::vector<float>& k, const std::vector<float>& v,
                                 std::int64_t position) {
  std::vector<double> out(static_cast<std::size_t>(heads.query * heads.width), 0.0);
  std::vector<double> weights(static_cast<std::size_t>(position + 1));
  for (std::int64_t h = 0; h < heads.query; ++h) {
    const std::int64_t g = h / (heads.query / heads.kv);
    double best = -1e300, total = 0;
    for (std::int64_t s = 0; s <= position; ++s) {
      double dot = 0;
      for (std::int64_t e = 0; e < heads.width; ++e) {
        dot += static_cast<double>(q[h * heads.width + e]) * k[(s * heads.kv + g) * heads.width + e];
      }
      weights[s] = dot / std::sqrt(static_cast<double>(heads.width));
      best = std::max(best, weights[s]);
    }
    for (double& weight : weights) total += weight = std::exp(weight - best);
    for (std::int64_t s = 0; s <= position; ++s) {
      for (std::int64_t e = 0; e < heads.width; ++e) {
        out[h * heads.width + e] += weights[s] / total * v[(s * heads.kv + g) * heads.width + e];
      }
    }
  }
  return out;
}

// Rows [first, first + rows) of a sequence alone in its batch.
std::vector<float> attend_alone(Device& device, Heads heads, const Cache& cache, const Sequence& sequence,
                                const std::vector<float>& q, std::int64_t first, std::int64_t rows) {
  const std::int64_t row_width = heads.query * heads.width;
  std::vector<float> out(static_cast<std::size_t>(rows * row_width), std::nanf(""));
  const BatchSequence batch[] = {{0, rows, first, sequence.pages}};
  attention_forward(device, cache.layer(), {batch}, {q.data() + first * row_width, heads.query, row_width, out.data()});
  return out;
}

void expect_close(const std::vector<float>& got, const std::vector<double>& want, std::int64_t row, double tolerance) {
  for (std::size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(got[static_cast<std::size_t>(row) * want.size() + i], want[i], tolerance) << "row " << row << " at " << i;
  }
}

class Attention : public testing::TestWithParam<Format> {};

TEST_P(Attention, EqualsTheFormulaForManyShapes) {
  ThreadPool pool(2);
  Device device{pool};
  const Heads shapes[] = {{1, 1, 32},  {4, 4, 64}, {8, 2, 64}, {5, 1, 96}, {7, 1, 128}, {16, 1, 64}, {6, 3, 256},
                          {32, 8, 64}, {3, 1, 16}, {2, 1, 48}, {6, 2, 80}, {4, 2, 20},  {2, 2, 2}};
  on_every_target([&] {
    for (const Heads& heads : shapes) {
      if (heads.width % info(GetParam()).block_values != 0) continue;
      SCOPED_TRACE(testing::Message() << "H " << heads.query << " G " << heads.kv << " E " << heads.width);
      Cache cache(heads, GetParam(), 12);
      const std::int64_t length = 197;
      const Sequence sequence = cache.add(device, length, 11, 10);
      const auto q = normal_values(length * heads.query * heads.width, 3);
      const auto k = rounded(sequence.k, GetParam()), v = rounded(sequence.v, GetParam());
      const auto out = attend_alone(device, heads, cache, sequence, q, 0, length);
      for (const std::int64_t t : {0, 1, 31, 62, 63, 64, 65, 127, 128, 130, 191, 192, 196}) {
        expect_close(out, expected_row(heads, q.data() + t * heads.query * heads.width, k, v, t), t, 2e-6);
      }
    }
  });
}

TEST_P(Attention, AnyChunksOfAPromptGiveEqualBits) {
  const Heads heads = {8, 2, 64};
  const std::int64_t length = 300, row_width = heads.query * heads.width;
  ThreadPool pool(2);
  Device device{pool};
  on_every_target([&] {
    Cache cache(heads, GetParam(), 16);
    const Sequence sequence = cache.add(device, length, 15, 20);
    const auto q = normal_values(length * row_width, 4);
    const auto whole = attend_alone(device, heads, cache, sequence, q, 0, length);
    for (const std::int64_t chunk : {1, 7, 64, 100}) {
      std::vector<float> pieces;
      for (std::int64_t first = 0; first < length; first += chunk) {
        const auto piece = attend_alone(device, heads, cache, sequence, q, first, std::min(chunk, length - first));
        pieces.insert(pieces.end(), piece.begin(), piece.end());
      }
      EXPECT_EQ(pieces, whole) << "chunks of " << chunk;
    }
  });
}

TEST_P(Attention, RaggedBatchesAndThreadsGiveTheBitsOfEachAlone) {
  const Heads heads = {6, 2, 32};
  const std::int64_t row_width = heads.query * heads.width;
  ThreadPool one(1);
  Device alone{one};
  on_every_target([&] {
    Cache cache(heads, GetParam(), 40);
    const Sequence sequences[] = {cache.add(alone, 150, 39, 30), cache.add(alone, 1, 38, 32), cache.add(alone, 700, 37, 34)};
    const std::int64_t first[] = {20, 0, 699}, rows[] = {130, 1, 1};
    const auto q = normal_values(700 * row_width, 5);
    std::vector<float> batch_q, want;
    std::vector<BatchSequence> batch;
    for (int i = 0; i < 3; ++i) {
      batch.push_back({static_cast<std::int64_t>(batch_q.size()) / row_width, rows[i], first[i], sequences[i].pages});
      batch_q.insert(batch_q.end(), q.begin() + first[i] * row_width, q.begin() + (first[i] + rows[i]) * row_width);
      const auto out = attend_alone(alone, heads, cache, sequences[i], q, first[i], rows[i]);
      want.insert(want.end(), out.begin(), out.end());
    }
    for (const int threads : {1, 2, 3, 5}) {
      ThreadPool pool(threads);
      Device device{pool};
      std::vector<float> out(want.size(), std::nanf(""));
      attention_forward(device, cache.layer(), {batch}, {batch_q.data(), heads.query, row_width, out.data()});
      EXPECT_EQ(out, want) << threads << " threads";
    }
  });
}

TEST_P(Attention, LargeScoresStayFinite) {
  const Heads heads = {4, 1, 32};
  const std::int64_t length = 130, row_width = heads.query * heads.width;
  ThreadPool pool(1);
  Device device{pool};
  on_every_target([&] {
    Cache cache(heads, GetParam(), 9);
    const Sequence sequence = cache.add(device, length, 8, 40, 100);
    const auto q = normal_values(length * row_width, 6, 1e4);
    const auto out = attend_alone(device, heads, cache, sequence, q, 0, length);
    EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x); }));
    const auto k = rounded(sequence.k, GetParam()), v = rounded(sequence.v, GetParam());
    expect_close(out, expected_row(heads, q.data() + 129 * row_width, k, v, 129), 129, 1e-4);
  });
}

INSTANTIATE_TEST_SUITE_P(Formats, Attention, testing::Values(Format::kF32, Format::kF16, Format::kQ8_0),
                         [](const auto& format) { return std::string(puna::info(format.param).name); });

TEST(AttentionLong, DecodesAtTheEndOf131072Positions) {
  const Heads heads = {4, 1, 32};
  const std::int64_t length = 131072, row_width = heads.query * heads.width;
  ThreadPool pool(2);
  Device device{pool};
  Cache cache(heads, Format::kF16, 3 * length / kPagePositions);
  const Sequence sequence = cache.add(device, length, 3 * length / kPagePositions - 1, 50);
  const auto q = normal_values(row_width, 8, 2);
  const std::int64_t position = length - 1;
  std::vector<float> out(static_cast<std::size_t>(row_width));
  const BatchSequence batch[] = {{0, 1, position, sequence.pages}};
  attention_forward(device, cache.layer(), {batch}, {q.data(), heads.query, row_width, out.data()});
  const auto k = rounded(sequence.k, Format::kF16), v = rounded(sequence.v, Format::kF16);
  expect_close(out, expected_row(heads, q.data(), k, v, position), 0, 1e-6);
}

TEST(KvStore, WritesOnlyItsOwnRowsAndTransposesKeys) {
  ThreadPool pool(3);
  Device device{pool};
  const std::int64_t groups = 2, width = 32, stride = 200;
  const auto k = normal_values(4 * stride, 1), v = normal_values(4 * stride, 2);
  std::vector<float> keys(3 * groups * width * kPagePositions, -1.0f), values = keys;
  const KvLayer layer = {Format::kF32, groups, width, reinterpret_cast<std::byte*>(keys.data()),
                         reinterpret_cast<std::byte*>(values.data())};
  const std::vector<std::int32_t> pages = {2, 0};
  const BatchSequence batch[] = {{1, 3, 62, pages}};  // positions 62, 63 on page 2 and 64 on page 0
  kv_store(device, layer, {batch}, {k.data(), v.data(), stride});
  std::int64_t written = 0;
  for (std::int64_t i = 0; i < 3; ++i) {
    const std::int64_t page = i < 2 ? 2 : 0, slot = (62 + i) % kPagePositions;
    for (std::int64_t g = 0; g < groups; ++g) {
      for (std::int64_t e = 0; e < width; ++e, ++written) {
        const std::int64_t from = (1 + i) * stride + g * width + e;
        EXPECT_EQ(keys[((page * groups + g) * width + e) * kPagePositions + slot], k[from]);
        EXPECT_EQ(values[((page * groups + g) * kPagePositions + slot) * width + e], v[from]);
      }
    }
  }
  const auto untouched = static_cast<std::int64_t>(keys.size()) - written;
  EXPECT_EQ(std::count(keys.begin(), keys.end(), -1.0f), untouched);
  EXPECT_EQ(std::count(values.begin(), values.end(), -1.0f), untouched);
}

// The message of the kInternal error that `call` throws.
template <typename Call>
std::string refusal(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    return error.what();
  }
  return "nothing was refused";
}

TEST(AttentionArguments, RefusesShapesThatDoNotMatch) {
  ThreadPool pool(1);
  Device device{pool};
  std::vector<float> q(64 * 4), out(64 * 4);
  std::vector<std::byte> bytes(1 << 16);
  const std::vector<std::int32_t> pages = {0};
  const BatchSequence batch[] = {{0, 1, 0, pages}}, beyond[] = {{0, 1, 64, pages}};
  const KvLayer layer = {Format::kF32, 2, 64, bytes.data(), bytes.data()};
  const KvLayer bf16 = {Format::kBF16, 2, 64, bytes.data(), bytes.data()},
                q8_0 = {Format::kQ8_0, 2, 48, bytes.data(), bytes.data()};
  using testing::HasSubstr;
  EXPECT_THAT(refusal([&] {
                attention_forward(device, layer, {batch}, {q.data(), 3, 192, out.data()});
              }),
              HasSubstr("[attention] 3 query heads for 2 key/value heads"));
  EXPECT_THAT(refusal([&] {
                attention_forward(device, layer, {beyond}, {q.data(), 4, 256, out.data()});
              }),
              HasSubstr("positions up to 65 in pages for 64"));
  EXPECT_THAT(refusal([&] {
                attention_forward(device, bf16, {batch}, {q.data(), 4, 256, out.data()});
              }),
              HasSubstr("expected f32, f16"));
  EXPECT_THAT(refusal([&] {
                kv_store(device, q8_0, {batch}, {q.data(), q.data(), 128});
              }),
              HasSubstr("[kv_store] 2 heads of width 48"));
}

}  // namespace
}  // namespace puna
