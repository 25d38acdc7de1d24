// SPDX-License-Identifier: Apache-2.0
// Embed, blocks, norm, logits: the network from top to bottom. The block itself is in model/block.cc.
#include "model/llama_rank.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <utility>

#include "base/as_size.h"
#include "base/error.h"
#include "kernels/collective.h"
#include "kernels/gpu.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "kernels/shortlist.h"
#include "model/rank_share.h"

namespace puna {
namespace {

// The largest K of any product.
std::int64_t widest(const ModelConfig& config) {
  return std::max({config.width, config.heads * config.head_width, config.feed_forward});
}

std::uint64_t next_rank_number() {
  static std::atomic<std::uint64_t> next = 0;
  return next++;
}

}  // namespace

template <typename Visit>
void LlamaRank::Floats::each(const ModelConfig& config, const Sizes& sizes, Visit&& visit) {
  const std::int64_t query_width = config.heads * config.head_width, kv_width = config.kv_heads * config.head_width;
  visit(norms, (2 * config.layers + 1) * config.width);
  visit(x, sizes.rows * config.width);
  visit(norm, sizes.rows * config.width);
  visit(qkv, sizes.rows * (query_width + 2 * kv_width));
  visit(attention, sizes.rows * query_width);
  visit(x_middle, sizes.rows * config.width);
  visit(gate, sizes.rows * config.feed_forward);
  visit(up, sizes.rows * config.feed_forward);
  visit(rope_table, sizes.rows * config.head_width);
  visit(logits, sizes.logit_rows * sizes.logits);
}

std::int64_t LlamaRank::Floats::bytes(const ModelConfig& config, const Sizes& sizes) {
  std::int64_t bytes = 0;
  Floats{}.each(config, sizes, [&](float*, std::int64_t count) {
    bytes += static_cast<std::int64_t>(Arena::padded(as_size(count) * sizeof(float)));
  });
  return bytes;
}

LlamaRank::LlamaRank(std::shared_ptr<const Checkpoint> checkpoint, Device device, const RankPosition& position,
                     std::int64_t max_rows, std::int64_t max_logit_rows, std::int64_t adapter_rank)
    : checkpoint_(std::move(checkpoint)),
      device_(device),
      position_(position),
      adapter_rank_(adapter_rank),
      number_(next_rank_number()),
      arena_(device.arena(as_size(Floats::bytes(config(), {max_rows, max_logit_rows, logit_count()})), "the activations")),
      shortlist_arena_(device.arena(as_size(max_logit_rows) * sizeof(Shortlist), "the shortlists")),
      shortlists_(shortlist_arena_.take<Shortlist>(as_size(max_logit_rows))),
      low_rank_arena_(device.arena(as_size(low_rank_bytes(config(), adapter_rank, max_rows)), "the adapters' activations")),
      low_rank_(take_low_rank(low_rank_arena_, config(), adapter_rank, max_rows)),
      frequency_arena_(device.arena(as_size(config().head_width / 2) * sizeof(double), "the frequencies")),
      frequencies_(frequency_arena_.take<double>(as_size(config().head_width / 2))),
      activations_(device, max_rows, std::max(widest(config()), adapter_rank)),
      input_(device) {
  floats_.each(config(), {max_rows, max_logit_rows, logit_count()},
               [&](float*& pointer, std::int64_t count) { pointer = arena_.take<float>(as_size(count)).data(); });
  const std::vector<double> of_model = rope_frequencies(config());
  device_.copy_in(frequencies_.data(), of_model.data(), frequencies_.size_bytes());
  if (device_.gpu != nullptr) on_host_ = std::make_unique<HostCopies>(*device_.gpu);
  layer_adapters_.reserve(as_size(max_rows));
  wanted_adapters_.reserve(as_size(max_rows));
  take_norms();
}

void LlamaRank::take_norms() {
  float* norm = floats_.norms;
  const auto take = [&](const Tensor& tensor) {
    float* const to = std::exchange(norm, norm + config().width);
    if (device_.gpu == nullptr) return decode_row(tensor, 0, to);
    device_.gpu->library().copy_within(device_.gpu->context(), to, tensor.bytes.data(), as_size(config().width) * sizeof(float));
  };
  for (const LayerWeights& layer : checkpoint_->weights.layers) take(layer.attention_norm), take(layer.feed_forward_norm);
  if (ends_network()) take(checkpoint_->weights.output_norm);
}

std::int64_t LlamaRank::activation_bytes(const ModelConfig& whole, int ranks, std::int64_t max_rows, std::int64_t max_logit_rows,
                                         bool on_gpu) {
  const ModelConfig config = config_of_largest_share(whole, ranks);
  const std::int64_t logits = (whole.vocabulary + ranks - 1) / ranks;
  return Floats::bytes(config, {max_rows, max_logit_rows, logits}) + ActivationBuffer::bytes(max_rows, widest(config), on_gpu) +
         config.head_width / 2 * static_cast<std::int64_t>(sizeof(double)) + StepInput::bytes(max_rows) +
         max_rows * static_cast<std::int64_t>(sizeof(BatchSequence)) +
         max_logit_rows * static_cast<std::int64_t>(sizeof(BatchSequence) + sizeof(Shortlist));
}

BlockBuffers LlamaRank::block_buffers(float* x) const {
  return {.x = x,
          .attention_norm = floats_.norm,
          .qkv = floats_.qkv,
          .attention = floats_.attention,
          .x_middle = floats_.x_middle,
          .feed_forward_norm = floats_.norm,
          .gate = floats_.gate,
          .up = floats_.up,
          .activated = floats_.gate,
          .x_out = x,
          .low_rank = low_rank_};
}

void LlamaRank::run_adapters_as(const AdapterSet* adapters, std::shared_ptr<const AdapterSet> own) {
  own_adapters_[adapters] = std::move(own);
}

// A rank that has everything can read them where they are.
const AdapterSet& LlamaRank::own_adapters(const AdapterSet* adapters) const {
  if (const auto own = own_adapters_.find(adapters); own != own_adapters_.end()) return *own->second;
  const bool has_everything = device_.team == nullptr && position_.from == nullptr && position_.to == nullptr;
  PUNA_CHECK(has_everything, "llama", "{} has no part for rank {}", adapters->name, position_.place);
  return *adapters;
}

void LlamaRank::run(std::span<const PlacedBatch> pieces, const KvCache& cache) {
  for (const PlacedBatch& piece : pieces) {
    if (position_.from != nullptr)
      position_.from->take(device_, rows_of(piece), static_cast<std::int64_t>(piece.tokens.size()) * config().width);
    run_piece(piece, cache);
    if (position_.to != nullptr) position_.to->give(device_, rows_of(piece));
  }
}

// Steps in which every sequence writes its next token are recorded, by each stage between what it takes and what it gives.
void LlamaRank::run_piece(const PlacedBatch& piece, const KvCache& cache) {
  input_.set(piece.tokens, piece.wanted, piece.sequences, piece.runs, piece.wanted_before, piece.draws);
  const std::size_t rows = piece.tokens.size();
  const bool whole = piece.rows_before == 0 && piece.last;
  const bool one_token_each = piece.sequences.size() == rows && piece.wanted.size() == rows;
  const bool can_record = device_.gpu != nullptr && (device_.team == nullptr || device_.team->records());
  if (!can_record || !whole || !one_token_each || !piece.adapters.empty()) return compute(piece, cache);
  state_rows_ = static_cast<std::int64_t>(rows);
  const std::byte* const keys = cache.layer(0, position_.place).keys;
  if (std::exchange(recorded_cache_, keys) != keys) device_.gpu->forget_records();
  const std::uint64_t kind = piece.likeliest_only ? 1 : piece.draws.empty() ? 0 : 2;
  device_.gpu->replay_or_record(number_ << 48 | input_.shape() << 2 | kind, [&] { compute(piece, cache); });
}

// The norm and the logits are those of all pieces at once.
void LlamaRank::compute(const PlacedBatch& piece, const KvCache& cache) {
  run_blocks(piece, cache);
  if (!ends_network() || !piece.last) return;
  const std::int64_t wanted = piece.wanted_before + static_cast<std::int64_t>(piece.wanted.size());
  normalise_states(piece.all_states ? piece.rows_before + static_cast<std::int64_t>(piece.tokens.size()) : wanted);
  if (wanted == 0) return;
  multiply_states(0, wanted);
  if (piece.likeliest_only) arg_max_rows(device_, floats_.logits, wanted, logit_count(), input_.likeliest());
  if (!piece.draws.empty()) shortlist_rows(device_, known_logits(piece, wanted), input_.draws(), shortlists_.data());
}

// The rank's columns of ids that a token may have.
LogitColumns LlamaRank::known_logits(const PlacedBatch& piece, std::int64_t rows) const {
  const std::int64_t first = first_logit(config(), device_.rank, device_.team == nullptr ? 1 : device_.team->ranks());
  return {floats_.logits, rows, logit_count(), std::clamp<std::int64_t>(piece.known_tokens - first, 0, logit_count())};
}

// x [T, D] of the piece -> x [T, D], for the next stage or where all states are wanted; else in the last layer -> x [R, D], the
// wanted rows, behind those of the pieces before.
void LlamaRank::run_blocks(const PlacedBatch& piece, const KvCache& cache) {
  if (position_.from == nullptr) embed_forward(device_, checkpoint_->weights.token_embedding, input_.tokens(), rows_of(piece));
  rope_table(device_, frequencies_, input_.positions(), floats_.rope_table);

  const BlockRun run{device_, config(), activations_};
  const BlockBatch block_batch{static_cast<std::int64_t>(piece.tokens.size()), floats_.rope_table};
  BlockBuffers buffers = block_buffers(rows_of(piece));
  for (std::int64_t l = 0; l < config().layers; ++l) {
    const float* const norms = floats_.norms + 2 * l * config().width;
    layer_adapters_.clear();
    wanted_adapters_.clear();
    for (const RowAdapters& rows : piece.adapters) {
      const LayerAdapters* const layer = &own_adapters(rows.set).layers[as_size(l)];
      layer_adapters_.push_back({rows.first, rows.rows, layer});
      if (rows.wanted > 0) wanted_adapters_.push_back({rows.first_wanted, rows.wanted, layer});
    }
    const BlockWeights weights{checkpoint_->weights.layers[as_size(l)], norms, norms + config().width,
                               checkpoint_->adapters.empty() ? nullptr : &checkpoint_->adapters[as_size(l)], layer_adapters_};
    const PagedKv kv{cache.layer(l, position_.place), input_.batch()};
    if (l + 1 < config().layers || !ends_network() || piece.all_states) {
      block_forward(run, weights, block_batch, kv, buffers);
    } else {
      buffers.x_out = floats_.x + piece.wanted_before * config().width;
      last_block_forward(run, weights, block_batch, kv, buffers, {input_.wanted(), input_.wanted_batch(), wanted_adapters_});
    }
  }
}

// norm [R, D] of x [R, D]
void LlamaRank::normalise_states(std::int64_t rows) {
  state_rows_ = rows;
  if (rows == 0) return;
  const std::int64_t width = config().width;
  rms_norm_forward(device_, floats_.x, floats_.norms + 2 * config().layers * width, static_cast<float>(config().norm_eps), rows,
                   width, floats_.norm);
}

// logits [R, V_r] of rows [first, first + R) of norm
void LlamaRank::multiply_states(std::int64_t first, std::int64_t rows) {
  Activations x = activations_.prepare(floats_.norm + first * config().width, rows, config().width);
  const std::array<Product, 1> products{{{&checkpoint_->weights.output, floats_.logits, logit_count()}}};
  matmul_forward(device_, x, products);
}

std::span<const float> LlamaRank::logits(std::int64_t first, std::int64_t rows) {
  const std::span<const float> logits{floats_.logits + first * logit_count(), as_size(rows * logit_count())};
  return on_host_ == nullptr ? logits : on_host_->logits(logits);
}

std::span<const Shortlist> LlamaRank::shortlists(std::int64_t rows) {
  const std::span<const Shortlist> found = shortlists_.first(as_size(rows));
  return on_host_ == nullptr ? found : on_host_->shortlists(found);
}

std::span<const float> LlamaRank::states() const {
  const std::span<const float> states{floats_.norm, as_size(state_rows_ * config().width)};
  return on_host_ == nullptr ? states : on_host_->states(states);
}

void LlamaRank::read_likeliest(std::span<std::int32_t> places, std::span<float> values) const {
  const ArgMax largest = input_.likeliest();
  device_.copy_out(places.data(), largest.places, places.size_bytes());
  if (!values.empty()) device_.copy_out(values.data(), largest.values, values.size_bytes());
}

}  // namespace puna
