// SPDX-License-Identifier: Apache-2.0
// One request and its answer, as a route sees them. Whatever happens to it, the answer has the shape of the API's family, and is
// counted once. May be used from any thread, by one at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "server/access.h"
#include "server/api_error.h"
#include "server/http.h"
#include "server/places.h"
#include "server/server_metrics.h"

namespace puna {

class Exchange {
 public:
  struct Origin {
    std::string id;     // of the request: "req_…"
    std::string route;  // "/v1/models/*"
    ApiFamily family = ApiFamily::kOpenAi;
    Right right = Right::kNone;
    HttpHeaders headers;    // of every answer
    Places::Held places{};  // in the queue, given back at the end
  };
  Exchange(HttpRequest request, std::shared_ptr<HttpReply> reply, Origin origin, Metrics& metrics);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const HttpRequest& request() const { return request_; }
  const std::string& id() const { return origin_.id; }
  Right right() const { return origin_.right; }
  double seconds() const;  // since it came
  // Its places in the queue: one where its route asks a model, until more are taken.
  Places::Held& places() { return origin_.places; }
  // What stands in the path where the route has '*', with its percent signs decoded: a name to be looked for in a list.
  std::string path_rest() const;
  // The value of a name in the query, with its percent signs decoded; or empty.
  std::string query(std::string_view name) const;

  void send(HttpResponse response);
  void send_json(const Json& value, int status = 200);

  // Server-sent events, or lines of JSON.
  void begin_events();
  void begin_lines();
  void event(const Json& data, std::string_view name = {});  // "event: name\ndata: {…}\n\n"
  void line(const Json& value);
  void end(std::string_view last = {});
  bool streams() const { return streams_; }

  // A refusal, or, where the answer has begun, an error in its middle, and its end.
  void fail(const ApiError& error);
  // The client has left before the end. Called once, on the network's thread.
  void on_gone(std::function<void()> callback);
  // The client has fallen behind what is written, or, with false, caught up. Called on the network's thread.
  void on_backlog(std::function<void(bool full)> callback);

 private:
  void begin(const char* content_type, std::string heartbeat);
  void finished(int status);

  HttpRequest request_;
  std::shared_ptr<HttpReply> reply_;
  Origin origin_;
  Metrics& metrics_;
  std::chrono::steady_clock::time_point came_ = std::chrono::steady_clock::now();
  bool streams_ = false, finished_ = false;
};

}  // namespace puna
