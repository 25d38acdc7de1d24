// SPDX-License-Identifier: Apache-2.0
// The network from top to bottom: embed, blocks, logits. The block itself is in model/block.cc. The cache grows before anything is
// computed and shrinks back when anything throws, so a failed batch leaves no trace.
#include "model/llama.h"
#include "base/as_size.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "base/error.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "model/block.h"
#include "tensor/arena.h"

namespace puna {
namespace {

// The largest K of any product.
std::int64_t widest(const ModelConfig& config) {
  return std::max({config.width, config.heads * config.head_width, config.feed_forward});
}

// Every buffer of the arena, listed once: visit(pointer, count) in order. Counted without an arena, then taken from it.
struct Floats {
  float* norms = nullptr;       // [2 L + 1, D] attention and feed-forward norm of each layer, then the output's; decoded to F32
  float* x = nullptr;           // [T, D]
  float* norm = nullptr;        // [T, D]
  float* qkv = nullptr;         // [T, (H + 2 G) E]
  float* attention = nullptr;   // [T, H, E]
  float* x_middle = nullptr;    // [T, D]
  float* gate = nullptr;        // [T, F]
  float* up = nullptr;          // [T, F]
  float* rope_table = nullptr;  // [T, E / 2, 2]
  float* logits = nullptr;      // [R, V]

  template <typename Visit>
  void each(const ModelConfig& config, std::int64_t rows, std::int64_t logit_rows, Visit&& visit) {
    const std::int64_t query_width = config.heads * config.head_width, kv_width = config.kv_heads * config.head_width;
    visit(norms, (2 * config.layers + 1) * config.width);
    visit(x, rows * config.width);
    visit(norm, rows * config.width);
    visit(qkv, rows * (query_width + 2 * kv_width));
    visit(attention, rows * query_width);
    visit(x_middle, rows * config.width);
    visit(gate, rows * config.feed_forward);
    visit(up, rows * config.feed_forward);
    visit(rope_table, rows * config.head_width);
    visit(logits, logit_rows * config.vocabulary);
  }
};

std::int64_t arena_bytes(const ModelConfig& config, std::int64_t rows, std::int64_t logit_rows) {
  std::int64_t bytes = 0;
  Floats{}.each(config, rows, logit_rows, [&](float*, std::int64_t count) {
    bytes += static_cast<std::int64_t>(Arena::padded(as_size(count) * sizeof(float)));
  });
  return bytes;
}

// Makes room in the cache for a batch, and gives it back unless keep() was called.
class Growth {
 public:
  // `sequences` gets one entry per part, its pages set once all have grown.
  Growth(const Batch& batch, KvCache& cache, std::vector<BatchSequence>& sequences)
      : batch_(batch), cache_(cache), sequences_(sequences) {
    std::int64_t row = 0;
    sequences_.clear();
    for (const Batch::Part& part : batch.parts) {
      sequences_.push_back({row, part.rows, cache.length(part.sequence), {}});
      row += part.rows;
    }
    try {
      for (const Batch::Part& part : batch.parts) cache.grow(part.sequence, cache.length(part.sequence) + part.rows);
    } catch (...) {
      shrink();
      throw;
    }
    for (std::size_t i = 0; i < sequences_.size(); ++i) sequences_[i].pages = cache.pages(batch.parts[i].sequence);
  }
  ~Growth() {
    if (!kept_) shrink();
  }
  Growth(const Growth&) = delete;
  Growth& operator=(const Growth&) = delete;

  void keep() { kept_ = true; }

 private:
  void shrink() {
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      if (cache_.length(batch_.parts[i].sequence) > sequences_[i].first_position) {
        cache_.truncate(batch_.parts[i].sequence, sequences_[i].first_position);
      }
    }
  }

  const Batch& batch_;
  KvCache& cache_;
  std::vector<BatchSequence>& sequences_;
  bool kept_ = false;
};

// Adapters of all layers and the rows that have them: of the batch, and among the wanted rows.
struct RowAdapters {
  const AdapterSet* set;
  std::int64_t first, rows, first_wanted, wanted;
};

// The wanted rows as runs of following positions of one sequence, at most one run per row.
void find_runs(std::span<const BatchSequence> sequences, std::span<const std::int32_t> rows, std::vector<BatchSequence>& runs) {
  runs.clear();
  auto sequence = sequences.begin();
  for (const std::int32_t row : rows) {
    while (row >= sequence->first_row + sequence->rows) ++sequence;
    const std::int64_t position = sequence->first_position + row - sequence->first_row;
    const bool follows = !runs.empty() && runs.back().first_row + runs.back().rows == row && row != sequence->first_row;
    if (follows) {
      ++runs.back().rows;
    } else {
      runs.push_back({row, 1, position, sequence->pages});
    }
  }
}

}  // namespace

struct Llama::Buffers {
  Buffers(const ModelConfig& config, std::int64_t rank, std::int64_t rows, std::int64_t wanted_rows)
      : max_rows(rows),
        max_logit_rows(wanted_rows),
        adapter_rank(rank),
        arena(as_size(arena_bytes(config, rows, wanted_rows)), "the activations"),
        low_rank_arena(as_size(low_rank_bytes(config, rank, rows)), "the adapters' activations"),
        activations(rows, std::max(widest(config), rank)),
        frequencies(rope_frequencies(config)) {
    floats.each(config, rows, wanted_rows,
                [&](float*& pointer, std::int64_t count) { pointer = arena.take<float>(as_size(count)).data(); });
    low_rank = take_low_rank(low_rank_arena, config, rank, rows);
    positions.reserve(as_size(rows));
    sequences.reserve(as_size(rows));
    runs.reserve(as_size(wanted_rows));
    row_adapters.reserve(as_size(rows));
    layer_adapters.reserve(as_size(rows));
    wanted_adapters.reserve(as_size(rows));
  }

  BlockBuffers block() const {
    return {.x = floats.x,
            .attention_norm = floats.norm,
            .qkv = floats.qkv,
            .attention = floats.attention,
            .x_middle = floats.x_middle,
            .feed_forward_norm = floats.norm,
            .gate = floats.gate,
            .up = floats.up,
            .activated = floats.gate,
            .x_out = floats.x,
            .low_rank = low_rank};
  }

  std::int64_t max_rows, max_logit_rows, adapter_rank;  // T, R and r at most
  std::int64_t state_rows = 0;                          // of the last forward()
  Arena arena;
  Floats floats;
  Arena low_rank_arena;
  LowRankBuffers low_rank;
  ActivationBuffer activations;                              // of the widest input
  std::vector<double> frequencies;                           // [E / 2]
  std::vector<std::int32_t> positions;                       // [T]
  std::vector<BatchSequence> sequences;                      // one per part of the batch
  std::vector<BatchSequence> runs;                           // of wanted rows, [<= R]
  std::vector<RowAdapters> row_adapters;                     // of the batch
  std::vector<AdaptedRows> layer_adapters, wanted_adapters;  // the same in the layer that is run
};

Llama::Llama(std::shared_ptr<const Checkpoint> checkpoint, Device device, std::int64_t max_rows, std::int64_t max_logit_rows,
             std::int64_t adapter_rank)
    : checkpoint_(std::move(checkpoint)), device_(device) {
  PUNA_CHECK(max_rows >= 1 && max_logit_rows >= 1, "llama", "planned for {} rows and {} rows of logits, expected 1 or more",
             max_rows, max_logit_rows);
  buffers_ =
      std::make_unique<Buffers>(config(), std::max(adapter_rank, largest_rank(checkpoint_->adapters)), max_rows, max_logit_rows);
  const ModelWeights& weights = checkpoint_->weights;
  float* norm = buffers_->floats.norms;
  const auto decode = [&](const Tensor& tensor) { decode_row(tensor, 0, std::exchange(norm, norm + config().width)); };
  for (const LayerWeights& layer : weights.layers) decode(layer.attention_norm), decode(layer.feed_forward_norm);
  decode(weights.output_norm);
}

Llama::~Llama() = default;

const ModelConfig& Llama::config() const { return checkpoint_->config; }

std::int64_t Llama::max_rows() const { return buffers_->max_rows; }

std::int64_t Llama::max_logit_rows() const { return buffers_->max_logit_rows; }

std::int64_t Llama::activation_bytes(const ModelConfig& config, std::int64_t max_rows, std::int64_t max_logit_rows) {
  return arena_bytes(config, max_rows, max_logit_rows) + ActivationBuffer::bytes(max_rows, widest(config)) +
         config.head_width / 2 * static_cast<std::int64_t>(sizeof(double)) +
         max_rows * static_cast<std::int64_t>(sizeof(std::int32_t) + sizeof(BatchSequence)) +
         max_logit_rows * static_cast<std::int64_t>(sizeof(BatchSequence));
}

std::span<const float> Llama::forward(const Batch& batch, KvCache& cache) {
  check(batch);
  Growth growth(batch, cache, buffers_->sequences);
  embed(batch.tokens);
  run_blocks(batch, cache);
  normalise_states(static_cast<std::int64_t>(batch.all_states ? batch.tokens.size() : batch.logit_rows.size()));
  const std::span<const float> logits = logits_of_states(0, static_cast<std::int64_t>(batch.logit_rows.size()));
  growth.keep();
  return logits;
}

void Llama::check(const Batch& batch) const {
  const auto rows = static_cast<std::int64_t>(batch.tokens.size()), wanted = static_cast<std::int64_t>(batch.logit_rows.size());
  PUNA_CHECK(rows >= 1 && rows <= max_rows(), "llama", "a batch of {} rows, expected 1 to {}", rows, max_rows());
  PUNA_CHECK(wanted <= max_logit_rows(), "llama", "{} rows of logits wanted, planned for {}", wanted, max_logit_rows());
  PUNA_CHECK(wanted == 0 || !batch.all_states, "llama", "{} rows of logits wanted beside all states: ask for one of them", wanted);
  std::int64_t sum = 0;
  for (const Batch::Part& part : batch.parts) {
    PUNA_CHECK(part.rows >= 1, "llama", "sequence {} has {} rows in the batch, expected 1 or more", part.sequence, part.rows);
    const auto same = [&](const Batch::Part& other) { return other.sequence == part.sequence; };
    PUNA_CHECK(std::ranges::count_if(batch.parts, same) == 1, "llama", "sequence {} is twice in the batch", part.sequence);
    sum += part.rows;
    if (part.adapters == nullptr) continue;
    PUNA_CHECK(checkpoint_->adapters.empty(), "llama", "sequence {} has adapters beside the checkpoint's own", part.sequence);
    PUNA_CHECK(part.adapters->rank <= buffers_->adapter_rank, "llama", "sequence {} has adapters of rank {}, planned for {}",
               part.sequence, part.adapters->rank, buffers_->adapter_rank);
  }
  PUNA_CHECK(sum == rows, "llama", "the parts have {} rows, the batch has {} tokens", sum, rows);
  std::int64_t last = -1;
  for (const std::int32_t row : batch.logit_rows) {
    PUNA_CHECK(row > last && row < rows, "llama", "logits of row {} wanted after row {} of {}: expected ascending rows", row, last,
               rows);
    last = row;
  }
  for (const Token token : batch.tokens) {
    if (id(token) >= 0 && id(token) < config().vocabulary) continue;
    fail(ErrorKind::kBadInput, "tokens", "token {} is outside the vocabulary: ids are 0 to {}", id(token), config().vocabulary - 1);
  }
}

// x [T, D]
void Llama::embed(std::span<const Token> tokens) {
  const Tensor& embedding = checkpoint_->weights.token_embedding;
  float* const x = buffers_->floats.x;
  device_.pool.split(static_cast<std::int64_t>(tokens.size()), 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) decode_row(embedding, id(tokens[as_size(t)]), x + t * config().width);
  });
}

// Parts side by side that have the same adapters are one run of rows.
void Llama::find_adapters(const Batch& batch) {
  std::vector<RowAdapters>& found = buffers_->row_adapters;
  found.clear();
  std::int64_t row = 0, wanted = 0;
  for (const Batch::Part& part : batch.parts) {
    const std::int64_t first = std::exchange(row, row + part.rows), first_wanted = wanted;
    while (as_size(wanted) < batch.logit_rows.size() && batch.logit_rows[as_size(wanted)] < row) ++wanted;
    if (part.adapters == nullptr) continue;
    const bool follows = !found.empty() && found.back().set == part.adapters && found.back().first + found.back().rows == first;
    if (!follows) found.push_back({part.adapters, first, 0, first_wanted, 0});
    found.back().rows += part.rows;
    found.back().wanted += wanted - first_wanted;
  }
}

// x [T, D] -> x [R, D], the rows whose logits are wanted; all of them where states are
void Llama::run_blocks(const Batch& batch, KvCache& cache) {
  Buffers& buffers = *buffers_;
  buffers.positions.clear();
  for (const BatchSequence& sequence : buffers.sequences) {
    for (std::int64_t r = 0; r < sequence.rows; ++r)
      buffers.positions.push_back(static_cast<std::int32_t>(sequence.first_position + r));
  }
  rope_table(device_, buffers.frequencies, buffers.positions, buffers.floats.rope_table);
  find_runs(buffers.sequences, batch.logit_rows, buffers.runs);
  find_adapters(batch);

  const BlockRun run{device_, config(), buffers.activations};
  const BlockBatch block_batch{static_cast<std::int64_t>(batch.tokens.size()), buffers.floats.rope_table};
  for (std::int64_t l = 0; l < config().layers; ++l) {
    const float* const norms = buffers.floats.norms + 2 * l * config().width;
    buffers.layer_adapters.clear();
    buffers.wanted_adapters.clear();
    for (const RowAdapters& rows : buffers.row_adapters) {
      buffers.layer_adapters.push_back({rows.first, rows.rows, &rows.set->layers[as_size(l)]});
      if (rows.wanted > 0) buffers.wanted_adapters.push_back({rows.first_wanted, rows.wanted, &rows.set->layers[as_size(l)]});
    }
    const BlockWeights weights{checkpoint_->weights.layers[as_size(l)], norms, norms + config().width,
                               checkpoint_->adapters.empty() ? nullptr : &checkpoint_->adapters[as_size(l)],
                               buffers.layer_adapters};
    const PagedKv kv{cache.layer(l), buffers.sequences};
    if (l + 1 < config().layers || batch.all_states) {
      block_forward(run, weights, block_batch, kv, buffers.block());
    } else {
      last_block_forward(run, weights, block_batch, kv, buffers.block(), {batch.logit_rows, buffers.runs, buffers.wanted_adapters});
    }
  }
}

std::span<const float> Llama::states() const { return {buffers_->floats.norm, as_size(buffers_->state_rows * config().width)}; }

// norm [R, D] of x [R, D]
void Llama::normalise_states(std::int64_t rows) {
  buffers_->state_rows = rows;
  if (rows == 0) return;
  const Floats& floats = buffers_->floats;
  const std::int64_t width = config().width;
  rms_norm_forward(device_, floats.x, floats.norms + 2 * config().layers * width, static_cast<float>(config().norm_eps), rows,
                   width, floats.norm);
}

std::span<const float> Llama::logits_of_states(std::int64_t first, std::int64_t rows) {
  PUNA_CHECK(first >= 0 && rows >= 0 && first + rows <= buffers_->state_rows && rows <= max_logit_rows(), "llama",
             "logits of rows {} to {} of {} states, planned for {} rows", first, first + rows, buffers_->state_rows,
             max_logit_rows());
  if (rows == 0) return {};
  const Floats& floats = buffers_->floats;
  const Tensor& output = checkpoint_->weights.output;
  Activations x = buffers_->activations.prepare(floats.norm + first * config().width, rows, config().width);
  const std::array<Product, 1> products{{{&output, floats.logits, config().vocabulary}}};
  matmul_forward(device_, x, products);
  return {floats.logits, as_size(rows * config().vocabulary)};
}

}  // namespace puna
