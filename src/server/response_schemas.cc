// SPDX-License-Identifier: Apache-2.0
// Schemas are written in a short form, which is expanded:
//   "string"  "number|null"  "=a|b|null"  "#Name|null"    types, the only values, another schema
//   ["string"]  [["string", "#Name"]]                     a list of one kind; one element or more: any of them
//   {"name": …, "other?": …}  {"*": …}                    an object, where "?" marks what may be left out; one with any names
#include "server/response_schemas.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace puna {
namespace {

constexpr std::string_view kErrors = R"json({
  "OpenAiError": {"error": {"message": "string", "type": "string", "param": "string|null", "code": "string|null"}},
  "AnthropicError": {"type": "=error", "error": {"type": "string", "message": "string"}, "request_id": "string"},
  "OllamaError": {"error": "string"}
})json";

constexpr std::string_view kOpenAi = R"json({
  "Usage": {"prompt_tokens": "integer", "completion_tokens": "integer", "total_tokens": "integer",
            "prompt_tokens_details": {"cached_tokens": "integer"}},
  "ReadingUsage": {"prompt_tokens": "integer", "total_tokens": "integer"},
  "Timings": {"prompt_n": "integer", "cache_n": "integer", "prompt_ms": "number", "predicted_n": "integer",
              "predicted_ms": "number", "prompt_per_second": "number", "predicted_per_second": "number"},
  "TokenLogprob": {"token": "string", "logprob": "number", "bytes": ["integer"],
                   "top_logprobs": [{"token": "string", "logprob": "number", "bytes": ["integer"]}]},
  "ChatLogprobs": {"content": ["#TokenLogprob"], "refusal": "null"},
  "ChatCompletion": {
    "id": "string", "object": "=chat.completion", "created": "integer", "model": "string", "system_fingerprint": "null",
    "choices": [{"index": "integer",
                 "message": {"role": "=assistant", "content": "string|null", "refusal": "null", "annotations": ["any"],
                             "tool_calls?": [{"id": "string", "type": "=function",
                                              "function": {"name": "string", "arguments": "string"}}]},
                 "logprobs": "#ChatLogprobs|null", "finish_reason": "=stop|length|tool_calls"}],
    "usage": "#Usage", "timings": "#Timings"},
  "ChatCompletionChunk": {
    "id": "string", "object": "=chat.completion.chunk", "created": "integer", "model": "string", "system_fingerprint": "null",
    "choices": [{"index": "integer",
                 "delta": {"role?": "=assistant", "content?": "string",
                           "tool_calls?": [{"index": "integer", "id?": "string", "type?": "=function",
                                            "function": {"name?": "string", "arguments": "string"}}]},
                 "logprobs": "#ChatLogprobs|null", "finish_reason": "=stop|length|tool_calls|null"}],
    "usage?": "#Usage", "timings?": "#Timings"},
  "CompletionLogprobs": {"tokens": ["string"], "token_logprobs": ["number|null"],
                         "top_logprobs": [[{"*": "number"}, "null"]], "text_offset": ["integer"]},
  "Completion": {
    "id": "string", "object": "=text_completion", "created": "integer", "model": "string",
    "choices": [{"index": "integer", "text": "string", "logprobs": "#CompletionLogprobs|null", "finish_reason": "=stop|length"}],
    "usage": "#Usage", "timings": "#Timings"},
  "CompletionChunk": {
    "id": "string", "object": "=text_completion", "created": "integer", "model": "string",
    "choices": [{"index": "integer", "text": "string", "logprobs": "#CompletionLogprobs|null",
                 "finish_reason": "=stop|length|null"}],
    "usage?": "#Usage"},
  "EmbeddingList": {
    "object": "=list", "model": "string", "usage": "#ReadingUsage",
    "data": [{"object": "=embedding", "index": "integer", "embedding": [["number"], "string"]}]},
  "Ranking": {"id": "string", "model": "string", "usage": "#ReadingUsage",
              "results": [{"index": "integer", "relevance_score": "number", "document?": {"text": "string"}}]},
  "Model": {
    "id": "string", "object": "=model", "created": "integer", "owned_by": "string", "parent?": "string",
    "puna": {"state": "=available|loading|loaded", "bytes": "integer", "context?": "integer", "trained_context?": "integer",
             "vocabulary?": "integer", "weight_bytes?": "integer", "prompt_format?": "string|null"}},
  "ModelList": {"object": "=list", "data": ["#Model"]},
  "ResponseText": {"type": "=output_text", "text": "string", "annotations": ["any"], "logprobs": ["#TokenLogprob"]},
  "ResponseItem": [
    {"type": "=message", "id": "string", "status": "=in_progress|completed|incomplete", "role": "=assistant",
     "content": ["#ResponseText"]},
    {"type": "=function_call", "id": "string", "status": "=in_progress|completed", "call_id": "string", "name": "string",
     "arguments": "string"}],
  "Response": {
    "id": "string", "object": "=response", "created_at": "integer", "model": "string",
    "status": "=in_progress|completed|incomplete", "error": "null",
    "incomplete_details": [{"reason": "=max_output_tokens"}, "null"], "output": ["#ResponseItem"],
    "usage": [{"input_tokens": "integer", "input_tokens_details": {"cached_tokens": "integer"}, "output_tokens": "integer",
               "output_tokens_details": {"reasoning_tokens": "integer"}, "total_tokens": "integer"}, "null"],
    "background": "boolean", "previous_response_id": "null", "service_tier": "string", "store": "boolean", "truncation": "string",
    "reasoning": {"effort": "null", "summary": "null"}, "temperature": "number", "top_p": "number", "top_logprobs": "integer",
    "parallel_tool_calls": "boolean", "text": {"*": "any"}, "tool_choice": "string|object", "tools": [{"*": "any"}],
    "metadata": {"*": "any"}, "instructions": "string|array|null", "max_output_tokens": "integer|null",
    "max_tool_calls": "integer|null", "prompt_cache_key": "string|null", "safety_identifier": "string|null",
    "user": "string|null"},
  "ResponseEvent": {
    "type": "string", "sequence_number": "integer", "response?": "#Response", "output_index?": "integer", "item?": "#ResponseItem",
    "item_id?": "string", "content_index?": "integer", "part?": "#ResponseText", "delta?": "string", "text?": "string",
    "logprobs?": ["#TokenLogprob"], "name?": "string", "arguments?": "string"}
})json";

constexpr std::string_view kAnthropic = R"json({
  "MessageUsage": {"input_tokens": "integer", "cache_creation_input_tokens": "integer", "cache_read_input_tokens": "integer",
                   "output_tokens": "integer"},
  "MessageBlock": [{"type": "=text", "text": "string"},
                   {"type": "=tool_use", "id": "string", "name": "string", "input": {"*": "any"}}],
  "StopReason": "=end_turn|max_tokens|stop_sequence|tool_use|model_context_window_exceeded|null",
  "Message": {"id": "string", "type": "=message", "role": "=assistant", "model": "string", "content": ["#MessageBlock"],
              "stop_reason": "#StopReason", "stop_sequence": "string|null", "usage": "#MessageUsage"},
  "MessageEvent": [
    {"type": "=message_start", "message": "#Message"},
    {"type": "=content_block_start", "index": "integer", "content_block": "#MessageBlock"},
    {"type": "=content_block_delta", "index": "integer",
     "delta": [{"type": "=text_delta", "text": "string"}, {"type": "=input_json_delta", "partial_json": "string"}]},
    {"type": "=content_block_stop", "index": "integer"},
    {"type": "=message_delta", "delta": {"stop_reason": "#StopReason", "stop_sequence": "string|null"}, "usage": "#MessageUsage"},
    {"type": "=ping|message_stop"}],
  "MessageTokens": {"input_tokens": "integer"}
})json";

constexpr std::string_view kOllama = R"json({
  "OllamaChat": {
    "model": "string", "created_at": "string", "done": "boolean", "logprobs?": ["#TokenLogprob"],
    "message": {"role": "=assistant", "content": "string",
                "tool_calls?": [{"id": "string", "function": {"index": "integer", "name": "string", "arguments": {"*": "any"}}}]},
    "done_reason?": "=stop|length|load|unload", "total_duration?": "integer", "load_duration?": "integer",
    "prompt_eval_count?": "integer", "prompt_eval_duration?": "integer", "eval_count?": "integer", "eval_duration?": "integer"},
  "OllamaGenerate": {
    "model": "string", "created_at": "string", "done": "boolean", "logprobs?": ["#TokenLogprob"], "response": "string",
    "done_reason?": "=stop|length|load|unload", "total_duration?": "integer", "load_duration?": "integer",
    "prompt_eval_count?": "integer", "prompt_eval_duration?": "integer", "eval_count?": "integer", "eval_duration?": "integer"},
  "OllamaEmbed": {"model": "string", "embeddings": [["number"]], "total_duration": "integer", "load_duration": "integer",
                  "prompt_eval_count": "integer"},
  "OllamaEmbedding": {"embedding": ["number"]},
  "OllamaDetails": {"parent_model": "string", "format": "string", "family": "string", "families": ["string"],
                    "parameter_size": "string", "quantization_level": "string"},
  "OllamaTags": {"models": [{"name": "string", "model": "string", "modified_at": "string", "size": "integer", "digest": "string",
                             "details": "#OllamaDetails"}]},
  "OllamaPs": {"models": [{"name": "string", "model": "string", "size": "integer", "digest": "string", "details": "#OllamaDetails",
                           "size_vram": "integer", "context_length": "integer", "expires_at": "string"}]},
  "OllamaShow": {"modelfile": "string", "parameters": "string", "template": "string", "details": "#OllamaDetails",
                 "model_info": {"*": "string|number"}, "capabilities": ["string"], "modified_at": "string"},
  "OllamaPull": {"status": "string", "digest?": "string", "completed?": "integer", "total?": "integer"},
  "OllamaVersion": {"version": "string"}
})json";

constexpr std::string_view kOwn = R"json({
  "Status": {"status": "string"},
  "Tokens": {"tokens": [["integer", {"id": "integer", "piece": "string"}]]},
  "Text": {"content": "string"},
  "Prompt": {"prompt": "string", "tokens": "integer"},
  "Props": {"version": "string", "default_model": "string", "roles": ["=infer|manage"], "runs": "boolean", "votes": "boolean",
            "defaults": {"temperature": "number", "top_p": "number", "top_k": "integer", "min_p": "number",
                         "repetition_penalty": "number"}},
  "Unloaded": {"model": "string", "unloaded": "boolean"},
  "Runs": {"runs": [{"name": "string", "objective": "string", "description": "string", "state": "=finished|running|stopped",
                     "step": "integer", "steps": "integer", "updated": "integer"}]},
  "RunMetrics": {"rows": [{"*": "any"}], "from": "integer", "next": "integer"},
  "Votes": {"votes": [{"*": "any"}]},
  "Kept": {"kept": "boolean"}
})json";

std::vector<std::string> parts_of(std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t bar = text.find('|');
    parts.emplace_back(text.substr(0, bar));
    if (bar == std::string_view::npos) return parts;
    text.remove_prefix(bar + 1);
  }
}

// "string|null", "=a|b" or "#Name|null".
Json expand_text(std::string_view text) {
  if (text == "any") return Json::object();
  Json choices = Json::array();
  if (text.starts_with('=')) {
    for (const std::string& value : parts_of(text.substr(1))) choices.push_back(value == "null" ? Json() : Json(value));
    return choices.size() == 1 ? Json{{"const", choices.front()}} : Json{{"enum", std::move(choices)}};
  }
  if (!text.starts_with('#')) {
    for (const std::string& type : parts_of(text)) choices.push_back(type);
    return {{"type", choices.size() == 1 ? choices.front() : choices}};
  }
  for (const std::string& part : parts_of(text))
    choices.push_back(part.front() == '#' ? Json{{"$ref", "#/components/schemas/" + part.substr(1)}} : Json{{"type", part}});
  return choices.size() == 1 ? choices.front() : Json{{"anyOf", std::move(choices)}};
}

Json expand(const Json& form) {
  if (form.is_string()) return expand_text(form.get_ref<const std::string&>());
  if (form.is_array()) {
    if (form.size() == 1) return {{"type", "array"}, {"items", expand(form.front())}};
    Json choices = Json::array();
    for (const Json& choice : form) choices.push_back(expand(choice));
    return {{"anyOf", std::move(choices)}};
  }
  if (form.contains("*")) return {{"type", "object"}, {"additionalProperties", expand(form.at("*"))}};
  Json properties = Json::object(), required = Json::array();
  for (const auto& [key, value] : form.items()) {
    const bool optional = key.ends_with('?');
    const std::string name = key.substr(0, key.size() - (optional ? 1 : 0));
    properties[name] = expand(value);
    if (!optional) required.push_back(name);
  }
  return {{"type", "object"},
          {"properties", std::move(properties)},
          {"required", std::move(required)},
          {"additionalProperties", false}};
}

}  // namespace

Json response_schemas() {
  Json schemas = Json::object();
  for (const std::string_view family : {kErrors, kOpenAi, kAnthropic, kOllama, kOwn}) {
    const Json forms = Json::parse(family);
    for (const auto& [name, form] : forms.items()) schemas[name] = expand(form);
  }
  return schemas;
}

}  // namespace puna
