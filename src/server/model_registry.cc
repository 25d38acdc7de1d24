// SPDX-License-Identifier: Apache-2.0
#include "server/model_registry.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/mapping_faults.h"
#include "model/adapter_file.h"
#include "server/api_error.h"

namespace puna {
namespace {

constexpr std::string_view kLatest = ":latest";  // what Ollama's clients put behind a name

// Nobody but the registry holds it, and nothing is left to be answered.
bool is_idle(const std::shared_ptr<ServedModel>& model) { return model != nullptr && model.use_count() == 1 && model->jobs() == 0; }

[[noreturn]] void refuse_loading(const std::string& id, const Error& error) {
  fmt::print(stderr, "puna: {}: {}\n", id, error.what());  // with its path, which is for the operator only
  if (error.kind() == ErrorKind::kNoRoom)
    throw ApiError(503, "model_does_not_fit", "model", fmt::format("the model {} does not fit into the memory that is left", id));
  throw ApiError(500, "model_not_loadable", "model",
                 fmt::format("the model {} could not be loaded; the server's log says why", id));
}

std::shared_ptr<ServedModel> open_model(const ModelSource& source, ServedModelOptions options) {
  std::shared_ptr<const Checkpoint> checkpoint = source.open();
  for (const AdapterSource& adapter : source.adapters)
    options.engine.adapters.push_back(load_adapters(read_adapter(adapter.folder), *checkpoint, adapter.name));
  if (source.drafts) options.propose = source.drafts(*checkpoint);
  return std::make_shared<ServedModel>(source.id, std::move(checkpoint), options);
}

}  // namespace

ModelRegistry::ModelRegistry(std::vector<ModelSource> sources, const RegistryOptions& options) : options_(options) {
  for (ModelSource& source : sources) add(std::move(source));
}

ModelRegistry::~ModelRegistry() {
  for (const auto& entry : entries_) {
    if (entry->model != nullptr) entry->model->stop();
  }
  for (const auto& model : retired_) model->stop();
}

std::shared_ptr<ModelRegistry::Entry> ModelRegistry::entry(std::string_view name) const {
  const std::scoped_lock lock(mutex_);
  if (name.empty() && !entries_.empty()) return entries_.front();
  const auto has_adapter = [](const Entry& entry, std::string_view spelling) {
    const std::string_view id = entry.source.id;
    if (!spelling.starts_with(id) || spelling.size() < id.size() + 2 || spelling[id.size()] != ':') return false;
    return std::ranges::find(entry.source.adapters, spelling.substr(id.size() + 1), &AdapterSource::name) !=
           entry.source.adapters.end();
  };
  for (const std::string_view spelling : {name, name.ends_with(kLatest) ? name.substr(0, name.size() - kLatest.size()) : name}) {
    for (const auto& entry : entries_) {
      if (entry->source.id == spelling || has_adapter(*entry, spelling)) return entry;
    }
  }
  return nullptr;
}

std::string ModelRegistry::find(std::string_view name) const {
  const auto found = entry(name);
  return found == nullptr ? "" : found->source.id;
}

std::shared_ptr<ServedModel> ModelRegistry::get(std::string_view name) {
  const auto found = entry(name);
  if (found == nullptr) {
    throw ApiError(404, "model_not_found", "model",
                   fmt::format("there is no model \"{}\" here; GET /v1/models lists those that are", name.substr(0, 200)));
  }
  try {
    return loaded(*found);
  } catch (const Error& error) {
    refuse_loading(found->source.id, error);
  }
}

void ModelRegistry::load_first() {
  if (const auto first = entry("")) loaded(*first);
}

std::shared_ptr<ServedModel> ModelRegistry::loaded(Entry& entry) {
  const std::scoped_lock loading(entry.loading);
  {
    const std::scoped_lock lock(mutex_);
    // Touching what is missing would end the program: it is opened afresh, which says what is wrong with it, or finds it whole
    // again.
    if (entry.model != nullptr && was_cut_short(entry.model->checkpoint().files)) retired_.push_back(take_model(entry));
    if (entry.model != nullptr) return entry.model;
    entry.is_loading = true;
  }
  try {
    auto model = load(entry);
    const std::scoped_lock lock(mutex_);
    entry.is_loading = false;
    const auto is_this = [&](const auto& each) { return each.get() == &entry; };
    if (std::ranges::none_of(entries_, is_this)) {  // removed or replaced meanwhile: whoever asked has it, unload_idle() ends it
      retired_.push_back(model);
      return model;
    }
    return entry.model = std::move(model);
  } catch (...) {
    const std::scoped_lock lock(mutex_);
    entry.is_loading = false;
    throw;
  }
}

std::shared_ptr<ServedModel> ModelRegistry::load(Entry& entry) {
  while (true) {
    try {
      auto model = open_model(entry.source, options_.model);
      if (options_.memory_budget <= 0 || loaded_bytes() + model->planned_bytes() <= options_.memory_budget) return model;
      fail(ErrorKind::kNoRoom, entry.source.id, "the plan of {} bytes is more than the budget leaves", model->planned_bytes());
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kNoRoom && unload_longest_unused(&entry)) continue;
      throw;
    }
  }
}

std::int64_t ModelRegistry::loaded_bytes() const {
  const std::scoped_lock lock(mutex_);
  std::int64_t bytes = 0;
  for (const auto& entry : entries_) bytes += entry->model == nullptr ? 0 : entry->model->planned_bytes();
  for (const auto& model : retired_) bytes += model->planned_bytes();  // they still write
  return bytes;
}

// With the lock held.
std::shared_ptr<ServedModel> ModelRegistry::take_model(Entry& entry) const {
  entry.keep_alive = options_.keep_alive;
  return std::exchange(entry.model, nullptr);
}

bool ModelRegistry::unload_longest_unused(const Entry* except) {
  std::shared_ptr<ServedModel> unloaded;  // destroyed, with its thread, behind the lock
  const std::scoped_lock lock(mutex_);
  if (const auto idle = std::ranges::find_if(retired_, is_idle); idle != retired_.end()) {
    unloaded = std::move(*idle);
    retired_.erase(idle);
    return true;
  }
  Entry* longest = nullptr;
  for (const auto& entry : entries_) {
    if (entry.get() == except || !is_idle(entry->model)) continue;
    if (longest == nullptr || entry->model->last_used() < longest->model->last_used()) longest = entry.get();
  }
  if (longest != nullptr) unloaded = take_model(*longest);
  return longest != nullptr;
}

std::vector<ModelRegistry::Listed> ModelRegistry::list() const {
  const std::scoped_lock lock(mutex_);
  std::vector<Listed> listed;
  for (const auto& entry : entries_) {
    Listed one{.source = entry->source, .state = State::kAvailable, .model = entry->model};
    if (entry->is_loading) one.state = State::kLoading;
    if (entry->model != nullptr) {
      one.state = State::kLoaded;
      const auto idle = std::chrono::steady_clock::now() - entry->model->last_used();
      if (entry->keep_alive.count() >= 0)
        one.expires = std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::seconds>(entry->keep_alive - idle).count());
    }
    listed.push_back(std::move(one));
  }
  return listed;
}

bool ModelRegistry::unload(std::string_view name) {
  const auto found = entry(name);
  if (found == nullptr) return false;
  const std::scoped_lock lock(mutex_);
  if (found->model == nullptr) return false;
  retired_.push_back(take_model(*found));
  return true;
}

void ModelRegistry::set_keep_alive(std::string_view name, std::chrono::seconds time) {
  const auto found = entry(name);
  const std::scoped_lock lock(mutex_);
  if (found != nullptr) found->keep_alive = time;
}

void ModelRegistry::unload_idle() {
  std::vector<std::shared_ptr<ServedModel>> unloaded;
  const std::scoped_lock lock(mutex_);
  const auto done = std::partition(retired_.begin(), retired_.end(), [](const auto& model) { return !is_idle(model); });
  unloaded.assign(done, retired_.end());
  retired_.erase(done, retired_.end());
  for (const auto& entry : entries_) {
    if (!is_idle(entry->model) || entry->keep_alive.count() < 0) continue;
    if (std::chrono::steady_clock::now() - entry->model->last_used() < entry->keep_alive) continue;
    unloaded.push_back(take_model(*entry));
  }
}

void ModelRegistry::add(ModelSource source) {
  unload(source.id.empty() ? "?" : source.id);
  const std::scoped_lock lock(mutex_);
  std::erase_if(entries_, [&](const auto& entry) { return entry->source.id == source.id; });
  auto added = std::make_shared<Entry>();
  added->source = std::move(source);
  added->keep_alive = options_.keep_alive;
  entries_.push_back(std::move(added));
}

bool ModelRegistry::remove(std::string_view name) {
  unload(name);
  const auto found = entry(name);
  const std::scoped_lock lock(mutex_);
  return std::erase(entries_, found) > 0;
}

}  // namespace puna
