// SPDX-License-Identifier: Apache-2.0
// What a listener is made with, and what it tells.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/http.h"

namespace puna {

struct ListenerOptions {
  std::string host = "127.0.0.1";          // an address or a name; where `unix_path` is given, neither it nor the port is used
  int port = 8080;                         // 0: any that is free
  std::string unix_path = {};              // the socket's file, made with mode 0600
  std::string certificate = {}, key = {};  // PEM files: TLS. Both or none
  std::size_t most_connections = 8192;
  std::size_t most_header_bytes = 16 << 10;
  std::size_t most_body_bytes = 16 << 20;
  std::size_t full_backlog = 256 << 10;           // bytes that a client leaves unread before its answer should pause
  std::size_t most_backlog = 4 << 20;             // before it is dropped, where the answer does not
  std::chrono::milliseconds header_time{10'000};  // for all of a request's head
  std::chrono::milliseconds body_time{60'000};    // for all of its body
  std::chrono::milliseconds write_time{30'000};   // without a byte taken by the client
  std::chrono::milliseconds idle_time{75'000};    // between requests
  std::chrono::milliseconds heartbeat_time{15'000};
};

struct ListenerEvents {
  // A request's head is there. An answer refuses it, before its body is read.
  std::function<std::optional<HttpResponse>(const HttpRequest&)> head;
  // A whole request. Must not throw, nor take long.
  std::function<void(HttpRequest, std::shared_ptr<HttpReply>)> request;
  // What is said to bytes that are no request, or to one whose body is too long or too slow; of it what is known of its head.
  std::function<HttpResponse(const HttpRequest& request, int status, const std::string& message)> malformed;
};

}  // namespace puna
