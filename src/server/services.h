// SPDX-License-Identifier: Apache-2.0
// What routes work with.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "server/model_registry.h"
#include "server/model_store.h"
#include "server/places.h"
#include "server/server_metrics.h"

namespace puna {

struct Services {
  ModelRegistry& models;
  Metrics& metrics;
  SamplerOptions sampler;       // what a request that says nothing is answered with; its seed is what theirs follow from
  std::filesystem::path runs;   // a folder of training runs; empty: none are shown
  std::filesystem::path votes;  // a file of preference pairs; empty: none are kept
  std::string date;             // that prompts mention; empty: today's
  std::string version;
  std::function<std::size_t()> connections;
  std::atomic<std::uint64_t> unseeded{0};  // requests for answers that named no seed
  std::atomic<bool> draining{false};
  std::atomic<bool> asked_to_stop{false};  // by a request
  ModelStore& store;
  Places places;
};

}  // namespace puna
