// SPDX-License-Identifier: Apache-2.0
// HTTP without its transport: what a route gets, and where its answer goes. listener.h brings both.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace puna {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;   // "POST"
  std::string path;     // as it came, up to '?': never decoded, so that no spelling of a path means another
  std::string query;    // behind '?'
  HttpHeaders headers;  // names in lower case
  std::string body;
  std::string peer;  // the client's address, or "unix"

  // The first of that name, or empty.
  std::string_view header(std::string_view name) const;
  // Headers that may stand once only: Host, Content-Length, Authorization.
  std::size_t count(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpHeaders headers = {};
};

std::string_view http_reason(int status);

// Where one request's answer goes. All may be called from any thread; nothing blocks. What is written after the client has gone is
// dropped.
class HttpReply {
 public:
  virtual ~HttpReply() = default;

  // The whole answer at once.
  virtual void send(HttpResponse response) = 0;
  // Or an answer in parts: head (its body is not sent), parts, end. Where nothing is written for `heartbeat_seconds`, `heartbeat`
  // is, so that clients and proxies do not give up (none where it is empty).
  virtual void begin(HttpResponse head, std::string heartbeat) = 0;
  virtual void write(std::string part) = 0;
  virtual void end() = 0;
  // Ends it in the middle: the client sees a broken answer, not a whole one.
  virtual void abort() = 0;

  // Bytes that the client has not taken yet.
  virtual std::size_t backlog() const = 0;
  // Called once, on the network's thread, where the client goes before the answer has ended; at once where it has gone already.
  virtual void on_gone(std::function<void()> callback) = 0;
  // Called on the network's thread where the client has left more unread than an answer should have in store, and, with false,
  // where it has taken half of that. Who does not ask for this writes on until the client is dropped.
  virtual void on_backlog(std::function<void(bool full)> callback) = 0;
};

}  // namespace puna
