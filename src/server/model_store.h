// SPDX-License-Identifier: Apache-2.0
// Where a server's models come from and go to: files, the hub's cache on disk, the hub itself. Downloads run on threads of their
// own, since one may take an hour.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "hub/hub_pull.h"
#include "server/api_error.h"
#include "server/model_registry.h"

namespace puna {

// A model that lies at a path, as find_model() gives it.
ModelSource model_source(std::string id, const std::filesystem::path& path);
// All that the cache at `root` holds and this program can open.
std::vector<ModelSource> cached_sources(const std::filesystem::path& root);

struct StoreOptions {
  std::filesystem::path root;  // of the hub's cache; empty: there is none, and nothing is downloaded
  HubOptions hub;
};

class ModelStore {
 public:
  // Told on the download's thread; must not throw.
  struct Events {
    std::function<void(const PullProgress&)> progress;
    std::function<void(ModelSource)> done;  // the last event, or:
    std::function<void(const ApiError&)> failed;
  };
  using Stop = std::shared_ptr<std::atomic<bool>>;  // raised by whoever does not want the download any more

  explicit ModelStore(StoreOptions options) : options_(std::move(options)) {}
  ~ModelStore();  // ends the downloads; what came of them is kept, and gone on from
  ModelStore(const ModelStore&) = delete;
  ModelStore& operator=(const ModelStore&) = delete;

  // Begins to download "org/name", "org/name:revision" or "org/name:Q4_K_M" into the cache. Throws ApiError: 400 for what is no
  // such name, 409 where it is being downloaded, 503 where there is no cache or enough is being downloaded.
  Stop pull(const std::string& name, Events events);
  // Takes a model's files out of the cache.
  void remove(const ModelSource& source);

 private:
  struct Download {
    std::string repository;
    Stop stop = std::make_shared<std::atomic<bool>>(false);
    std::atomic<bool> ended{false};
    std::thread thread;
  };
  void reap();
  void run(Download& download, const std::string& id, const HubName& name, const Events& events) const;

  StoreOptions options_;
  std::mutex mutex_;
  std::list<Download> downloads_;
};

}  // namespace puna
