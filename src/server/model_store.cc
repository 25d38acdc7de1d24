// SPDX-License-Identifier: Apache-2.0
#include "server/model_store.h"

#include <chrono>
#include <cstdio>
#include <utility>

#include "base/error.h"
#include "base/interrupted.h"
#include "hub/hub_cache.h"
#include "model/built_in.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostDownloads = 4;

std::int64_t seconds_of(const fs::path& path) {
  std::error_code error;
  const auto time = fs::last_write_time(path, error);
  if (error) return 0;
  const auto system = std::chrono::file_clock::to_sys(time);
  return std::chrono::duration_cast<std::chrono::seconds>(system.time_since_epoch()).count();
}

std::int64_t bytes_of(const fs::path& path) {
  std::error_code error;
  if (path == kBuiltInPath) return static_cast<std::int64_t>(built_in_gguf().size());
  if (!fs::is_directory(path, error)) return static_cast<std::int64_t>(fs::file_size(path, error));
  std::int64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path, error)) {
    if (entry.is_regular_file(error)) bytes += static_cast<std::int64_t>(entry.file_size(error));
  }
  return bytes;
}

// What a client is told: messages about the server's own disk name its folders, which are for the log.
ApiError download_error(const std::string& name, const Error& error) {
  if (error.kind() != ErrorKind::kNoRoom && error.kind() != ErrorKind::kBadInput && error.kind() != ErrorKind::kInternal)
    return ApiError::from(error);
  fmt::print(stderr, "puna: {}: {}\n", name, error.what());
  if (error.kind() == ErrorKind::kNoRoom)
    return {507, "no_room", "model", fmt::format("there is not enough room on the server's disk for {}", name)};
  return {500, "download_failed", "model", fmt::format("{} could not be stored; the server's log says why", name)};
}

}  // namespace

ModelSource model_source(std::string id, const fs::path& path) {
  return {.id = std::move(id),
          .open = [path]() -> std::shared_ptr<const Checkpoint> { return open_checkpoint(path); },
          .created = path == kBuiltInPath ? 0 : seconds_of(path),
          .bytes = bytes_of(path),
          .repository = ""};
}

std::vector<ModelSource> cached_sources(const fs::path& root) {
  std::vector<ModelSource> sources;
  for (const CachedModel& model : cached_models(root)) {
    if (model.kind != "safetensors" && model.kind != "gguf") continue;
    for (const std::string& name : names_of_cached(root, model)) {
      sources.push_back(model_source(name, find_model_in(root, name)));
      sources.back().repository = model.repository;
    }
  }
  return sources;
}

ModelStore::~ModelStore() {
  for (Download& download : downloads_) *download.stop = true;
  for (Download& download : downloads_) download.thread.join();
}

void ModelStore::reap() {
  for (auto download = downloads_.begin(); download != downloads_.end();) {
    if (download->ended) download->thread.join();
    download = download->ended ? downloads_.erase(download) : std::next(download);
  }
}

ModelStore::Stop ModelStore::pull(const std::string& name, Events events) {
  const auto parsed = parse_hub_name(name);
  if (!parsed)
    throw ApiError(400, "invalid_value", "model",
                   "this is no name on the hub: expected org/name, org/name:revision or org/name:Q4_K_M");
  if (options_.root.empty())
    throw ApiError(503, "no_cache", "model", "this server has no cache to download to: set HF_HOME where it is started");
  const std::scoped_lock lock(mutex_);
  reap();
  for (const Download& download : downloads_) {
    if (download.repository == parsed->repository)
      throw ApiError(409, "already_downloading", "model", fmt::format("{} is being downloaded already", parsed->repository));
  }
  if (downloads_.size() >= kMostDownloads)
    throw ApiError(503, "overloaded", "model", fmt::format("{} models are being downloaded: try again later", downloads_.size()));
  Download& download = downloads_.emplace_back();
  download.repository = parsed->repository;
  const std::string id = parsed->quantization.empty() && parsed->revision == "main" ? parsed->repository : name;
  download.thread =
      std::thread([this, &download, id, hub_name = *parsed, told = std::move(events)] { run(download, id, hub_name, told); });
  return download.stop;
}

// The download has ended before its end is told, so that whoever hears of it can ask for the next at once.
void ModelStore::run(Download& download, const std::string& id, const HubName& name, const Events& events) const {
  const auto fail_with = [&](const ApiError& error) {
    download.ended = true;
    events.failed(error);
  };
  try {
    HubOptions options = options_.hub;
    options.interrupted = download.stop.get();
    HubClient client(options);
    const PullReport report = pull_model(client, options_.root, name, {}, events.progress);
    ModelSource source = model_source(id, report.path);
    source.repository = name.repository;
    download.ended = true;
    events.done(std::move(source));
  } catch (const Interrupted&) {
    fail_with({499, "stopped", "", "the download was stopped; the next one goes on from there"});
  } catch (const Error& error) {
    fail_with(download_error(id, error));
  } catch (const std::exception& error) {
    fail_with(download_error(id, Error(ErrorKind::kInternal, id, error.what())));
  }
}

void ModelStore::remove(const ModelSource& source) {
  for (const CachedModel& model : cached_models(options_.root)) {
    if (model.repository != source.repository) continue;
    try {
      remove_cached_model(options_.root, model);
    } catch (const Error& error) {
      fmt::print(stderr, "puna: {}: {}\n", source.id, error.what());
      throw ApiError(500, "not_deleted", "model", fmt::format("{} could not be deleted; the server's log says why", source.id));
    }
  }
}

}  // namespace puna
