// SPDX-License-Identifier: Apache-2.0
// Texts that are read and not continued: what becomes of the states behind the output norm, h[t] [D] of position t. A text's
// embedding is the mean of its states or the last one; a text's score is log p(tokens[t] | tokens[0 .. t-1]), from logits Wout
// h[t-1]. Whoever feeds them hands over the states chunk by chunk; sums are in F64 and in the order of positions, so how a text was
// cut does not show.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/error.h"
#include "infer/sampler.h"
#include "model/adapters.h"
#include "model/llama.h"
#include "text/token.h"

namespace puna {

enum class Pooling { kMean, kLast };

struct EmbeddingRequest {
  std::vector<Token> tokens;
  Pooling pooling = Pooling::kMean;
  bool normalise = true;                                 // to length 1, where it is not 0
  std::shared_ptr<const AdapterSet> adapters = nullptr;  // one of the engine's
};
struct EmbeddingEvents {
  std::function<void(std::vector<float> state)> done = {};  // [D]; the last event, or:
  std::function<void(const Error&)> failed = {};
  std::function<void(std::int64_t read, std::int64_t total)> progress = {};
};

struct ScoreRequest {
  std::vector<Token> tokens;
  std::int64_t from = 1;  // positions before it are read only; where it is 0, the first token's log-probability is NaN
  int top = 0;            // how many of the likeliest tokens are given beside each
  std::shared_ptr<const AdapterSet> adapters = nullptr;  // one of the engine's
};
struct ScoreEvents {
  std::function<void(std::vector<SampledToken> scores)> done = {};  // of positions [from, T); the last event, or:
  std::function<void(const Error&)> failed = {};
  std::function<void(std::int64_t read, std::int64_t total)> progress = {};
};

// What is made of a text's states.
class StateReader {
 public:
  virtual ~StateReader() = default;
  // The position from which on states are looked at: a beginning whose keys and values are known need not be computed up to there.
  virtual std::int64_t first() const = 0;
  // Rows [row, row + count) of model.states() are those of positions [position, position + count); each follows the ones before, or
  // the text is begun again. Products are of fewer than kPanelRows rows, for bits that do not depend on the cut.
  virtual void take(Llama& model, std::int64_t row, std::int64_t position, std::int64_t count) = 0;
  virtual void done() = 0;
  virtual void failed(const Error& error) = 0;
};

// Throw kUsage for an option out of range. Scores are among the tokens that the checkpoint knows, as those of answers are.
std::unique_ptr<StateReader> embedding_reader(const EmbeddingRequest& request, EmbeddingEvents events);
std::unique_ptr<StateReader> score_reader(const ScoreRequest& request, const Checkpoint& checkpoint, ScoreEvents events);

}  // namespace puna
