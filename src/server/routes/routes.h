// SPDX-License-Identifier: Apache-2.0
// The handlers of all routes, and the tables of fields that bodies are checked against, by family; each family has its sources.
// Handlers throw ApiError, or Error for what a request holds.
#pragma once

#include <memory>
#include <span>

#include "server/exchange.h"
#include "server/request_json.h"
#include "server/services.h"

namespace puna::routes {

using Asked = const std::shared_ptr<Exchange>&;

// openai_chat.cc
void chat_completions(Services& services, Asked exchange);
std::span<const FieldRule> chat_fields();
// openai_completions.cc
void completions(Services& services, Asked exchange);
std::span<const FieldRule> completion_fields();
// openai_embeddings.cc
void embeddings(Services& services, Asked exchange);
std::span<const FieldRule> embedding_fields();
// rerank.cc
void rerank(Services& services, Asked exchange);
std::span<const FieldRule> rerank_fields();
// openai_models.cc
void list_models(Services& services, Asked exchange);
void show_model(Services& services, Asked exchange);
// tokens.cc
void tokenize(Services& services, Asked exchange);
std::span<const FieldRule> tokenize_fields();
void detokenize(Services& services, Asked exchange);
std::span<const FieldRule> detokenize_fields();
void apply_template(Services& services, Asked exchange);
std::span<const FieldRule> template_fields();
// openai_responses.cc
void responses(Services& services, Asked exchange);
std::span<const FieldRule> response_fields();
// anthropic_messages.cc
void messages(Services& services, Asked exchange);
std::span<const FieldRule> message_fields();
void count_message_tokens(Services& services, Asked exchange);
std::span<const FieldRule> count_message_fields();
// ollama_chat.cc
void ollama_chat(Services& services, Asked exchange);
std::span<const FieldRule> ollama_chat_fields();
void ollama_generate(Services& services, Asked exchange);
std::span<const FieldRule> ollama_generate_fields();
// ollama_embed.cc
void ollama_embed(Services& services, Asked exchange);
std::span<const FieldRule> ollama_embed_fields();
void ollama_embeddings(Services& services, Asked exchange);
std::span<const FieldRule> ollama_embeddings_fields();
// ollama_models.cc
void ollama_tags(Services& services, Asked exchange);
void ollama_ps(Services& services, Asked exchange);
void ollama_show(Services& services, Asked exchange);
std::span<const FieldRule> ollama_show_fields();
void ollama_version(Services& services, Asked exchange);
// ollama_store.cc
void ollama_pull(Services& services, Asked exchange);
std::span<const FieldRule> ollama_pull_fields();
void ollama_copy(Services& services, Asked exchange);
std::span<const FieldRule> ollama_copy_fields();
void ollama_delete(Services& services, Asked exchange);
std::span<const FieldRule> ollama_delete_fields();
// status.cc
void health(Services& services, Asked exchange);
void ready(Services& services, Asked exchange);
void metrics(Services& services, Asked exchange);
void props(Services& services, Asked exchange);
void openapi(Services& services, Asked exchange);
void stop(Services& services, Asked exchange);
void unload(Services& services, Asked exchange);
std::span<const FieldRule> unload_fields();

// page_routes.cc
void page(Services& services, Asked exchange);
void list_runs(Services& services, Asked exchange);
void run_metrics(Services& services, Asked exchange);
void run_recipe(Services& services, Asked exchange);
void list_votes(Services& services, Asked exchange);
void add_vote(Services& services, Asked exchange);
std::span<const FieldRule> vote_fields();

}  // namespace puna::routes
