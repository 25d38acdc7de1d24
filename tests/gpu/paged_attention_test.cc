// SPDX-License-Identifier: Apache-2.0
// The GPU's keys and values in pages, and attention over them, against plain loops in F64 over numbers rounded as the pages hold
// them. Batches are told to the GPU by model/step_input.h, as the network does.
#include "kernels/attention.h"

#include "gpu/gpu_fixture.h"
#include "model/step_input.h"

namespace puna {
namespace {

struct PagedHeads {
  std::int64_t query, kv, width;  // H, G, E
  std::string text() const { return fmt::format("H {} G {} E {}", query, kv, width); }
};

// The rows of a batch that are of one sequence.
struct BatchPart {
  std::int64_t rows, first_position;
  std::int64_t positions() const { return rows + first_position; }
};

std::vector<float> as_pages_hold(const std::vector<float>& values, Format format) {
  const auto count = static_cast<std::int64_t>(values.size());
  std::vector<std::byte> bytes(as_size(format_bytes(format, count)));
  std::vector<float> held(values.size());
  info(format).encode(values.data(), bytes.data(), count);
  info(format).decode(bytes.data(), held.data(), count);
  return held;
}

// The GPU's pages of one layer, and the sequences of a batch that have every third of them, from the last one down.
class PagedBatch {
 public:
  PagedBatch(const Device& device, const PagedHeads& heads, Format format, const std::vector<BatchPart>& parts)
      : device_(device), heads_(heads), format_(format), input_(device), parts_(parts) {
    std::int64_t pages = 0, row = 0;
    for (const BatchPart& part : parts) pages = std::max(pages, (part.positions() + kPagePositions - 1) / kPagePositions);
    const auto in_all = pages * 3 + static_cast<std::int64_t>(parts.size());
    bytes_ = as_size(in_all * heads.kv * kv_page_bytes(format, heads.width));
    arena_ = device.arena(2 * Arena::padded(bytes_), "pages");
    layer_ = {format, heads.kv, heads.width, arena_.take(bytes_).data(), arena_.take(bytes_).data()};
    // What lies in a page behind its last position is finite, but must not be seen.
    const std::vector<std::byte> before(bytes_, std::byte{0x7b});
    device.copy_in(layer_.keys, before.data(), bytes_);
    device.copy_in(layer_.values, before.data(), bytes_);
    pages_.resize(parts.size());
    std::int32_t next = static_cast<std::int32_t>(in_all);
    for (std::int64_t p = 0; p < pages; ++p) {  // pages of sequences in turns
      for (std::size_t s = 0; s < parts.size(); ++s) {
        if (p * kPagePositions < parts[s].positions()) pages_[s].push_back(--next % static_cast<std::int32_t>(in_all));
      }
    }
    for (std::size_t s = 0; s < parts.size(); ++s) {
      sequences_.push_back({row, parts[s].rows, parts[s].first_position, pages_[s]});
      row += parts[s].rows;
    }
    rows_ = row;
  }

  const KvLayer& layer() const { return layer_; }
  std::int64_t rows() const { return rows_; }  // T
  const std::vector<BatchSequence>& sequences() const { return sequences_; }
  const std::vector<std::int32_t>& pages(std::size_t sequence) const { return pages_[sequence]; }

  // Of the rows of the batch; runs: of the wanted ones.
  StepInput& input(std::span<const std::int32_t> wanted = {}, std::span<const BatchSequence> runs = {}) {
    input_.set(std::vector<Token>(as_size(rows_)), wanted, sequences_, runs);
    return input_;
  }

  // Stores keys and values [S, G, E] of all positions of a sequence, in one batch.
  void store_all(std::size_t sequence, const std::vector<float>& k, const std::vector<float>& v) {
    const std::int64_t positions = parts_[sequence].positions();
    const BatchSequence whole[] = {{0, positions, 0, pages_[sequence]}};
    StepInput input(device_);
    input.set(std::vector<Token>(as_size(positions)), {}, whole, {});
    const GpuArray<float> k_on_gpu(device_, k), v_on_gpu(device_, v);
    kv_store(device_, layer_, input.batch(), {k_on_gpu.data(), v_on_gpu.data(), heads_.kv * heads_.width});
  }

  // Of keys or values: [in all pages, G, 64, E], decoded.
  std::vector<float> read(const std::byte* pool) const {
    std::vector<std::byte> bytes(bytes_);
    device_.copy_out(bytes.data(), pool, bytes_);
    std::vector<float> values(bytes_ / as_size(format_bytes(format_, 1)));
    info(format_).decode(bytes.data(), values.data(), static_cast<std::int64_t>(values.size()));
    return values;
  }
  // Where [G, E] of a position begin in it, for group g.
  std::size_t place(std::size_t sequence, std::int64_t position, std::int64_t g) const {
    const std::int64_t page = pages_[sequence][as_size(position / kPagePositions)];
    return as_size(((page * heads_.kv + g) * kPagePositions + position % kPagePositions) * heads_.width);
  }

 private:
  Device device_;
  PagedHeads heads_;
  Format format_;
  StepInput input_;
  std::vector<BatchPart> parts_;
  std::size_t bytes_ = 0;
  Arena arena_;
  KvLayer layer_{};
  std::vector<std::vector<std::int32_t>> pages_;
  std::vector<BatchSequence> sequences_;
  std::int64_t rows_ = 0;
};

// One row of the formula: q [H, E] at `position` over k, v [S, G, E] -> [H, E].
Doubles attended_row(const PagedHeads& heads, const float* q, const std::vector<float>& k, const std::vector<float>& v,
                     std::int64_t position) {
  Doubles out(as_size(heads.query * heads.width)), weights(as_size(position + 1));
  for (std::int64_t h = 0; h < heads.query; ++h) {
    const std::int64_t g = h / (heads.query / heads.kv);
    double best = -INFINITY, total = 0;
    for (std::int64_t s = 0; s <= position; ++s) {
      double dot = 0;
      for (std::int64_t e = 0; e < heads.width; ++e)
        dot += static_cast<double>(q[h * heads.width + e]) * k[as_size((s * heads.kv + g) * heads.width + e)];
      weights[as_size(s)] = dot / std::sqrt(static_cast<double>(heads.width));
      best = std::max(best, weights[as_size(s)]);
    }
    for (double& weight : weights) total += weight = std::exp(weight - best);
    for (std::int64_t s = 0; s <= position; ++s) {
      for (std::int64_t e = 0; e < heads.width; ++e)
        out[as_size(h * heads.width + e)] += weights[as_size(s)] / total * v[as_size((s * heads.kv + g) * heads.width + e)];
    }
  }
  return out;
}

// Of F32 pages all is F32. Of the others the queries and the weights of the softmax are rounded to 16 bits: 2^-12 of F16 and 2^-9
// of BF16 in the mean, and a query's rounding moves scores of about 1. F8E4M3 pages are read as F16 or BF16, exactly.
double attention_tolerance(Format format) { return format == Format::kF32 ? 1e-5 : format == Format::kF16 ? 2e-3 : 1e-2; }

class GpuAttention : public GpuTest, public testing::WithParamInterface<Format> {
 protected:
  // Rows `wanted` of the batch against the formula, or some of all rows where it is empty.
  void check(const PagedHeads& heads, const std::vector<BatchPart>& parts, std::int64_t gap = 0) {
    SCOPED_TRACE(heads.text());
    PagedBatch batch(device, heads, GetParam(), parts);
    std::vector<std::vector<float>> k, v;
    for (std::size_t s = 0; s < parts.size(); ++s) {
      k.push_back(normal_values(parts[s].positions() * heads.kv * heads.width, 10 + 2 * s));
      v.push_back(normal_values(parts[s].positions() * heads.kv * heads.width, 11 + 2 * s));
      batch.store_all(s, k[s], v[s]);
      k[s] = as_pages_hold(k[s], GetParam());
      v[s] = as_pages_hold(v[s], GetParam());
    }
    const std::int64_t row_width = heads.query * heads.width, stride = row_width + gap;
    const auto q = normal_values(batch.rows() * stride, 3);
    const GpuArray<float> q_on_gpu(device, q), out(device, as_size(batch.rows() * row_width)),
        some(device, as_size(batch.rows() * row_width));

    // The last rows of each sequence, as those whose logits are wanted, after the whole batch.
    std::vector<std::int32_t> wanted;
    std::vector<BatchSequence> runs;
    for (const BatchSequence& sequence : batch.sequences()) {
      const std::int64_t rows = std::min<std::int64_t>(2, sequence.rows), skipped = sequence.rows - rows;
      runs.push_back({sequence.first_row + skipped, rows, sequence.first_position + skipped, sequence.pages});
      for (std::int64_t r = 0; r < rows; ++r) wanted.push_back(static_cast<std::int32_t>(runs.back().first_row + r));
    }
    const StepInput& input = batch.input(wanted, runs);
    attention_forward(device, batch.layer(), input.batch(), {q_on_gpu.data(), heads.query, stride, out.data()});
    attention_forward(device, batch.layer(), input.wanted_batch(), {q_on_gpu.data(), heads.query, stride, some.data()});
    const auto of_all = out.read(), of_wanted = some.read();

    std::vector<float> got, got_wanted;
    Doubles want, want_wanted;
    for (std::size_t s = 0; s < parts.size(); ++s) {
      const BatchSequence& sequence = batch.sequences()[s];
      for (std::int64_t r = 0; r < sequence.rows; ++r) {
        const bool last = r + 2 >= sequence.rows;
        if (!last && r % 37 != 0 && r != 1 && (sequence.first_position + r) % kPagePositions != 0) continue;
        const std::int64_t row = sequence.first_row + r;
        const Doubles expected = attended_row(heads, q.data() + row * stride, k[s], v[s], sequence.first_position + r);
        got.insert(got.end(), of_all.begin() + row * row_width, of_all.begin() + (row + 1) * row_width);
        want.insert(want.end(), expected.begin(), expected.end());
        if (!last) continue;
        got_wanted.insert(got_wanted.end(), of_wanted.begin() + row * row_width, of_wanted.begin() + (row + 1) * row_width);
        want_wanted.insert(want_wanted.end(), expected.begin(), expected.end());
      }
    }
    expect_close(got, want, attention_tolerance(GetParam()), "all rows");
    expect_close(got_wanted, want_wanted, attention_tolerance(GetParam()), "wanted rows");
    const auto untouched = std::count_if(of_wanted.begin(), of_wanted.end(), [](float x) { return std::isnan(x); });
    EXPECT_EQ(untouched, (batch.rows() - static_cast<std::int64_t>(wanted.size())) * row_width) << "rows that were not wanted";
    EXPECT_TRUE(std::none_of(of_all.begin(), of_all.end(), [](float x) { return std::isnan(x); }));
  }
};

const PagedHeads kPagedHeads[] = {{4, 1, 64}, {8, 2, 128}, {6, 2, 64},  {2, 2, 64}, {16, 1, 64},
                                  {3, 1, 48}, {6, 3, 80},  {2, 1, 256}, {2, 2, 2}};

TEST_P(GpuAttention, OfOneTokenEach) {
  for (const PagedHeads& heads : kPagedHeads) check(heads, {{1, 0}, {1, 64}, {1, 700}, {1, 63}});
}

TEST_P(GpuAttention, OfAPrompt) {
  for (const PagedHeads& heads : kPagedHeads) check(heads, {{150, 0}});
}

TEST_P(GpuAttention, OfAChunkBehindOthers) {
  for (const PagedHeads& heads : {PagedHeads{4, 1, 64}, PagedHeads{8, 2, 128}, PagedHeads{3, 1, 48}}) check(heads, {{70, 333}});
}

TEST_P(GpuAttention, OfARaggedBatch) {
  for (const PagedHeads& heads : kPagedHeads) check(heads, {{130, 20}, {1, 0}, {1, 299}, {5, 60}, {17, 128}});
}

TEST_P(GpuAttention, OfMoreQueriesThanATile) {  // rows times heads of a group
  check({32, 1, 64}, {{3, 100}, {9, 7}});
  check({40, 2, 128}, {{1, 200}, {2, 0}});
}

TEST_P(GpuAttention, OfRowsThatAreNotAligned) {
  check({4, 2, 64}, {{1, 100}, {40, 3}}, 3);
  check({3, 3, 64}, {{1, 100}}, 1);
}

TEST_P(GpuAttention, StaysFiniteForLargeScores) {
  const PagedHeads heads{4, 1, 64};
  const std::vector<BatchPart> parts = {{1, 129}, {40, 0}};
  PagedBatch batch(device, heads, GetParam(), parts);
  std::vector<std::vector<float>> k, v;
  for (std::size_t s = 0; s < parts.size(); ++s) {
    k.push_back(normal_values(parts[s].positions() * heads.width, 20 + 2 * s, 100));
    v.push_back(normal_values(parts[s].positions() * heads.width, 21 + 2 * s));
    batch.store_all(s, k[s], v[s]);
  }
  const std::int64_t row_width = heads.query * heads.width;
  const GpuArray<float> q(device, normal_values(batch.rows() * row_width, 6, 1e3)), out(device, as_size(batch.rows() * row_width));
  attention_forward(device, batch.layer(), batch.input().batch(), {q.data(), heads.query, row_width, out.data()});
  const auto got = out.read();
  EXPECT_TRUE(std::all_of(got.begin(), got.end(), [](float x) { return std::abs(x) < 10; }));
}

TEST_P(GpuAttention, ComesOutTheSameEveryTime) {
  const PagedHeads heads{8, 2, 64};
  PagedBatch batch(device, heads, GetParam(), {{1, 700}, {40, 90}, {3, 0}});
  for (std::size_t s = 0; s < 3; ++s) {
    const auto count =
        static_cast<std::int64_t>(batch.sequences()[s].rows + batch.sequences()[s].first_position) * heads.kv * heads.width;
    batch.store_all(s, normal_values(count, 30), normal_values(count, 31));
  }
  const std::int64_t row_width = heads.query * heads.width;
  const GpuArray<float> q(device, normal_values(batch.rows() * row_width, 6));
  std::vector<float> first;
  for (int turn = 0; turn < 2; ++turn) {
    const GpuArray<float> out(device, as_size(batch.rows() * row_width));
    attention_forward(device, batch.layer(), batch.input().batch(), {q.data(), heads.query, row_width, out.data()});
    if (turn == 0) first = out.read();
    EXPECT_EQ(out.read(), first);
  }
}

// --- what attention reads ---

TEST_P(GpuAttention, PagesHoldRoundedNumbersAndNothingElseIsWritten) {
  const PagedHeads heads{2, 2, 48};
  const std::vector<BatchPart> parts = {{3, 62}, {66, 1}};
  PagedBatch batch(device, heads, GetParam(), parts);
  const std::int64_t stride = heads.kv * heads.width + 5;
  auto k = normal_values(batch.rows() * stride, 1, 3), v = normal_values(batch.rows() * stride, 2);
  k[0] = 1000, k[1] = -448.5f, k[2] = 1e-9f;  // E4M3 ends at 448
  const auto keys_before = batch.read(batch.layer().keys);
  const GpuArray<float> k_on_gpu(device, k), v_on_gpu(device, v);
  kv_store(device, batch.layer(), batch.input().batch(), {k_on_gpu.data(), v_on_gpu.data(), stride});

  const auto held_k = as_pages_hold(k, GetParam()), held_v = as_pages_hold(v, GetParam());
  auto keys = keys_before, values = keys_before;
  for (std::size_t s = 0; s < parts.size(); ++s) {
    const BatchSequence& sequence = batch.sequences()[s];
    for (std::int64_t r = 0; r < sequence.rows; ++r) {
      for (std::int64_t g = 0; g < heads.kv; ++g) {
        const auto from = (sequence.first_row + r) * stride + g * heads.width;
        const auto to = static_cast<std::ptrdiff_t>(batch.place(s, sequence.first_position + r, g));
        std::copy_n(held_k.begin() + from, heads.width, keys.begin() + to);
        std::copy_n(held_v.begin() + from, heads.width, values.begin() + to);
      }
    }
  }
  EXPECT_EQ(batch.read(batch.layer().keys), keys);
  EXPECT_EQ(batch.read(batch.layer().values), values);
}

// The pair p of a head turns by the angle position f[p].
void turn(std::span<float> head, std::int64_t position, std::span<const double> frequencies, RopePairing pairing) {
  for (std::size_t p = 0; p < frequencies.size(); ++p) {
    float& a = head[pairing == RopePairing::kHalves ? p : 2 * p];
    float& b = head[pairing == RopePairing::kHalves ? p + frequencies.size() : 2 * p + 1];
    const double angle = static_cast<double>(position) * frequencies[p], x = a, y = b;
    a = static_cast<float>(x * std::cos(angle) - y * std::sin(angle));
    b = static_cast<float>(x * std::sin(angle) + y * std::cos(angle));
  }
}

// What was rounded after it was turned may have gone to the other side of a half: one step of the format now and then.
double stored_tolerance(Format format) {
  return format == Format::kF32 ? 1e-6 : format == Format::kF16 ? 1e-4 : format == Format::kBF16 ? 1e-3 : 1e-2;
}

TEST_P(GpuAttention, QueriesAndKeysAreTurnedWhereTheyAreStored) {
  for (const PagedHeads& heads :
       {PagedHeads{4, 2, 64}, PagedHeads{8, 1, 128}, PagedHeads{3, 1, 48}, PagedHeads{2, 2, 2}, PagedHeads{2, 1, 6}}) {
    for (const RopePairing pairing : {RopePairing::kNeighbours, RopePairing::kHalves}) {
      for (const bool with_queries : {true, false}) {
        SCOPED_TRACE(fmt::format("{}, {}{}", heads.text(), pairing == RopePairing::kHalves ? "halves" : "neighbours",
                                 with_queries ? "" : ", no queries"));
        const std::vector<BatchPart> parts = {{3, 62}, {1, 5000}, {20, 0}};
        PagedBatch batch(device, heads, GetParam(), parts);
        StepInput& input = batch.input();
        const std::int64_t stride = (heads.query + 2 * heads.kv) * heads.width;
        auto qkv = normal_values(batch.rows() * stride, 4);
        std::vector<double> frequencies;
        for (std::int64_t p = 0; p < heads.width / 2; ++p)
          frequencies.push_back(std::pow(500000.0, -2.0 * static_cast<double>(p) / static_cast<double>(heads.width)));
        const GpuArray<double> frequencies_on_gpu(device, frequencies);
        const GpuArray<float> table(device, as_size(batch.rows() * heads.width)), on_gpu(device, qkv);
        rope_table(device, frequencies_on_gpu.span(), input.positions(), table.data());
        rope_and_store(device, batch.layer(), input.batch(),
                       {on_gpu.data(), heads.query, stride, table.data(), pairing, with_queries});

        const auto pool_k = batch.read(batch.layer().keys), pool_v = batch.read(batch.layer().values), read = on_gpu.read();
        std::vector<float> q, stored_k, stored_v, want_k, want_v;
        Doubles want_q;
        for (std::size_t s = 0; s < parts.size(); ++s) {
          const BatchSequence& sequence = batch.sequences()[s];
          for (std::int64_t r = 0; r < sequence.rows; ++r) {
            const std::int64_t position = sequence.first_position + r, row = (sequence.first_row + r) * stride;
            for (std::int64_t h = 0; h < heads.query + heads.kv; ++h) {
              const std::span<float> head(qkv.data() + row + h * heads.width, as_size(heads.width));
              if (with_queries || h >= heads.query) turn(head, position, frequencies, pairing);
              if (h >= heads.query) want_k.insert(want_k.end(), head.begin(), head.end());
            }
            q.insert(q.end(), read.begin() + row, read.begin() + row + heads.query * heads.width);
            want_q.insert(want_q.end(), qkv.begin() + row, qkv.begin() + row + heads.query * heads.width);
            want_v.insert(want_v.end(), qkv.begin() + row + (heads.query + heads.kv) * heads.width, qkv.begin() + row + stride);
            for (std::int64_t g = 0; g < heads.kv; ++g) {
              const auto at = static_cast<std::ptrdiff_t>(batch.place(s, position, g));
              stored_k.insert(stored_k.end(), pool_k.begin() + at, pool_k.begin() + at + heads.width);
              stored_v.insert(stored_v.end(), pool_v.begin() + at, pool_v.begin() + at + heads.width);
            }
          }
        }
        expect_close(q, want_q, 1e-6, "queries");
        EXPECT_LE(relative_error(stored_k, as_doubles(as_pages_hold(want_k, GetParam()))), stored_tolerance(GetParam())) << "keys";
        EXPECT_EQ(stored_v, as_pages_hold(want_v, GetParam())) << "values";
      }
    }
  }
}

// In one operation as in two: the same bits in the pages, and the same sums.
TEST_P(GpuAttention, AfterTurningAndStoringAtOnceIsThatOfOneByOne) {
  const std::vector<BatchPart> batches[] = {
      {{1, 0}, {1, 64}, {1, 300}, {1, 63}}, {{3, 100}, {1, 7}}, {{5, 62}, {40, 0}, {1, 129}}, {{90, 0}}};
  for (const PagedHeads& heads : {PagedHeads{8, 2, 64}, PagedHeads{8, 1, 128}, PagedHeads{4, 4, 64}, PagedHeads{3, 1, 48}}) {
    for (const std::vector<BatchPart>& parts : batches) {
      for (const RopePairing pairing : {RopePairing::kNeighbours, RopePairing::kHalves}) {
        SCOPED_TRACE(fmt::format("{}, {} sequences, {}", heads.text(), parts.size(),
                                 pairing == RopePairing::kHalves ? "halves" : "neighbours"));
        PagedBatch at_once(device, heads, GetParam(), parts), apart(device, heads, GetParam(), parts);
        for (std::size_t s = 0; s < parts.size(); ++s) {
          const std::int64_t count = parts[s].positions() * heads.kv * heads.width;
          for (PagedBatch* batch : {&at_once, &apart})
            batch->store_all(s, normal_values(count, 10 + s), normal_values(count, 20 + s));
        }
        const std::int64_t stride = (heads.query + 2 * heads.kv) * heads.width;
        const auto qkv = normal_values(at_once.rows() * stride, 4);
        std::vector<double> frequencies;
        for (std::int64_t p = 0; p < heads.width / 2; ++p)
          frequencies.push_back(std::pow(500.0, -2.0 * static_cast<double>(p) / static_cast<double>(heads.width)));
        const GpuArray<double> frequencies_on_gpu(device, frequencies);
        const GpuArray<float> table(device, as_size(at_once.rows() * heads.width)), first(device, qkv), second(device, qkv),
            out(device, as_size(at_once.rows() * heads.query * heads.width)),
            want(device, as_size(at_once.rows() * heads.query * heads.width));
        StepInput &input = at_once.input(), &other_input = apart.input();
        rope_table(device, frequencies_on_gpu.span(), input.positions(), table.data());
        rope_store_and_attend(device, at_once.layer(), input.batch(),
                              {first.data(), heads.query, stride, table.data(), pairing, true}, out.data());
        rope_and_store(device, apart.layer(), other_input.batch(),
                       {second.data(), heads.query, stride, table.data(), pairing, true});
        attention_forward(device, apart.layer(), other_input.batch(), {second.data(), heads.query, stride, want.data()});
        EXPECT_EQ(at_once.read(at_once.layer().keys), apart.read(apart.layer().keys));
        EXPECT_EQ(at_once.read(at_once.layer().values), apart.read(apart.layer().values));
        expect_close(out.read(), as_doubles(want.read()), attention_tolerance(GetParam()), "out");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, GpuAttention, testing::Values(Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3),
                         [](const auto& format) { return std::string(puna::info(format.param).name); });

}  // namespace
}  // namespace puna
