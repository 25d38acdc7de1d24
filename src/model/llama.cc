// SPDX-License-Identifier: Apache-2.0
// The batch put in its places, given to the ranks, and their results put together. What a rank computes is in model/llama_rank.cc.
// The cache grows before anything is computed and shrinks back when anything throws, so a failed batch leaves no trace.
#include "model/llama.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "base/as_size.h"
#include "base/error.h"
#include "kernels/activations.h"
#include "kernels/collective.h"
#include "model/rank_share.h"

namespace puna {
namespace {

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

// So many rows of a piece use a device well: the stages' pieces are no smaller, as products of few rows read weights for nothing.
constexpr std::int64_t kPieceRows = 128, kGpuPieceRows = 512;
static_assert(kPieceRows >= kPanelRows, "pieces sum in the order of the whole");

}  // namespace

Llama::Llama(std::shared_ptr<const Checkpoint> checkpoint, Device device, std::int64_t max_rows, std::int64_t max_logit_rows,
             std::int64_t adapter_rank)
    : Llama(std::array<RankPlace, 1>{{{std::move(checkpoint), device}}}, 1, max_rows, max_logit_rows, adapter_rank) {}

Llama::Llama(std::span<const RankPlace> ranks, int stages, std::int64_t max_rows, std::int64_t max_logit_rows,
             std::int64_t adapter_rank)
    : max_rows_(max_rows),
      max_logit_rows_(max_logit_rows),
      stages_(as_size(stages)),
      placed_(max_rows, max_logit_rows),
      makes_shortlists_(!ranks.empty() && ranks.back().device.gpu != nullptr) {
  PUNA_CHECK(max_rows >= 1 && max_logit_rows >= 1, "llama", "planned for {} rows and {} rows of logits, expected 1 or more",
             max_rows, max_logit_rows);
  PUNA_CHECK(stages >= 1 && ranks.size() % stages_ == 0, "llama", "{} ranks in {} stages", ranks.size(), stages);
  const std::size_t of_stage = ranks.size() / stages_;
  for (std::size_t link = 0; link + of_stage < ranks.size(); ++link) links_.push_back(std::make_unique<StageLink>());
  for (std::size_t place = 0; place < ranks.size(); ++place) {
    const auto& [share, device] = ranks[place];
    const Team* const team = device.team;
    PUNA_CHECK(of_stage == 1 ? team == nullptr : team != nullptr && as_size(team->ranks()) == of_stage, "llama",
               "{} ranks are not those of the team", of_stage);
    PUNA_CHECK(as_size(device.rank) == place % of_stage, "llama", "rank {} at place {}", device.rank, place);
    const RankPosition position{.place = static_cast<int>(place),
                                .from = place < of_stage ? nullptr : links_[place - of_stage].get(),
                                .to = place < links_.size() ? links_[place].get() : nullptr};
    ranks_.push_back(std::make_unique<LlamaRank>(share, device, position, max_rows, max_logit_rows,
                                                 std::max(adapter_rank, largest_rank(share->adapters))));
  }
  sequences_.reserve(as_size(max_rows));
  row_adapters_.reserve(as_size(max_rows));
  if (ranks.size() > 1) threads_ = std::make_unique<ThreadPool>(static_cast<int>(ranks.size()));
  if (of_stage > 1) logits_.resize(as_size(max_logit_rows * config().vocabulary));
}

Llama::~Llama() = default;

void Llama::run_adapters_as(const AdapterSet* adapters, std::size_t place, std::shared_ptr<const AdapterSet> own) {
  PUNA_CHECK(place < ranks_.size(), "llama", "adapters for rank {} of {}", place, ranks_.size());
  ranks_[place]->run_adapters_as(adapters, std::move(own));
}

// job(rank) for every rank, in its thread.
template <typename Job>
void Llama::each_rank(Job&& job) {
  if (threads_ == nullptr) return job(*ranks_.front());
  const auto each_meeting = [&](auto&& act) {
    for (const auto& rank : ranks_) {
      if (Team* const team = rank->device().team; team != nullptr && rank->device().rank == 0) act(*team);
    }
    for (const auto& link : links_) act(*link);
  };
  run_ranks(*threads_, each_meeting, [&](int place) { job(*ranks_[as_size(place)]); });
}

// Logits [rows, V], from row `first` on, of what `compute` leaves in the ranks of the last stage; columns are put side by side.
template <typename Compute>
std::span<const float> Llama::logits_of(std::int64_t first, std::int64_t rows, Compute&& compute) {
  const auto of_stage = static_cast<int>(last_stage().size());
  std::span<const float> logits;
  each_rank([&](LlamaRank& rank) {
    compute(rank);
    if (!rank.ends_network()) return;
    const std::span<const float> own = rank.logits(first, rows);
    if (of_stage == 1) {
      logits = own;
      return;
    }
    const std::int64_t column = first_logit(config(), rank.device().rank, of_stage), count = rank.logit_count();
    for (std::int64_t row = 0; row < rows; ++row)
      std::ranges::copy(own.subspan(as_size(row * count), as_size(count)), logits_.begin() + row * config().vocabulary + column);
  });
  return of_stage == 1 ? logits : std::span<const float>(logits_).first(as_size(rows * config().vocabulary));
}

std::span<const float> Llama::forward(const Batch& asked, KvCache& cache) {
  check(asked);
  drawn_rows_ = static_cast<std::int64_t>(asked.draws.size());
  known_tokens_ = asked.known_tokens;
  Batch batch = asked;
  if (!makes_shortlists_) batch.draws = {};
  Growth growth(batch, cache, sequences_);
  find_adapters(batch);
  placed_.place(batch, sequences_, row_adapters_, pieces_of(batch));
  const std::size_t wanted = batch.logit_rows.size();
  std::span<const float> logits;
  shortlists_ = {};
  if (batch.likeliest_only) {
    find_likeliest(wanted, cache);
  } else if (!batch.draws.empty()) {
    find_shortlists(batch.draws, cache);
  } else {
    logits = logits_of(0, static_cast<std::int64_t>(wanted), [&](LlamaRank& rank) { rank.run(placed_.pieces(), cache); });
  }
  growth.keep();
  return logits;
}

// As many as keep the stages busy.
int Llama::pieces_of(const Batch& batch) const {
  if (stages_ == 1) return 1;
  const bool on_gpu = ranks_.front()->device().gpu != nullptr;
  const std::int64_t pieces = static_cast<std::int64_t>(batch.tokens.size()) / (on_gpu ? kGpuPieceRows : kPieceRows);
  return static_cast<int>(std::max<std::int64_t>(1, pieces));
}

// The best of each rank's best; lower ranks have the lower tokens.
void Llama::find_likeliest(std::size_t wanted, const KvCache& cache) {
  const std::size_t of_stage = last_stage().size();
  likeliest_.resize(wanted);
  places_.resize(of_stage * wanted);
  values_.resize(of_stage * wanted);
  each_rank([&](LlamaRank& rank) {
    rank.run(placed_.pieces(), cache);
    if (!rank.ends_network()) return;
    if (of_stage == 1) return rank.read_likeliest(likeliest_, {});
    const std::size_t first = as_size(rank.device().rank) * wanted;
    rank.read_likeliest(std::span(places_).subspan(first, wanted), std::span(values_).subspan(first, wanted));
  });
  if (of_stage == 1) return;
  for (std::size_t row = 0; row < wanted; ++row) {
    std::size_t best = 0;
    for (std::size_t r = 1; r < of_stage; ++r) {
      const float value = values_[r * wanted + row], most = values_[best * wanted + row];
      if (value > most || (std::isnan(most) && !std::isnan(value))) best = r;
    }
    const std::int64_t first = first_logit(config(), static_cast<int>(best), static_cast<int>(of_stage));
    likeliest_[row] = static_cast<std::int32_t>(first) + places_[best * wanted + row];
  }
}

std::span<const std::int32_t> Llama::likeliest() const { return likeliest_; }

// Those of the ranks' columns are joined in the order of the ranks.
void Llama::find_shortlists(std::span<const RowDraw> draws, const KvCache& cache) {
  of_rank_.resize(last_stage().size());
  each_rank([&](LlamaRank& rank) {
    rank.run(placed_.pieces(), cache);
    if (rank.ends_network()) of_rank_[as_size(rank.device().rank)] = rank.shortlists(static_cast<std::int64_t>(draws.size()));
  });
  shortlists_ = of_rank_.front();
  if (of_rank_.size() == 1) return;
  joined_.assign(shortlists_.begin(), shortlists_.end());
  for (std::size_t row = 0; row < draws.size(); ++row) {
    for (std::size_t r = 1; r < of_rank_.size(); ++r)
      join_shortlists(joined_[row], of_rank_[r][row], draws[row].inverse_temperature);
  }
  shortlists_ = joined_;
}

std::span<const float> Llama::row_logits(std::int64_t row) {
  PUNA_CHECK(row >= 0 && row < drawn_rows_, "llama", "logits of row {} of {} with draws", row, drawn_rows_);
  return logits_of(row, 1, [](LlamaRank&) {}).first(as_size(known_tokens_));
}

std::span<const float> Llama::states() const { return last_stage().front()->states(); }

std::span<const float> Llama::logits_of_states(std::int64_t first, std::int64_t rows) {
  const std::int64_t states = last_stage().front()->state_rows();
  PUNA_CHECK(first >= 0 && rows >= 0 && first + rows <= states && rows <= max_logit_rows(), "llama",
             "logits of rows {} to {} of {} states, planned for {} rows", first, first + rows, states, max_logit_rows());
  if (rows == 0) return {};
  return logits_of(0, rows, [&](LlamaRank& rank) {
    if (rank.ends_network()) rank.multiply_states(first, rows);
  });
}

void Llama::check(const Batch& batch) const {
  const auto rows = static_cast<std::int64_t>(batch.tokens.size()), wanted = static_cast<std::int64_t>(batch.logit_rows.size());
  PUNA_CHECK(rows >= 1 && rows <= max_rows(), "llama", "a batch of {} rows, expected 1 to {}", rows, max_rows());
  PUNA_CHECK(wanted <= max_logit_rows(), "llama", "{} rows of logits wanted, planned for {}", wanted, max_logit_rows());
  PUNA_CHECK(batch.draws.empty() || (batch.draws.size() == batch.logit_rows.size() && !batch.likeliest_only), "llama",
             "{} draws of {} rows of logits", batch.draws.size(), wanted);
  PUNA_CHECK(wanted == 0 || !batch.all_states, "llama", "{} rows of logits wanted beside all states: ask for one of them", wanted);
  std::int64_t sum = 0;
  for (const Batch::Part& part : batch.parts) {
    PUNA_CHECK(part.rows >= 1, "llama", "sequence {} has {} rows in the batch, expected 1 or more", part.sequence, part.rows);
    const auto same = [&](const Batch::Part& other) { return other.sequence == part.sequence; };
    PUNA_CHECK(std::ranges::count_if(batch.parts, same) == 1, "llama", "sequence {} is twice in the batch", part.sequence);
    sum += part.rows;
    if (part.adapters == nullptr) continue;
    PUNA_CHECK(ranks_.front()->checkpoint().adapters.empty(), "llama", "sequence {} has adapters beside the checkpoint's own",
               part.sequence);
    PUNA_CHECK(part.adapters->rank <= ranks_.front()->adapter_rank(), "llama",
               "sequence {} has adapters of rank {}, planned for {}", part.sequence, part.adapters->rank,
               ranks_.front()->adapter_rank());
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
  std::vector<RowAdapters>& found = row_adapters_;
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

}  // namespace puna
