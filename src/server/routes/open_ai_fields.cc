// SPDX-License-Identifier: Apache-2.0
#include "server/routes/open_ai_fields.h"

#include <charconv>

#include "base/random.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"

namespace puna {
namespace {

constexpr std::size_t kMostStops = 16, kLongestStop = 1024;

std::vector<std::string> stop_strings(const Json& body) {
  const Json* stop = given_field(body, "stop");
  if (stop == nullptr) return {};
  if (stop->is_string() && stop->get_ref<const std::string&>().empty()) refuse_field("stop", "\"stop\" is empty");
  if (stop->is_string()) return {stop->get<std::string>()};
  if (stop->size() > kMostStops) refuse_field("stop", "\"stop\" has {} items, expected at most {}", stop->size(), kMostStops);
  std::vector<std::string> texts;
  for (const Json& text : *stop) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty())
      refuse_field("stop", "\"stop\" holds {}, expected texts of at least one byte", text.type_name());
    if (text.get_ref<const std::string&>().size() > kLongestStop)
      refuse_field("stop", "\"stop\" holds a text of {} bytes, expected at most {}", text.get_ref<const std::string&>().size(),
                   kLongestStop);
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

// {"128": -100}: token ids as texts.
std::vector<std::pair<Token, double>> logit_bias(const Json& body) {
  std::vector<std::pair<Token, double>> bias;
  for (const auto& [key, value] : body.at("logit_bias").items()) {
    std::int32_t number = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), number);
    if (error != std::errc() || end != key.data() + key.size() || number < 0)
      refuse_field("logit_bias", "\"logit_bias\" has the key \"{}\", expected a token's id", key.substr(0, 100));
    if (!value.is_number() || std::abs(value.get<double>()) > 100)
      refuse_field("logit_bias", "\"logit_bias\" gives token {} {}, expected a number from -100 to 100", number,
                   dump_json(value).substr(0, 50));
    bias.emplace_back(Token{number}, value.get<double>());
  }
  return bias;
}

}  // namespace

GenerateOptions writing_options(const Json& body, Services& services) {
  GenerateOptions options;
  options.sampler = services.sampler;
  SamplerOptions& sampler = options.sampler;
  sampler.temperature = field_or(body, "temperature", sampler.temperature);
  sampler.top_p = field_or(body, "top_p", sampler.top_p);
  sampler.top_k = field_or(body, "top_k", sampler.top_k);
  sampler.min_p = std::max(0.0, field_or(body, "min_p", sampler.min_p));
  sampler.typical_p = field_or(body, "typical_p", sampler.typical_p);
  sampler.repetition_penalty = field_or(body, "repetition_penalty", sampler.repetition_penalty);
  sampler.presence_penalty = field_or(body, "presence_penalty", sampler.presence_penalty);
  sampler.frequency_penalty = field_or(body, "frequency_penalty", sampler.frequency_penalty);
  if (given_field(body, "logit_bias") != nullptr) sampler.logit_bias = logit_bias(body);
  const Json* seed = given_field(body, "seed");
  sampler.seed =
      seed == nullptr ? random_bits(sampler.seed, 0, services.unseeded++) : static_cast<std::uint64_t>(seed->get<std::int64_t>());
  options.stop = stop_strings(body);
  options.ignore_end = field_or(body, "ignore_eos", false);
  return options;
}

std::optional<AnswerShape> written_shape(const Json& body) {
  const Json *grammar = given_field(body, "grammar"), *regex = given_field(body, "regex"), *choice = given_field(body, "choice");
  if ((grammar != nullptr) + (regex != nullptr) + (choice != nullptr) > 1)
    refuse_field("grammar", "give one of \"grammar\", \"regex\" and \"choice\"");
  if (grammar != nullptr)
    return AnswerShape{"gbnf " + grammar->get<std::string>(),
                       [text = grammar->get<std::string>()] { return gbnf_grammar(text, "grammar"); }};
  if (regex != nullptr)
    return AnswerShape{"regex " + regex->get<std::string>(),
                       [text = regex->get<std::string>()] { return regex_grammar(text, "regex"); }};
  if (choice == nullptr) return std::nullopt;
  std::string texts;  // as a grammar: JSON's strings are GBNF's
  for (const Json& text : *choice) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty())
      refuse_field("choice", "\"choice\" holds {}, expected texts", text.type_name());
    texts += (texts.empty() ? "root ::= " : " | ") + dump_json(text);
  }
  return AnswerShape{"gbnf " + texts, [texts] { return gbnf_grammar(texts, "choice"); }};
}

bool wants_usage(const Json& body) {
  const Json* options = given_field(body, "stream_options");
  if (options == nullptr) return false;
  constexpr std::array<FieldRule, 2> kRules = {
      {{"include_usage", FieldKind::kBoolean}, {"include_obfuscation", FieldKind::kBoolean}}};
  check_fields(*options, kRules, "stream_options.");
  if (!field_or(body, "stream", false)) refuse_field("stream_options", "\"stream_options\" is for requests with \"stream\": true");
  return field_or(*options, "include_usage", false);
}

Json usage_json(std::span<const Answer> answers) {
  std::int64_t prompt = 0, cached = 0, completion = 0;
  const Answer* before = nullptr;
  for (const Answer& answer : answers) {
    completion += static_cast<std::int64_t>(answer.generation.tokens.size());
    if (before == nullptr || before->prompt != answer.prompt) {
      prompt += answer.generation.prompt_tokens;
      cached += answer.generation.cached_tokens;
    }
    before = &answer;
  }
  return {{"prompt_tokens", prompt},
          {"completion_tokens", completion},
          {"total_tokens", prompt + completion},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

Json timings_json(const Generation& generation) {
  const std::int64_t read = generation.prompt_tokens - generation.cached_tokens;
  const auto written = static_cast<std::int64_t>(generation.tokens.size());
  const auto rate = [](std::int64_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0; };
  return {{"prompt_n", read},
          {"cache_n", generation.cached_tokens},
          {"prompt_ms", generation.prefill_seconds * 1000},
          {"predicted_n", written},
          {"predicted_ms", generation.decode_seconds * 1000},
          {"prompt_per_second", rate(read, generation.prefill_seconds)},
          {"predicted_per_second", rate(written, generation.decode_seconds)}};
}

}  // namespace puna
