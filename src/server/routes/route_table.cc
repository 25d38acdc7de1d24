// SPDX-License-Identifier: Apache-2.0
// Every path that is answered, with what it takes.
#include <array>

#include "server/router.h"
#include "server/routes/routes.h"

namespace puna {

std::span<const Route> route_table() {
  using enum ApiFamily;
  using enum Right;
  constexpr bool kAnswers = true, kQuick = true;
  static constexpr std::array kRoutes = std::to_array<Route>({
      {"GET", "/health", kOpenAi, kNone, false, kQuick, routes::health, nullptr, "Status"},
      {"GET", "/ready", kOpenAi, kNone, false, kQuick, routes::ready, nullptr, "Status"},
      {"GET", "/metrics", kOpenAi, kInfer, false, kQuick, routes::metrics},
      {"GET", "/openapi.json", kOpenAi, kInfer, false, kQuick, routes::openapi},
      {"GET", "/v1/models", kOpenAi, kInfer, false, kQuick, routes::list_models, nullptr, "ModelList"},
      {"GET", "/v1/models/*", kOpenAi, kInfer, false, kQuick, routes::show_model, nullptr, "Model"},
      {"POST", "/v1/chat/completions", kOpenAi, kInfer, kAnswers, false, routes::chat_completions, routes::chat_fields,
       "ChatCompletion", "ChatCompletionChunk"},
      {"POST", "/v1/completions", kOpenAi, kInfer, kAnswers, false, routes::completions, routes::completion_fields, "Completion",
       "CompletionChunk"},
      {"POST", "/tokenize", kOpenAi, kInfer, false, false, routes::tokenize, routes::tokenize_fields, "Tokens"},
      {"POST", "/detokenize", kOpenAi, kInfer, false, false, routes::detokenize, routes::detokenize_fields, "Text"},
      {"POST", "/apply-template", kOpenAi, kInfer, false, false, routes::apply_template, routes::template_fields, "Prompt"},
      {"POST", "/v1/embeddings", kOpenAi, kInfer, kAnswers, false, routes::embeddings, routes::embedding_fields, "EmbeddingList"},
      {"POST", "/v1/rerank", kOpenAi, kInfer, kAnswers, false, routes::rerank, routes::rerank_fields, "Ranking"},
      {"POST", "/v2/rerank", kOpenAi, kInfer, kAnswers, false, routes::rerank, routes::rerank_fields, "Ranking"},
      {"POST", "/rerank", kOpenAi, kInfer, kAnswers, false, routes::rerank, routes::rerank_fields, "Ranking"},
      {"POST", "/v1/responses", kOpenAi, kInfer, kAnswers, false, routes::responses, routes::response_fields, "Response",
       "ResponseEvent"},
      {"POST", "/v1/messages", kAnthropic, kInfer, kAnswers, false, routes::messages, routes::message_fields, "Message",
       "MessageEvent"},
      {"POST", "/v1/messages/count_tokens", kAnthropic, kInfer, false, false, routes::count_message_tokens,
       routes::count_message_fields, "MessageTokens"},
      {"POST", "/api/chat", kOllama, kInfer, kAnswers, false, routes::ollama_chat, routes::ollama_chat_fields, "OllamaChat",
       "OllamaChat"},
      {"POST", "/api/generate", kOllama, kInfer, kAnswers, false, routes::ollama_generate, routes::ollama_generate_fields,
       "OllamaGenerate", "OllamaGenerate"},
      {"POST", "/api/embed", kOllama, kInfer, kAnswers, false, routes::ollama_embed, routes::ollama_embed_fields, "OllamaEmbed"},
      {"POST", "/api/embeddings", kOllama, kInfer, kAnswers, false, routes::ollama_embeddings, routes::ollama_embeddings_fields,
       "OllamaEmbedding"},
      {"GET", "/api/tags", kOllama, kInfer, false, kQuick, routes::ollama_tags, nullptr, "OllamaTags"},
      {"GET", "/api/ps", kOllama, kInfer, false, kQuick, routes::ollama_ps, nullptr, "OllamaPs"},
      {"POST", "/api/show", kOllama, kInfer, false, false, routes::ollama_show, routes::ollama_show_fields, "OllamaShow"},
      {"GET", "/api/version", kOllama, kInfer, false, kQuick, routes::ollama_version, nullptr, "OllamaVersion"},
      {"POST", "/api/pull", kOllama, kManage, false, false, routes::ollama_pull, routes::ollama_pull_fields, "OllamaPull",
       "OllamaPull"},
      {"POST", "/api/copy", kOllama, kManage, false, false, routes::ollama_copy, routes::ollama_copy_fields},
      {"DELETE", "/api/delete", kOllama, kManage, false, false, routes::ollama_delete, routes::ollama_delete_fields},
      {"GET", "/", kOpenAi, kNone, false, kQuick, routes::page},
      {"GET", "/puna/runs", kOpenAi, kManage, false, false, routes::list_runs, nullptr, "Runs"},
      {"GET", "/puna/runs/*/metrics", kOpenAi, kManage, false, false, routes::run_metrics, nullptr, "RunMetrics"},
      {"GET", "/puna/runs/*/recipe", kOpenAi, kManage, false, false, routes::run_recipe},
      {"GET", "/puna/votes", kOpenAi, kManage, false, false, routes::list_votes, nullptr, "Votes"},
      {"POST", "/puna/votes", kOpenAi, kInfer, false, false, routes::add_vote, routes::vote_fields, "Kept"},
      {"GET", "/puna/props", kOpenAi, kInfer, false, kQuick, routes::props, nullptr, "Props"},
      {"POST", "/puna/stop", kOpenAi, kManage, false, kQuick, routes::stop, nullptr, "Status"},
      {"POST", "/puna/unload", kOpenAi, kManage, false, false, routes::unload, routes::unload_fields, "Unloaded"},
  });
  return kRoutes;
}

}  // namespace puna
