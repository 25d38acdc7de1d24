// SPDX-License-Identifier: Apache-2.0
// What one rank does of a forward pass: its share of the weights, its activations, and the network from the tokens to its columns
// of the logits. A network on one device is one rank, which has everything. On a GPU all that differs between two steps of the same
// size lies in one small array (model/step_input.h), so a decode step is recorded once and replayed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "kernels/matmul.h"
#include "kernels/shortlist.h"
#include "kernels/stage_link.h"
#include "model/block.h"
#include "model/checkpoint.h"
#include "model/kv_cache.h"
#include "model/placed_batch.h"
#include "model/step_input.h"
#include "tensor/arena.h"

namespace puna {

// Where a rank is in the network.
struct RankPosition {
  int place = 0;              // among all ranks of all stages: where the cache has its keys and values
  StageLink* from = nullptr;  // the stage before; nullptr: this is the first
  StageLink* to = nullptr;    // the next stage; nullptr: this is the last
};

class LlamaRank {
 public:
  // `checkpoint` is the rank's share (model/rank_share.h) of its stage (model/stages.h), where `device` says which rank of which
  // team it is.
  LlamaRank(std::shared_ptr<const Checkpoint> checkpoint, Device device, const RankPosition& position, std::int64_t max_rows,
            std::int64_t max_logit_rows, std::int64_t adapter_rank);
  LlamaRank(const LlamaRank&) = delete;
  LlamaRank& operator=(const LlamaRank&) = delete;

  // Rows that have `adapters` run with `own`, the rank's part of them where its device can read it.
  void run_adapters_as(const AdapterSet* adapters, std::shared_ptr<const AdapterSet> own);

  // What the stage has to do between the batch and the logits, piece by piece. Throws where an operation does.
  void run(std::span<const PlacedBatch> pieces, const KvCache& cache);
  // In the last stage: logits of rows [first, first + rows) of the states behind the output norm.
  void multiply_states(std::int64_t first, std::int64_t rows);

  // What these left in the last stage, on the host, valid until the next.
  std::span<const float> logits(std::int64_t first, std::int64_t rows);  // [rows, V_r] of rows [first, first + rows)
  std::span<const Shortlist> shortlists(std::int64_t rows);              // [rows] of a batch with draws
  std::span<const float> states() const;                                 // [state_rows, D], in all ranks the same
  // The rank's likeliest tokens [R] of a batch with likeliest_only, and where `values` is not empty their logits.
  void read_likeliest(std::span<std::int32_t> places, std::span<float> values) const;

  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const Device& device() const { return device_; }
  bool ends_network() const { return position_.to == nullptr; }                      // of the last stage
  std::int64_t logit_count() const { return checkpoint_->weights.output.shape[0]; }  // V_r
  std::int64_t state_rows() const { return state_rows_; }
  std::int64_t adapter_rank() const { return adapter_rank_; }

  // Bytes the constructor allocates on the device, without adapters, for the largest share of `ranks`.
  static std::int64_t activation_bytes(const ModelConfig& whole, int ranks, std::int64_t max_rows, std::int64_t max_logit_rows,
                                       bool on_gpu);

 private:
  // Every buffer of the arena, listed once: visit(pointer, count) in order. Counted without an arena, then taken from it.
  struct Floats {
    float* norms = nullptr;       // [2 L + 1, D] attention and feed-forward norm of each layer, then the output's; decoded to F32
    float* x = nullptr;           // [T, D] pieces of a batch where their rows are; the finished rows [R, D] from the front
    float* norm = nullptr;        // [T, D]
    float* qkv = nullptr;         // [T, (H + 2 G) E]
    float* attention = nullptr;   // [T, H, E]
    float* x_middle = nullptr;    // [T, D]
    float* gate = nullptr;        // [T, F]
    float* up = nullptr;          // [T, F]
    float* rope_table = nullptr;  // [T, E / 2, 2]
    float* logits = nullptr;      // [R, V_r] of the last stage

    struct Sizes {
      std::int64_t rows, logit_rows, logits;  // T, R, V_r
    };
    template <typename Visit>
    void each(const ModelConfig& config, const Sizes& sizes, Visit&& visit);
    static std::int64_t bytes(const ModelConfig& config, const Sizes& sizes);
  };

  const ModelConfig& config() const { return checkpoint_->config; }
  BlockBuffers block_buffers(float* x) const;
  void take_norms();
  float* rows_of(const PlacedBatch& piece) const { return floats_.x + piece.rows_before * config().width; }
  void run_piece(const PlacedBatch& piece, const KvCache& cache);
  void compute(const PlacedBatch& piece, const KvCache& cache);
  void run_blocks(const PlacedBatch& piece, const KvCache& cache);
  const AdapterSet& own_adapters(const AdapterSet* adapters) const;
  void normalise_states(std::int64_t rows);
  LogitColumns known_logits(const PlacedBatch& piece, std::int64_t rows) const;

  std::shared_ptr<const Checkpoint> checkpoint_;
  Device device_;
  RankPosition position_;
  std::int64_t adapter_rank_;                  // r at most
  std::int64_t state_rows_ = 0;                // of the last run()
  std::uint64_t number_;                       // of this rank among all networks', in the keys of recorded steps
  const std::byte* recorded_cache_ = nullptr;  // whose addresses the records hold
  Arena arena_;
  Floats floats_;
  Arena shortlist_arena_;
  std::span<Shortlist> shortlists_;  // [R] of the last stage
  Arena low_rank_arena_;
  LowRankBuffers low_rank_;
  Arena frequency_arena_;
  std::span<double> frequencies_;  // [E / 2]
  ActivationBuffer activations_;   // of the widest input
  StepInput input_;
  std::unique_ptr<HostCopies> on_host_;  // of logits, states and shortlists, on a GPU
  std::map<const AdapterSet*, std::shared_ptr<const AdapterSet>> own_adapters_;
  std::vector<AdaptedRows> layer_adapters_, wanted_adapters_;  // the batch's in the layer that is run
};

}  // namespace puna
