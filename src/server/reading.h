// SPDX-License-Identifier: Apache-2.0
// One request that has texts read and nothing written: embeddings and scores, in no API's shape. A client that goes takes all of it
// with it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "server/exchange.h"
#include "server/served_model.h"

namespace puna {

// `done` is told of all, in their order, on the engine's thread. Throw ApiError naming `param` for a text without tokens or longer
// than the context, before anything is read; later failures go to the exchange.
void embed(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<ServedModel>& model, const char* param,
           std::vector<EmbeddingRequest> texts, std::function<void(const std::vector<std::vector<float>>&)> done);
void score(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<ServedModel>& model, const char* param,
           std::vector<ScoreRequest> texts, std::function<void(const std::vector<std::vector<SampledToken>>&)> done);

}  // namespace puna
