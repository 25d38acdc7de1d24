// SPDX-License-Identifier: Apache-2.0
// The network from top to bottom: embed, blocks, logits. The block itself is in model/block.cc. The cache grows before anything is
// computed and shrinks back when anything throws, so a failed batch leaves no trace. On a GPU all that differs between two steps of
// the same size lies in one small array (model/step_input.h), so a decode step is recorded once and replayed.
#include "model/llama.h"
#include "base/as_size.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <map>
#include <utility>

#include "base/error.h"
#include "kernels/gpu.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "model/block.h"
#include "model/step_input.h"
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
  static inline std::atomic<std::uint64_t> next_number = 0;

  Buffers(const Device& device, const ModelConfig& config, std::int64_t rank, std::int64_t rows, std::int64_t wanted_rows)
      : max_rows(rows),
        max_logit_rows(wanted_rows),
        adapter_rank(rank),
        arena(device.arena(as_size(arena_bytes(config, rows, wanted_rows)), "the activations")),
        low_rank_arena(device.arena(as_size(low_rank_bytes(config, rank, rows)), "the adapters' activations")),
        frequency_arena(device.arena(as_size(config.head_width / 2) * sizeof(double), "the frequencies")),
        activations(device, rows, std::max(widest(config), rank)),
        input(device) {
    floats.each(config, rows, wanted_rows,
                [&](float*& pointer, std::int64_t count) { pointer = arena.take<float>(as_size(count)).data(); });
    low_rank = take_low_rank(low_rank_arena, config, rank, rows);
    const std::vector<double> of_model = rope_frequencies(config);
    frequencies = frequency_arena.take<double>(of_model.size());
    device.copy_in(frequencies.data(), of_model.data(), frequencies.size_bytes());
    if (device.gpu != nullptr) on_host = std::make_unique<HostCopies>(*device.gpu);
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
  std::uint64_t number = next_number++;                 // of this network among all, in the keys of recorded steps
  const std::byte* recorded_cache = nullptr;
  Arena arena;
  Floats floats;
  Arena low_rank_arena;
  LowRankBuffers low_rank;
  Arena frequency_arena;
  std::span<double> frequencies;  // [E / 2]
  ActivationBuffer activations;   // of the widest input
  StepInput input;
  std::map<const AdapterSet*, std::shared_ptr<const AdapterSet>> adapters_on_device;
  std::unique_ptr<HostCopies> on_host;                       // of logits and states, on a GPU
  std::vector<std::int32_t> likeliest;                       // [<= R] of the last forward()
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
  buffers_ = std::make_unique<Buffers>(device_, config(), std::max(adapter_rank, largest_rank(checkpoint_->adapters)), max_rows,
                                       max_logit_rows);
  const ModelWeights& weights = checkpoint_->weights;
  float* norm = buffers_->floats.norms;
  const auto take = [&](const Tensor& tensor) {
    float* const to = std::exchange(norm, norm + config().width);
    if (device_.gpu == nullptr) return decode_row(tensor, 0, to);
    device_.gpu->library().copy_within(device_.gpu->context(), to, tensor.bytes.data(), as_size(config().width) * sizeof(float));
  };
  for (const LayerWeights& layer : weights.layers) take(layer.attention_norm), take(layer.feed_forward_norm);
  take(weights.output_norm);
}

Llama::~Llama() = default;

void Llama::run_adapters_as(const AdapterSet* adapters, std::shared_ptr<const AdapterSet> on_device) {
  buffers_->adapters_on_device[adapters] = std::move(on_device);
}

const ModelConfig& Llama::config() const { return checkpoint_->config; }

std::int64_t Llama::max_rows() const { return buffers_->max_rows; }

std::int64_t Llama::max_logit_rows() const { return buffers_->max_logit_rows; }

std::int64_t Llama::activation_bytes(const ModelConfig& config, std::int64_t max_rows, std::int64_t max_logit_rows, bool on_gpu) {
  return arena_bytes(config, max_rows, max_logit_rows) + ActivationBuffer::bytes(max_rows, widest(config), on_gpu) +
         config.head_width / 2 * static_cast<std::int64_t>(sizeof(double)) + StepInput::bytes(max_rows) +
         max_rows * static_cast<std::int64_t>(sizeof(BatchSequence)) +
         max_logit_rows * static_cast<std::int64_t>(sizeof(BatchSequence));
}

std::span<const float> Llama::forward(const Batch& batch, KvCache& cache) {
  check(batch);
  Buffers& buffers = *buffers_;
  Growth growth(batch, cache, buffers.sequences);
  find_runs(buffers.sequences, batch.logit_rows, buffers.runs);
  find_adapters(batch);
  buffers.input.set(batch.tokens, batch.logit_rows, buffers.sequences, buffers.runs);
  run(batch, cache);

  const auto wanted = static_cast<std::int64_t>(batch.logit_rows.size());
  std::span<const float> logits{buffers.floats.logits, as_size(wanted * config().vocabulary)};
  if (batch.likeliest_only) {
    buffers.likeliest.resize(batch.logit_rows.size());
    device_.copy_out(buffers.likeliest.data(), buffers.input.likeliest(), buffers.likeliest.size() * sizeof(std::int32_t));
    logits = {};
  } else if (buffers.on_host != nullptr) {
    logits = buffers.on_host->logits(logits);
  }
  growth.keep();
  return logits;
}

// Everything between the batch in its places and the logits. Steps in which every sequence writes its next token are recorded.
void Llama::run(const Batch& batch, KvCache& cache) {
  const auto compute = [&] {
    run_blocks(batch, cache);
    normalise_states(static_cast<std::int64_t>(batch.all_states ? batch.tokens.size() : batch.logit_rows.size()));
    if (batch.logit_rows.empty()) return;
    const auto wanted = static_cast<std::int64_t>(batch.logit_rows.size());
    multiply_states(0, wanted);
    if (batch.likeliest_only)
      arg_max_rows(device_, buffers_->floats.logits, wanted, config().vocabulary, buffers_->input.likeliest());
  };
  const bool one_token_each = batch.parts.size() == batch.tokens.size() && batch.logit_rows.size() == batch.tokens.size();
  if (device_.gpu == nullptr || !one_token_each || !buffers_->row_adapters.empty()) return compute();
  Buffers& buffers = *buffers_;
  buffers.state_rows = static_cast<std::int64_t>(batch.tokens.size());
  const std::byte* const keys = cache.layer(0).keys;
  if (std::exchange(buffers.recorded_cache, keys) != keys) device_.gpu->forget_records();
  device_.gpu->replay_or_record(buffers.number << 48 | buffers.input.shape() << 1 | (batch.likeliest_only ? 1 : 0), compute);
}

std::span<const std::int32_t> Llama::likeliest() const { return buffers_->likeliest; }

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

// Parts side by side that have the same adapters are one run of rows.
void Llama::find_adapters(const Batch& batch) {
  std::vector<RowAdapters>& found = buffers_->row_adapters;
  found.clear();
  std::int64_t row = 0, wanted = 0;
  for (const Batch::Part& part : batch.parts) {
    const std::int64_t first = std::exchange(row, row + part.rows), first_wanted = wanted;
    while (as_size(wanted) < batch.logit_rows.size() && batch.logit_rows[as_size(wanted)] < row) ++wanted;
    if (part.adapters == nullptr) continue;
    const auto moved = buffers_->adapters_on_device.find(part.adapters);
    const AdapterSet* const set = moved == buffers_->adapters_on_device.end() ? part.adapters : moved->second.get();
    const bool follows = !found.empty() && found.back().set == set && found.back().first + found.back().rows == first;
    if (!follows) found.push_back({set, first, 0, first_wanted, 0});
    found.back().rows += part.rows;
    found.back().wanted += wanted - first_wanted;
  }
}

// x [T, D] -> x [R, D], the rows whose logits are wanted; all of them where states are
void Llama::run_blocks(const Batch& batch, KvCache& cache) {
  Buffers& buffers = *buffers_;
  const StepInput& input = buffers.input;
  embed_forward(device_, checkpoint_->weights.token_embedding, input.tokens(), buffers.floats.x);
  rope_table(device_, buffers.frequencies, input.positions(), buffers.floats.rope_table);

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
    const PagedKv kv{cache.layer(l), input.batch()};
    if (l + 1 < config().layers || batch.all_states) {
      block_forward(run, weights, block_batch, kv, buffers.block());
    } else {
      last_block_forward(run, weights, block_batch, kv, buffers.block(),
                         {input.wanted(), input.wanted_batch(), buffers.wanted_adapters});
    }
  }
}

std::span<const float> Llama::states() const {
  const std::span<const float> states{buffers_->floats.norm, as_size(buffers_->state_rows * config().width)};
  return buffers_->on_host == nullptr ? states : buffers_->on_host->states(states);
}

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
  multiply_states(first, rows);
  const std::span<const float> logits{buffers_->floats.logits, as_size(rows * config().vocabulary)};
  return buffers_->on_host == nullptr ? logits : buffers_->on_host->logits(logits);
}

// logits [R, V] of rows [first, first + R) of norm
void Llama::multiply_states(std::int64_t first, std::int64_t rows) {
  const Floats& floats = buffers_->floats;
  const Tensor& output = checkpoint_->weights.output;
  Activations x = buffers_->activations.prepare(floats.norm + first * config().width, rows, config().width);
  const std::array<Product, 1> products{{{&output, floats.logits, config().vocabulary}}};
  matmul_forward(device_, x, products);
}

}  // namespace puna
