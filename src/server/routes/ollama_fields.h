// SPDX-License-Identifier: Apache-2.0
// Fields that requests of Ollama's API share. A name "x" is also "x:latest", and "hf.co/org/name" is "org/name".
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/request_json.h"
#include "server/services.h"

namespace puna {

// Of requests that ask a model. "think", "truncate" and "shift" are looked at by refuse_unsupported_ollama().
inline constexpr std::array<FieldRule, 12> kOllamaAskFields = {{
    {"model", FieldKind::kText, 1, 512, true, false},
    {"stream", FieldKind::kBoolean},
    {"format", FieldKind::kTextOrObject},
    {"options", FieldKind::kObject},
    {"keep_alive", FieldKind::kAny},
    {"think", FieldKind::kAny},
    {"truncate", FieldKind::kBoolean},
    {"shift", FieldKind::kBoolean},
    {"logprobs", FieldKind::kBoolean},
    {"top_logprobs", FieldKind::kInteger, 0, 20},
    {"images", FieldKind::kList},
    {"template", FieldKind::kText},
}};

// Throws ApiError for images, templates and thinking. Nothing is ever truncated or shifted out of a context, so both fields may say
// what they like: what does not fit is refused.
void refuse_unsupported_ollama(const Json& body);

// "model", or "name" as it was called before. Throws ApiError where neither is given.
const std::string& model_field(const Json& body);
// The name without what Ollama's clients put around it.
std::string_view plain_model_name(std::string_view name);
// The name as the registry has it. Throws ApiError 404 in Ollama's words.
std::string known_model(const Services& services, std::string_view name);

// "5m", "1h30m", "-1", 300, -1, 0: whole seconds, upwards; negative: for ever; nullopt where the field is absent, and for a key
// that may not manage models. Throws ApiError.
std::optional<std::chrono::seconds> keep_alive_of(const Json& body, Right right);
// A duration as Go writes it; nullopt for another text.
std::optional<double> parse_go_duration(std::string_view text);

// The model of a request's name, loaded now where it is not, how long that took, and the adapters that the name asks for;
// "keep_alive" is taken in. Throws ApiError as known_model().
struct LoadedModel {
  std::shared_ptr<ServedModel> model;
  std::shared_ptr<const AdapterSet> adapters;
  double seconds = 0;
};
LoadedModel load_model(Services& services, std::string_view asked, std::optional<std::chrono::seconds> keep_alive);

// "options": what the answer is written with. Those about memory, threads and devices say nothing here, and "num_ctx" no more than
// that there must be room for so much. Throws ApiError.
GenerateOptions ollama_options(const Json& body, Services& services);
// Throws ApiError with the figures where "num_ctx" is more than the model has.
void check_wanted_context(const Json& body, const ServedModel& model);

// "format" and "tools" as OpenAI has them: "response_format" and "tools". Throws ApiError.
Json shaping_fields(const Json& body);

// "2026-11-25T20:20:24.123456Z"
std::string rfc3339(std::chrono::system_clock::time_point time);
std::int64_t nanoseconds(double seconds);

}  // namespace puna
