// SPDX-License-Identifier: Apache-2.0
#include "infer/drafter.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/error.h"
#include "infer/sample_row.h"

namespace puna {
namespace {

constexpr std::size_t kLongestMatch = 4, kShortestMatch = 2;

class LookupDrafter : public Drafter {
 public:
  std::span<const Token> propose(std::span<const Token> text, std::int64_t most, const Sampler&) override {
    for (std::size_t length = kLongestMatch; length >= kShortestMatch; --length) {
      if (text.size() <= length) continue;
      const std::span<const Token> end = text.last(length);
      for (std::size_t at = text.size() - length; at-- > 0;) {
        if (!std::ranges::equal(text.subspan(at, length), end)) continue;
        const std::span<const Token> followed = text.subspan(at + length);
        proposals_.assign(followed.begin(), followed.begin() + std::min(most, static_cast<std::int64_t>(followed.size())));
        return proposals_;
      }
    }
    return {};
  }

 private:
  std::vector<Token> proposals_;
};

class ModelDrafter : public Drafter {
 public:
  explicit ModelDrafter(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}
  ~ModelDrafter() override { release(); }
  ModelDrafter(const ModelDrafter&) = delete;
  ModelDrafter& operator=(const ModelDrafter&) = delete;

  std::span<const Token> propose(std::span<const Token> text, std::int64_t most, const Sampler& sampler) override {
    proposals_.clear();
    if (static_cast<std::int64_t>(text.size()) + most > engine_->context()) return {};
    try {
      draw(text, most, sampler);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kNoRoom) throw;
      release();  // others have the cache
    }
    return proposals_;
  }

  void end() override { release(); }

 private:
  void draw(std::span<const Token> text, std::int64_t most, Sampler sampler) {
    if (sequence_ < 0) sequence_ = engine_->cache().add_sequence();
    const auto same = static_cast<std::size_t>(std::ranges::mismatch(cached_, text).in1 - cached_.begin());
    cached_.resize(std::min(same, text.size() - 1));  // logits come only from a token that is computed
    engine_->cache().truncate(sequence_, static_cast<std::int64_t>(cached_.size()));
    std::span<const Token> next = text.subspan(cached_.size());
    while (static_cast<std::int64_t>(proposals_.size()) < most) {
      const std::array<RowDraw, 1> draws{sampler.next_draw()};
      engine_->append(sequence_, next, {}, nullptr, draws);
      cached_.insert(cached_.end(), next.begin(), next.end());
      proposals_.push_back(sample_row(engine_->model(), 0, sampler).token);
      next = std::span(proposals_).last(1);
    }
  }

  void release() {
    if (sequence_ >= 0) engine_->cache().remove_sequence(std::exchange(sequence_, -1));
    cached_.clear();
  }

  std::shared_ptr<Engine> engine_;
  int sequence_ = -1;
  std::vector<Token> cached_;  // of the draft's cache
  std::vector<Token> proposals_;
};

}  // namespace

std::shared_ptr<Drafter> lookup_drafter() { return std::make_shared<LookupDrafter>(); }

std::shared_ptr<Drafter> model_drafter(std::shared_ptr<Engine> draft) { return std::make_shared<ModelDrafter>(std::move(draft)); }

void check_draft(const Checkpoint& target, const Checkpoint& draft) {
  const bool words = target.tokenizer != nullptr && draft.tokenizer != nullptr;
  const std::int64_t wanted = words ? target.tokenizer->size() : target.config.vocabulary;
  const std::int64_t found = words ? draft.tokenizer->size() : draft.config.vocabulary;
  if (found != wanted || draft.config.vocabulary < wanted) {
    fail(ErrorKind::kUsage, "draft", "{} has {} tokens and {} has {}: give a draft model with the same vocabulary", draft.where,
         found, target.where, wanted);
  }
  for (std::int32_t i = 0; words && i < wanted; ++i) {
    if (target.tokenizer->piece(Token{i}, true) == draft.tokenizer->piece(Token{i}, true)) continue;
    fail(ErrorKind::kUsage, "draft",
         "token {} stands for other bytes in {} than in {}: give a draft model with the same vocabulary", i, draft.where,
         target.where);
  }
}

std::int64_t most_proposals(Engine& engine, int sequence, std::int64_t rows, std::int64_t pages) {
  const KvCache& cache = engine.cache();
  const std::int64_t length = cache.length(sequence);
  std::int64_t most = std::min({rows, engine.model().max_rows(), engine.model().max_logit_rows(), engine.context() - length}) - 1;
  while (most > 0 && cache.pages_to_grow(sequence, length + 1 + most) > pages) --most;
  return std::max<std::int64_t>(0, most);
}

}  // namespace puna
