// SPDX-License-Identifier: Apache-2.0
#include "server/routes/ollama_fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>

#include "server/routes/open_ai_fields.h"

namespace puna {
namespace {

constexpr std::array<FieldRule, 21> kOptionFields = {{
    {"num_keep", FieldKind::kInteger, -1e9, 1e9},
    {"seed", FieldKind::kInteger, -9.3e18, 9.3e18},
    {"num_predict", FieldKind::kInteger, -2, 1e9},
    {"top_k", FieldKind::kInteger, 0, 1'000'000'000},
    {"top_p", FieldKind::kNumber, 1e-9, 1},
    {"min_p", FieldKind::kNumber, 0, 1},
    {"typical_p", FieldKind::kNumber, 1e-9, 1},
    {"repeat_last_n", FieldKind::kInteger, -1, 1e9},
    {"temperature", FieldKind::kNumber, 0, 2},
    {"repeat_penalty", FieldKind::kNumber, 0.01, 10},
    {"presence_penalty", FieldKind::kNumber, -2, 2},
    {"frequency_penalty", FieldKind::kNumber, -2, 2},
    {"stop", FieldKind::kTextOrList, 0, 1024},
    {"num_ctx", FieldKind::kInteger, 1, 1e9},
    {"num_batch", FieldKind::kInteger, 1, 1e9},
    {"num_gpu", FieldKind::kInteger, -1, 1e9},
    {"main_gpu", FieldKind::kInteger, -1, 1e9},
    {"use_mmap", FieldKind::kBoolean},
    {"num_thread", FieldKind::kInteger, 0, 1e6},
    {"numa", FieldKind::kBoolean},
    {"low_vram", FieldKind::kBoolean},
}};

constexpr double kLongestSeconds = 1e9;

const Json& options_of(const Json& body) {
  static const Json none = Json::object();
  const Json* options = given_field(body, "options");
  return options == nullptr ? none : *options;
}

// What one unit of Go's is in seconds; 0 for what is none.
double unit_seconds(std::string_view unit) {
  constexpr std::array<std::pair<std::string_view, double>, 8> kUnits = {
      {{"ns", 1e-9}, {"us", 1e-6}, {"µs", 1e-6}, {"μs", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}}};
  const auto found = std::ranges::find(kUnits, unit, &std::pair<std::string_view, double>::first);
  return found == kUnits.end() ? 0 : found->second;
}

}  // namespace

void refuse_unsupported_ollama(const Json& body) {
  if (const Json* images = given_field(body, "images"); images != nullptr && !images->empty())
    throw ApiError(400, "unsupported", "images", "\"images\" cannot be read here: the models are for text");
  for (const char* name : {"template", "suffix"}) {
    if (const Json* text = given_field(body, name); text != nullptr && !text->get_ref<const std::string&>().empty())
      throw ApiError(400, "unsupported", name, fmt::format("\"{}\" cannot be done here", name));
  }
  const Json* think = given_field(body, "think");
  if (think != nullptr && !think->is_boolean() && !think->is_string())
    throw ApiError(400, "invalid_type", "think", "\"think\" is neither true, false nor a text");
  if (think != nullptr && *think != false)
    throw ApiError(400, "unsupported", "think",
                   fmt::format("\"{}\" does not support thinking", body.at("model").get<std::string>()));
}

const std::string& model_field(const Json& body) {
  for (const char* name : {"model", "name"}) {
    if (const Json* given = given_field(body, name)) return given->get_ref<const std::string&>();
  }
  throw ApiError(400, "missing_required_parameter", "model", "the field \"model\" is missing");
}

std::string_view plain_model_name(std::string_view name) {
  for (const std::string_view host : {"hf.co/", "huggingface.co/"}) {
    if (name.starts_with(host)) name.remove_prefix(host.size());
  }
  constexpr std::string_view kLatest = ":latest";
  if (name.ends_with(kLatest)) name.remove_suffix(kLatest.size());
  return name;
}

std::string known_model(const Services& services, std::string_view name) {
  const std::string_view plain = plain_model_name(name);
  std::string known = plain.empty() ? "" : services.models.find(plain);
  if (known.empty())
    throw ApiError(404, "model_not_found", "model", fmt::format("model '{}' not found, try pulling it first", name.substr(0, 200)));
  return known;
}

std::optional<double> parse_go_duration(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    if (text.front() != '.' && (text.front() < '0' || text.front() > '9')) return std::nullopt;
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    const std::size_t unit = std::min(text.find_first_of("0123456789."), text.size());
    const double seconds = unit_seconds(text.substr(0, unit));
    if (seconds == 0 && (unit > 0 || total > 0)) return std::nullopt;
    total += number * (unit == 0 ? 1 : seconds);  // a number alone is seconds
    text.remove_prefix(unit);
  }
  return negative ? -total : total;
}

std::optional<std::chrono::seconds> keep_alive_of(const Json& body, Right right) {
  const Json* field = given_field(body, "keep_alive");
  if (field == nullptr) return std::nullopt;
  std::optional<double> seconds;
  if (field->is_number()) seconds = field->get<double>();
  if (field->is_string() && field->get_ref<const std::string&>().size() <= 64)
    seconds = parse_go_duration(field->get_ref<const std::string&>());
  if (!seconds)
    refuse_field("keep_alive", "\"keep_alive\" is {}, expected seconds or a duration as \"5m\"", dump_json(*field).substr(0, 80));
  if (right < Right::kManage) return std::nullopt;
  if (*seconds < 0) return std::chrono::seconds(-1);
  return std::chrono::seconds(static_cast<std::int64_t>(std::ceil(std::min(*seconds, kLongestSeconds))));
}

LoadedModel load_model(Services& services, std::string_view asked, std::optional<std::chrono::seconds> keep_alive) {
  const std::string name = known_model(services, asked);
  const auto began = std::chrono::steady_clock::now();
  LoadedModel loaded{.model = services.models.get(name), .adapters = nullptr};
  loaded.adapters = loaded.model->adapters_of(plain_model_name(asked));
  loaded.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (keep_alive) services.models.set_keep_alive(name, *keep_alive);
  return loaded;
}

GenerateOptions ollama_options(const Json& body, Services& services) {
  const Json& options = options_of(body);
  check_fields(options, kOptionFields, "options.");
  Json shared = Json::object();  // as writing_options() has them
  for (const char* name :
       {"seed", "top_k", "top_p", "min_p", "typical_p", "temperature", "presence_penalty", "frequency_penalty", "stop"}) {
    if (const Json* value = given_field(options, name)) shared[name] = *value;
  }
  if (const Json* penalty = given_field(options, "repeat_penalty")) shared["repetition_penalty"] = *penalty;
  GenerateOptions generate = writing_options(shared, services);
  generate.sampler.penalty_window = field_or(options, "repeat_last_n", generate.sampler.penalty_window);
  generate.max_tokens = std::max<std::int64_t>(-1, field_or<std::int64_t>(options, "num_predict", -1));
  const bool logprobs = field_or(body, "logprobs", false);
  if (!logprobs && field_or(body, "top_logprobs", 0) > 0)
    refuse_field("top_logprobs", "\"top_logprobs\" is for requests with \"logprobs\": true");
  if (logprobs) generate.top_logprobs = field_or(body, "top_logprobs", 0);
  return generate;
}

void check_wanted_context(const Json& body, const ServedModel& model) {
  const auto wanted = field_or<std::int64_t>(options_of(body), "num_ctx", 0);
  if (wanted <= model.context()) return;
  throw ApiError(400, "context_length_exceeded", "options.num_ctx",
                 fmt::format("\"options.num_ctx\" is {}, and the context of {} holds {} here: ask for no more, or start the server "
                             "with a larger --context",
                             wanted, model.id(), model.context()));
}

Json shaping_fields(const Json& body) {
  Json shaping = Json::object();
  if (const Json* tools = given_field(body, "tools")) shaping["tools"] = *tools;
  const Json* format = given_field(body, "format");
  if (format == nullptr || *format == "") return shaping;
  if (format->is_string()) {
    if (*format != "json")
      refuse_field("format", "\"format\" is {}, expected \"json\" or a JSON schema", dump_json(*format).substr(0, 80));
    shaping["response_format"] = {{"type", "json_object"}};
  } else {
    shaping["response_format"] = {{"type", "json_schema"}, {"json_schema", {{"name", "format"}, {"schema", *format}}}};
  }
  return shaping;
}

std::string rfc3339(std::chrono::system_clock::time_point time) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = micros / 1'000'000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min, parts.tm_sec, micros % 1'000'000);
}

std::int64_t nanoseconds(double seconds) { return static_cast<std::int64_t>(seconds * 1e9); }

}  // namespace puna
