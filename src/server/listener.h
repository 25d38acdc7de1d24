// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 over TCP, TLS or a Unix socket (Boost.Asio, whose headers only listener.cc sees). One thread does all of it and never
// computes: what takes time belongs to somebody else's thread, so a health check is answered whatever the models do.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "server/listener_options.h"

namespace puna {

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
