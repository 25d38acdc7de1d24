// SPDX-License-Identifier: Apache-2.0
// The handlers of all routes, by family; each family has its sources. They throw ApiError, or Error for what a request holds.
#pragma once

#include <memory>

#include "server/exchange.h"
#include "server/services.h"

namespace puna::routes {

using Asked = const std::shared_ptr<Exchange>&;

// openai_chat.cc
void chat_completions(Services& services, Asked exchange);
// openai_completions.cc
void completions(Services& services, Asked exchange);
// openai_embeddings.cc
void embeddings(Services& services, Asked exchange);
// rerank.cc
void rerank(Services& services, Asked exchange);
// openai_models.cc
void list_models(Services& services, Asked exchange);
void show_model(Services& services, Asked exchange);
// tokens.cc
void tokenize(Services& services, Asked exchange);
void detokenize(Services& services, Asked exchange);
void apply_template(Services& services, Asked exchange);
// openai_responses.cc
void responses(Services& services, Asked exchange);
// anthropic_messages.cc
void messages(Services& services, Asked exchange);
void count_message_tokens(Services& services, Asked exchange);
// status.cc
void health(Services& services, Asked exchange);
void ready(Services& services, Asked exchange);
void metrics(Services& services, Asked exchange);
void props(Services& services, Asked exchange);
void stop(Services& services, Asked exchange);
void unload(Services& services, Asked exchange);

// page_routes.cc
void page(Services& services, Asked exchange);
void list_runs(Services& services, Asked exchange);
void run_metrics(Services& services, Asked exchange);
void run_recipe(Services& services, Asked exchange);
void list_votes(Services& services, Asked exchange);
void add_vote(Services& services, Asked exchange);

}  // namespace puna::routes
