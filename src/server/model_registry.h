// SPDX-License-Identifier: Apache-2.0
// The models that a server has, by name: those that are loaded, and those that will be when somebody asks for them. Loading makes
// room by unloading idle ones, the longest unused first.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "server/served_model.h"

namespace puna {

// LoRA adapters beside a model, for requests that name them: "model:NAME".
struct AdapterSource {
  std::string name;
  std::filesystem::path folder;
};

// A model that can be opened. Its name is all that clients see of where it lies.
struct ModelSource {
  std::string id;
  std::function<std::shared_ptr<const Checkpoint>()> open;
  std::int64_t created = 0;  // seconds since 1970
  std::int64_t bytes = 0;    // of its files
  std::string repository;    // on the hub, where its files lie in the cache; empty: they are not the server's to delete
  std::vector<AdapterSource> adapters = {};
  // Who proposes tokens of its answers, made when it is loaded; empty: nobody. Throws for a draft of another vocabulary.
  std::function<std::function<void(GenerateOptions&)>(const Checkpoint&)> drafts = {};
  bool copied = false;  // a second name, which may be taken away alone
};

struct RegistryOptions {
  ServedModelOptions model;
  std::int64_t memory_budget = 0;       // bytes of all loaded models together; 0: what the machine leaves
  std::chrono::seconds keep_alive{-1};  // an idle model is unloaded after so long; negative: never
};

class ModelRegistry {
 public:
  enum class State { kAvailable, kLoading, kLoaded };
  struct Listed {
    ModelSource source;
    State state = State::kAvailable;
    std::shared_ptr<ServedModel> model;  // where loaded
    std::int64_t expires = -1;           // seconds from now until it is unloaded, should nobody ask; -1: never
  };

  ModelRegistry(std::vector<ModelSource> sources, const RegistryOptions& options);
  ~ModelRegistry();  // what is left to be answered fails
  ModelRegistry(const ModelRegistry&) = delete;
  ModelRegistry& operator=(const ModelRegistry&) = delete;

  // The model of that name (behind a colon, one of its adapters may be named), loaded now where it is not; the first one for an
  // empty name. Throws ApiError: 404 for a name that is not there, 503 where it does not fit beside those that are busy, 500 where
  // its files cannot be read.
  std::shared_ptr<ServedModel> get(std::string_view name);
  // Loads the model that is meant where a request names none. Throws Error, with paths and figures for the operator.
  void load_first();
  std::vector<Listed> list() const;
  // The name as the registry has it ("x:latest" is x), or empty.
  std::string find(std::string_view name) const;
  // Lets go of it; answers that are being written are finished by those who hold it. False where it is not loaded.
  bool unload(std::string_view name);
  // How long this one stays when idle, until it is unloaded; negative: for ever.
  void set_keep_alive(std::string_view name, std::chrono::seconds time);
  // Those whose time is over, and what is left of those that were unloaded. To be called now and then, by a thread of no model.
  void unload_idle();
  void add(ModelSource source);  // in the place of one of the same name
  bool remove(std::string_view name);

 private:
  struct Entry {
    ModelSource source;
    std::chrono::seconds keep_alive;
    std::mutex loading;  // held by whoever loads it
    std::shared_ptr<ServedModel> model;
    bool is_loading = false;
  };
  std::shared_ptr<Entry> entry(std::string_view name) const;
  std::shared_ptr<ServedModel> loaded(Entry& entry);
  std::shared_ptr<ServedModel> load(Entry& entry);
  std::shared_ptr<ServedModel> take_model(Entry& entry) const;
  bool unload_longest_unused(const Entry* except);
  std::int64_t loaded_bytes() const;

  RegistryOptions options_;
  mutable std::mutex mutex_;  // of the list, and of the entries' models
  std::vector<std::shared_ptr<Entry>> entries_;
  std::vector<std::shared_ptr<ServedModel>>
      retired_;  // unloaded, and perhaps held by answers: a model must not end on its own thread
};

}  // namespace puna
