// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 over TCP, TLS or a Unix socket (Boost.Asio, whose headers only listener.cc sees). One thread does all of it and never
// computes: what takes time belongs to somebody else's thread, so a health check is answered whatever the models do.
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
  std::size_t most_backlog = 4 << 20;             // bytes that a client leaves unread before it is dropped
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
  // What is said to bytes that are no request.
  std::function<HttpResponse(int status, const std::string& message)> malformed;
};

class Listener {
 public:
  // Listens from here on; answers from start() on. Throws kUsage for a host or certificate that cannot be used, kNoRoom for an
  // address that is taken, kBadInput for a Unix socket's path where something else lies.
  Listener(const ListenerOptions& options, ListenerEvents events);
  ~Listener();  // stops
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void start();
  // No new connections; those without a request are closed, the others after their answer.
  void drain();
  // Closes everything, in the middle of answers too.
  void stop();

  std::size_t connections() const;
  std::string url() const;  // "http://127.0.0.1:8080" or "unix:/run/puna.sock"

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace puna
