// SPDX-License-Identifier: Apache-2.0
// Many clients of one server, on one thread (libcurl's multi interface): each asks, reads its answer while it comes, and asks
// again.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/load_report.h"
#include "cli/server_address.h"

namespace puna {

struct LoadOptions {
  ServerAddress address;
  std::string key;  // or empty
  int clients = 1;
  std::int64_t requests = 0;  // that are sent; 0: as many as go into `seconds`
  double seconds = 0;         // after which no more are sent
  double rate = 0;            // requests due in a second, at random times (Poisson's); 0: one whenever a client is free
  std::uint64_t seed = 0;     // of those times
  double timeout = 600;       // seconds that one request may take
};

struct LoadEvents {
  std::function<Json(std::int64_t index)> body;    // of request number `index`
  std::function<void(std::int64_t ended)> ended;   // so many answers are in
  const std::atomic<bool>* interrupted = nullptr;  // no more are sent, and those under way are given up
};

// POST /v1/chat/completions, again and again. Requests that were given up are in no sample, and a
// hundred in a row that reach no server are the last. With a rate, a request waits for a free
// client from when it is due, and that wait is part of its times: a slow server is not asked more kindly.
std::vector<LoadSample> run_load(const LoadOptions& options, const LoadEvents& events);

}  // namespace puna
