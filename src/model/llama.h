// SPDX-License-Identifier: Apache-2.0
// The Llama network (llama-models, models/llama3/model.py) over a ragged batch, forward:
//   x = embedding[token];  x = block(x) for every layer (model/block.h);  logits = Wout rms_norm(x)
// A checkpoint's adapters take part in every row; where it has none, every part of a batch may bring some of its own. On several
// devices each rank computes its share of its stage's layers (model/llama_rank.h), in a thread of its own, and the caller's is the
// first one's. Batches of many rows go through several stages in pieces, so that all of them work at once.
// Buffers are planned once for `max_rows` rows and do not move; nothing is allocated in forward() after construction.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/device.h"
#include "kernels/stage_link.h"
#include "model/checkpoint.h"
#include "model/kv_cache.h"
#include "model/llama_rank.h"
#include "model/placed_batch.h"
#include "model/ragged_batch.h"

namespace puna {

class Llama {
 public:
  // max_rows: largest T; max_logit_rows: largest number of rows of logits from one forward().
  // adapter_rank: the largest of any adapters that parts bring. On a GPU the checkpoint's weights are there already
  // (model/gpu_checkpoint.h), and what forward() and states() return is copied to the host.
  Llama(std::shared_ptr<const Checkpoint> checkpoint, Device device, std::int64_t max_rows, std::int64_t max_logit_rows,
        std::int64_t adapter_rank = 0);
  // The same over the ranks of `stages` stages, those of the first one first, in each as many: a rank has its share of its stage's
  // checkpoint (model/stages.h), and a device which says what team and rank that is.
  struct RankPlace {
    std::shared_ptr<const Checkpoint> share;
    Device device;
  };
  Llama(std::span<const RankPlace> ranks, int stages, std::int64_t max_rows, std::int64_t max_logit_rows,
        std::int64_t adapter_rank = 0);
  ~Llama();

  // Runs the batch, appends its keys and values to the cache, and returns logits [logit_rows, V], valid until the next call.
  // Only what the wanted rows need is computed: without logit_rows the last layer ends behind its keys and values. A row's logits
  // depend on the rest of the batch by rounding only (products sum in one order below kPanelRows rows and in another from there
  // on). Throws kBadInput for a token outside the vocabulary, kNoRoom when the cache is full; the cache is as before then. Where
  // one rank fails, all end, and its error is thrown.
  std::span<const float> forward(const Batch& batch, KvCache& cache);

  // The token with the largest logit of each wanted row [logit_rows] of a batch with likeliest_only, the lowest of equal ones.
  std::span<const std::int32_t> likeliest() const;

  // Of a batch with draws, the shortlist of each wanted row [logit_rows], valid until the next forward(); none where they are not
  // made: logits on a GPU are long to bring, those on the CPU are at hand unless make_shortlists() asks for both to go one way. And
  // the logits of one of these rows, of the batch's known tokens, valid until the next call. Of several ranks nothing is drawn.
  std::span<const Shortlist> shortlists() const { return shortlists_; }
  std::span<const float> row_logits(std::int64_t row);
  void make_shortlists() { makes_shortlists_ = true; }

  // The states behind the output norm [logit_rows, D], or [T, D] of all rows, that the last forward() left, valid until the next.
  std::span<const float> states() const;
  // Logits [rows, V] of rows [first, first + rows) of states(), valid until the next call or forward().
  std::span<const float> logits_of_states(std::int64_t first, std::int64_t rows);

  // Parts that bring `adapters` run on the rank at `place` with `own`: its part of them, where its device can read them.
  void run_adapters_as(const AdapterSet* adapters, std::size_t place, std::shared_ptr<const AdapterSet> own);

  const ModelConfig& config() const { return ranks_.front()->checkpoint().config; }  // of several ranks: the first one's share
  std::int64_t max_rows() const { return max_rows_; }
  std::int64_t max_logit_rows() const { return max_logit_rows_; }

 private:
  void check(const Batch& batch) const;
  void find_adapters(const Batch& batch);
  template <typename Job>
  void each_rank(Job&& job);
  template <typename Compute>
  std::span<const float> logits_of(std::int64_t first, std::int64_t rows, Compute&& compute);
  void find_likeliest(std::size_t wanted, const KvCache& cache);
  void find_shortlists(std::span<const RowDraw> draws, const KvCache& cache);
  std::span<const std::unique_ptr<LlamaRank>> last_stage() const { return std::span(ranks_).last(ranks_.size() / stages_); }
  int pieces_of(const Batch& batch) const;

  std::int64_t max_rows_, max_logit_rows_;           // T and R at most
  std::size_t stages_;                               // S
  std::vector<std::unique_ptr<StageLink>> links_;    // [S - 1, N] from each rank to the same of the next stage
  std::vector<std::unique_ptr<LlamaRank>> ranks_;    // [S, N]
  std::unique_ptr<ThreadPool> threads_;              // one for each rank, where there are several
  std::vector<BatchSequence> sequences_;             // one per part of the batch
  std::vector<RowAdapters> row_adapters_;            // of the batch
  PlacedBatches placed_;                             // the batch
  std::vector<float> logits_;                        // [R, V] of several ranks of a stage
  std::vector<std::int32_t> likeliest_, places_;     // [<= R] of the last forward(); [N, R] of each rank
  std::vector<float> values_;                        // [N, R] their logits
  bool makes_shortlists_;                            // of batches with draws
  std::int64_t drawn_rows_ = 0, known_tokens_ = 0;   // of the last forward()
  std::span<const Shortlist> shortlists_;            // [<= R] of the last forward()
  std::vector<std::span<const Shortlist>> of_rank_;  // [N, <= R]
  std::vector<Shortlist> joined_;                    // [<= R] of several ranks
};

}  // namespace puna
