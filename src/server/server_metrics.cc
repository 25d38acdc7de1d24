// SPDX-License-Identifier: Apache-2.0
#include "server/server_metrics.h"

#include <fmt/format.h>

#include <iterator>

namespace puna {
namespace {

void write_head(std::string& text, std::string_view name, std::string_view kind, std::string_view about) {
  fmt::format_to(std::back_inserter(text), "# HELP {} {}\n# TYPE {} {}\n", name, about, name, kind);
}

void write_value(std::string& text, std::string_view name, std::string_view kind, std::string_view about, double value) {
  write_head(text, name, kind, about);
  fmt::format_to(std::back_inserter(text), "{} {}\n", name, value);
}

// A label's value: backslashes, quotes and line ends are escaped.
std::string label(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    c == '\n' ? text += "\\n" : text += c;
  }
  return text;
}

struct ModelRow {
  const char* name;
  const char* kind;
  const char* about;
  double (*value)(const ServedModel::Counters&);
};

constexpr std::array<ModelRow, 11> kModelRows = {{
    {"puna_prompt_tokens_total", "counter", "Tokens of prompts that were answered.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.prompt_tokens); }},
    {"puna_cached_tokens_total", "counter", "Those of them that were known from earlier requests.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.cached_tokens); }},
    {"puna_completion_tokens_total", "counter", "Tokens of answers.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.completion_tokens); }},
    {"puna_answers_total", "counter", "Answers that ended.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.answers); }},
    {"puna_failures_total", "counter", "Answers that failed.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.failures); }},
    {"puna_answers_waiting", "gauge", "Answers without room in the cache.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.waiting); }},
    {"puna_answers_running", "gauge", "Answers that are read or written.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.running); }},
    {"puna_answers_paused", "gauge", "Answers that wait for their readers.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.paused); }},
    {"puna_kv_pages_free", "gauge", "Pages of keys and values that nobody owns.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.free_pages); }},
    {"puna_kv_pages_cached", "gauge", "Pages of prompts' beginnings that are kept for the next.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.cached_pages); }},
    {"puna_kv_pages", "gauge", "Pages of keys and values.",
     [](const ServedModel::Counters& c) { return static_cast<double>(c.pages); }},
}};

}  // namespace

void Metrics::Histogram::add(double seconds) {
  ++count;
  sum += seconds;
  for (std::size_t i = 0; i < kBounds.size(); ++i) counts[i] += seconds <= kBounds[i] ? 1 : 0;
}

void Metrics::Histogram::write(std::string& text, std::string_view name, std::string_view about) const {
  write_head(text, name, "histogram", about);
  const auto out = std::back_inserter(text);
  for (std::size_t i = 0; i < kBounds.size(); ++i) fmt::format_to(out, "{}_bucket{{le=\"{}\"}} {}\n", name, kBounds[i], counts[i]);
  fmt::format_to(out, "{}_bucket{{le=\"+Inf\"}} {}\n{}_sum {}\n{}_count {}\n", name, count, name, sum, name, count);
}

void Metrics::count_request(std::string_view route, int status, double seconds) {
  const std::scoped_lock lock(mutex_);
  ++requests_[{std::string(route), status}];
  request_seconds_.add(seconds);
}

void Metrics::count_answer(double first_text_seconds, const Generation& generation) {
  const std::scoped_lock lock(mutex_);
  first_text_seconds_.add(first_text_seconds);
  if (generation.tokens.size() > 1)
    token_seconds_.add(generation.decode_seconds / static_cast<double>(generation.tokens.size() - 1));
}

std::string Metrics::text(const ModelRegistry& models, std::size_t connections, const Places& places) const {
  std::string text;
  const auto out = std::back_inserter(text);
  {
    const std::scoped_lock lock(mutex_);
    write_head(text, "puna_requests_total", "counter", "Requests that were answered.");
    for (const auto& [key, count] : requests_)
      fmt::format_to(out, "puna_requests_total{{route=\"{}\",status=\"{}\"}} {}\n", label(key.first), key.second, count);
    request_seconds_.write(text, "puna_request_seconds", "From a request's head to the end of its answer.");
    first_text_seconds_.write(text, "puna_first_text_seconds", "From a request to the first text of its answer.");
    token_seconds_.write(text, "puna_token_seconds", "Between the tokens of an answer, its mean.");
  }
  write_value(text, "puna_connections", "gauge", "Open connections.", static_cast<double>(connections));
  write_value(text, "puna_requests_in_flight", "gauge", "Requests for answers that were taken and have not ended.",
              static_cast<double>(places.requests()));
  write_value(text, "puna_places_taken", "gauge", "Places in the queue that their answers take.",
              static_cast<double>(places.taken()));
  write_value(text, "puna_places", "gauge", "Places in the queue.", static_cast<double>(places.most()));
  const auto listed = models.list();
  for (const ModelRow& row : kModelRows) {
    write_head(text, row.name, row.kind, row.about);
    for (const auto& one : listed) {
      if (one.model != nullptr)
        fmt::format_to(out, "{}{{model=\"{}\"}} {}\n", row.name, label(one.source.id), row.value(one.model->counters()));
    }
  }
  return text;
}

}  // namespace puna
