// SPDX-License-Identifier: Apache-2.0
#include "server/exchange.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace puna {
namespace {

// "%2F" -> "/", "+" -> " ". What is no escape stays.
// Percent signs; in a query plus signs are blanks too.
std::string decoded(std::string_view text, bool is_query) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr == text.data() + i + 3) {
      plain += static_cast<char>(byte);
      i += 2;
    } else {
      plain += is_query && text[i] == '+' ? ' ' : text[i];
    }
  }
  return plain;
}

}  // namespace

Exchange::Exchange(HttpRequest request, std::shared_ptr<HttpReply> reply, Origin origin, Metrics& metrics)
    : request_(std::move(request)), reply_(std::move(reply)), origin_(std::move(origin)), metrics_(metrics) {}

Exchange::~Exchange() {
  if (!finished_) finished(499);  // nobody waits for it any more
}

double Exchange::seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - came_).count(); }

std::string Exchange::path_rest() const {
  const std::size_t star = origin_.route.find('*');
  if (star == std::string::npos) return {};
  const std::size_t behind = origin_.route.size() - star - 1;
  return decoded(std::string_view(request_.path).substr(star, request_.path.size() - star - behind), false);
}

std::string Exchange::query(std::string_view name) const {
  std::string_view left = request_.query;
  while (!left.empty()) {
    const std::size_t end = std::min(left.find('&'), left.size());
    const std::string_view pair = left.substr(0, end);
    const std::size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) == name) return decoded(pair.substr(std::min(equals + 1, pair.size())), true);
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  return "";
}

void Exchange::send(HttpResponse response) {
  if (finished_) return;
  const int status = response.status;
  for (const auto& header : origin_.headers) {
    const bool own = std::ranges::find(response.headers, header.first, &HttpHeaders::value_type::first) != response.headers.end();
    if (!own) response.headers.push_back(header);
  }
  finished(status);  // before the client can read it: who comes again at once finds the places free
  reply_->send(std::move(response));
}

void Exchange::send_json(const Json& value, int status) { send({.status = status, .body = dump_json(value)}); }

void Exchange::begin_events() { begin("text/event-stream; charset=utf-8", ":\n\n"); }
void Exchange::begin_lines() { begin("application/x-ndjson", ""); }

void Exchange::begin(const char* content_type, std::string heartbeat) {
  HttpResponse head{.status = 200, .content_type = content_type, .body = {}, .headers = origin_.headers};
  head.headers.emplace_back("X-Accel-Buffering", "no");
  streams_ = true;
  reply_->begin(std::move(head), std::move(heartbeat));
}

void Exchange::event(const Json& data, std::string_view name) {
  std::string text;
  if (!name.empty()) text.append("event: ").append(name).append("\n");
  reply_->write(text.append("data: ").append(dump_json(data)).append("\n\n"));
}

void Exchange::line(const Json& value) { reply_->write(dump_json(value) + "\n"); }

void Exchange::end(std::string_view last) {
  if (finished_) return;
  finished(200);
  reply_->write(std::string(last));
  reply_->end();
}

void Exchange::fail(const ApiError& error) {
  if (finished_) return;
  if (!streams_) return send(error_response(origin_.family, error, origin_.id));
  const Json value = error_json(origin_.family, error, origin_.id);
  finished(error.status());
  origin_.family == ApiFamily::kOllama ? line(value) : event(value, origin_.family == ApiFamily::kAnthropic ? "error" : "");
  reply_->end();
}

void Exchange::on_gone(std::function<void()> callback) { reply_->on_gone(std::move(callback)); }

void Exchange::on_backlog(std::function<void(bool full)> callback) { reply_->on_backlog(std::move(callback)); }

void Exchange::finished(int status) {
  finished_ = true;
  origin_.places.give_back(origin_.places.count());
  metrics_.count_request(origin_.route, status, seconds());
}

}  // namespace puna
