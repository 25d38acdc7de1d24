// SPDX-License-Identifier: Apache-2.0
// POST /api/pull and /api/copy, DELETE /api/delete: models that come, get a second name, and go. A name from outside never becomes
// a path: it is a name on the hub, whose form is checked, or one that the registry has.
#include <algorithm>
#include <array>
#include <mutex>

#include "server/routes/ollama_fields.h"
#include "server/routes/routes.h"

namespace puna::routes {
namespace {

constexpr auto kBetweenLines = std::chrono::milliseconds(100);

// A download as lines: those of a file's progress at most every tenth of a second. The answer begins with the first news, so that a
// name that the hub does not have is refused with a status.
class PullLines {
 public:
  PullLines(std::shared_ptr<Exchange> exchange, bool stream) : exchange_(std::move(exchange)), stream_(stream) {}

  void progress(const PullProgress& progress) {
    if (!stream_) return;
    if (!exchange_->streams()) begin();
    const auto now = std::chrono::steady_clock::now();
    const bool whole = progress.total > 0 && progress.done >= progress.total;
    if (now - told_ < kBetweenLines && !whole) return;
    told_ = now;
    Json line = {{"status", "pulling " + progress.path},
                 {"digest", (progress.etag.size() == 64 ? "sha256:" : "") + progress.etag},
                 {"completed", progress.done}};
    if (progress.total > 0) line["total"] = progress.total;
    exchange_->line(line);
  }

  void done() {
    if (!stream_) return exchange_->send_json({{"status", "success"}});
    if (!exchange_->streams()) begin();
    exchange_->line({{"status", "success"}});
    exchange_->end();
  }

  void failed(const ApiError& error) { exchange_->fail(error); }

 private:
  void begin() {
    exchange_->begin_lines();
    exchange_->line({{"status", "pulling manifest"}});
  }

  std::shared_ptr<Exchange> exchange_;
  bool stream_;
  std::chrono::steady_clock::time_point told_;
};

// What a model may be called here: letters, digits, "-", "_", "." and slashes, with one colon before a tag.
bool is_model_name(std::string_view name) {
  if (name.empty() || name.size() > 256 || std::ranges::count(name, ':') > 1) return false;
  const auto is_fine = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  };
  bool begins = true;  // of a part
  for (const char c : name) {
    const bool parts = c == '/' || c == ':';
    if (begins ? parts || c == '.' || c == '-' || !is_fine(c) : !parts && !is_fine(c)) return false;
    begins = parts;
  }
  return !begins;
}

ModelSource source_named(const Services& services, const std::string& id) {
  for (const auto& listed : services.models.list()) {
    if (listed.source.id == id) return listed.source;
  }
  throw ApiError(404, "model_not_found", "model", fmt::format("model '{}' not found", id));
}

constexpr std::array<FieldRule, 4> kPullFields = {{{"model", FieldKind::kText, 1, 512},
                                                   {"name", FieldKind::kText, 1, 512},
                                                   {"insecure", FieldKind::kBoolean},
                                                   {"stream", FieldKind::kBoolean}}};

constexpr std::array<FieldRule, 2> kCopyFields = {
    {{"source", FieldKind::kText, 1, 512, true, false}, {"destination", FieldKind::kText, 1, 512, true, false}}};

constexpr std::array<FieldRule, 2> kDeleteFields = {{{"model", FieldKind::kText, 1, 512}, {"name", FieldKind::kText, 1, 512}}};

}  // namespace

std::span<const FieldRule> ollama_pull_fields() { return kPullFields; }

void ollama_pull(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kPullFields);
  if (field_or(body, "insecure", false))
    throw ApiError(400, "unsupported", "insecure", "\"insecure\" cannot be done here: certificates are always checked");
  const std::string name(plain_model_name(model_field(body)));
  const auto lines = std::make_shared<PullLines>(exchange, field_or(body, "stream", true));
  const ModelStore::Stop stop = services.store.pull(name, {.progress = [lines](const PullProgress& news) { lines->progress(news); },
                                                           .done =
                                                               [lines, &services](ModelSource source) {
                                                                 services.models.add(std::move(source));
                                                                 lines->done();
                                                               },
                                                           .failed = [lines](const ApiError& error) { lines->failed(error); }});
  exchange->on_gone([stop] { *stop = true; });
}

std::span<const FieldRule> ollama_copy_fields() { return kCopyFields; }

void ollama_copy(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kCopyFields);
  const std::string destination(plain_model_name(body.at("destination").get_ref<const std::string&>()));
  if (!is_model_name(destination))
    refuse_field("destination", "\"destination\" is no model's name: expected letters, digits, \"-\", \"_\", \".\" and \"/\"");
  ModelSource source = source_named(services, known_model(services, body.at("source").get_ref<const std::string&>()));
  const std::string there = services.models.find(destination);
  if (!there.empty() && !source_named(services, there).copied)
    throw ApiError(409, "already_exists", "destination", fmt::format("model '{}' is there already: delete it first", destination));
  source.id = destination;
  source.copied = true;
  services.models.add(std::move(source));
  exchange->send({.status = 200, .body = ""});
}

std::span<const FieldRule> ollama_delete_fields() { return kDeleteFields; }

void ollama_delete(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kDeleteFields);
  const ModelSource source = source_named(services, known_model(services, model_field(body)));
  if (plain_model_name(model_field(body)) != source.id)
    throw ApiError(
        403, "not_deletable", "model",
        fmt::format("'{}' is the model {} with an adapter, which is not the server's to delete", model_field(body), source.id));
  if (!source.copied && source.repository.empty())
    throw ApiError(403, "not_deletable", "model",
                   fmt::format("model '{}' is not from the hub's cache: its files are not the server's to delete", source.id));
  services.models.remove(source.id);
  const auto left = services.models.list();
  const bool last = std::ranges::none_of(left, [&](const auto& other) { return other.source.repository == source.repository; });
  if (!source.repository.empty() && last) services.store.remove(source);
  exchange->send({.status = 200, .body = ""});
}

}  // namespace puna::routes
