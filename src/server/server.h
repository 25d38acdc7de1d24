// SPDX-License-Identifier: Apache-2.0
// The whole server: listener, access, routes, models. The network's thread refuses what can be refused from a request's head; two
// workers read bodies and write prompts; each model's thread writes its answers.
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/access.h"
#include "server/listener.h"
#include "server/model_registry.h"
#include "server/model_store.h"

namespace puna {

struct ServerOptions {
  ListenerOptions listener;
  AccessOptions access;
  RegistryOptions registry;
  std::vector<ModelSource> models;  // the first is the one that is meant where a request names none
  StoreOptions store;
  SamplerOptions sampler;
  int most_in_flight = 96;              // answers that are taken at once (places.h); who asks for more is told to come again (429)
  std::chrono::seconds drain_time{30};  // that answers get to end, after the server was asked to stop
  std::filesystem::path runs, votes;    // see Services
  std::string date;                     // see Services
  std::string version;
};

class Server {
 public:
  // Listens from here on. Throws what Listener and Access throw.
  explicit Server(const ServerOptions& options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::string url() const;
  // Loads the first model before anybody asks for it. Throws Error where it cannot be.
  void load_first();
  void start();
  // Serves until `asked_to_stop` or a request says so; then answers that were begun are ended, no new ones taken, for as long as
  // drain_time, or until `asked_twice`. Returns how many answers were cut off.
  std::int64_t run(const std::function<bool()>& asked_to_stop, const std::function<bool()>& asked_twice);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace puna
