// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_cache.h"

#include <algorithm>
#include <fstream>
#include <system_error>

#include "base/environment.h"
#include "base/error.h"
#include "base/nearest.h"
#include "hub/hub_files.h"
#include "model/built_in.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

// Files below `folder`, relative to it; links count as files. An unreadable folder is an empty one.
std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, fs::directory_options::skip_permission_denied, error), end;
  for (; !error && it != end; it.increment(error)) {
    if (it->is_symlink(error) || it->is_regular_file(error)) files.push_back(it->path().lexically_relative(folder).string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::int64_t size_of_blobs(const fs::path& model) {
  std::int64_t bytes = 0;
  std::error_code error;
  fs::directory_iterator it(model / "blobs", error), end;
  for (; !error && it != end; it.increment(error)) {
    std::error_code absent;
    const auto size = it->file_size(absent);
    if (!absent) bytes += static_cast<std::int64_t>(size);
  }
  return bytes;
}

std::string kind_of_files(const std::vector<std::string>& files) {
  const auto any = [&](std::string_view ending) {
    return std::any_of(files.begin(), files.end(), [&](const std::string& file) { return file.ends_with(ending); });
  };
  return any(".safetensors") ? "safetensors" : any(".gguf") ? "gguf" : any(".pth") ? "meta" : "other";
}

std::string names_of(const std::vector<CachedModel>& models) {
  std::string text;
  for (const CachedModel& model : models) text += "\n  " + model.repository;
  return text;
}

// Whether the files are a model as they lie in their folder, GGUF files apart.
bool is_folder_model(const std::vector<std::string>& files) {
  return std::any_of(files.begin(), files.end(), [](const std::string& file) {
    return file == "params.json" || (file.find('/') == std::string::npos && file.ends_with(".safetensors"));
  });
}

// A snapshot as a path that can be opened: the folder, or its one GGUF model's first file.
fs::path model_in_snapshot(const fs::path& snapshot, const HubName& name, const std::string& argument) {
  const std::vector<std::string> files = files_below(snapshot);
  if (is_folder_model(files) && name.quantization.empty()) return snapshot;
  std::vector<std::vector<std::string>> models = gguf_models(files);
  if (!name.quantization.empty()) {
    std::erase_if(models, [&](const auto& model) { return !names_quantization(model.front(), name.quantization); });
  }
  if (models.size() == 1) return snapshot / models.front().front();
  if (models.empty()) {
    if (!name.quantization.empty() || files.empty()) {
      fail(ErrorKind::kNotFound, argument, "the cache does not have this file of the model: run puna pull {}", argument);
    }
    return snapshot;
  }
  std::string list;
  for (const auto& model : models) list += "\n  " + model.front();
  fail(ErrorKind::kUsage, argument, "the cache has {} GGUF files of this model: say which, as in {}:Q4_K_M; there are:{}",
       models.size(), name.repository, list);
}

}  // namespace

fs::path hub_home() {
  if (const std::string home = environment("HF_HOME"); !home.empty()) return home;
  if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty()) return fs::path(cache) / "huggingface";
  const std::string home = environment("HOME");
  if (home.empty()) fail(ErrorKind::kNotFound, "cache", "neither HOME nor HF_HOME is set: set HF_HOME to the folder for models");
  return fs::path(home) / ".cache" / "huggingface";
}

fs::path hub_cache_root() {
  if (const std::string cache = environment("HF_HUB_CACHE"); !cache.empty()) return cache;
  return hub_home() / "hub";
}

std::vector<CachedModel> cached_models(const fs::path& root) {
  std::vector<CachedModel> models;
  std::error_code error;
  fs::directory_iterator it(root, error), end;
  for (; !error && it != end; it.increment(error)) {
    const auto repository = repository_of_folder(it->path().filename().string());
    std::error_code unreadable;  // a link in a circle, say: others use this cache too
    if (!repository || !it->is_directory(unreadable)) continue;
    CachedModel model{*repository, kind_of_files(files_below(it->path() / "snapshots")), files_below(it->path() / "refs"),
                      size_of_blobs(it->path()), it->path()};
    models.push_back(std::move(model));
  }
  std::sort(models.begin(), models.end(), [](const auto& a, const auto& b) { return a.repository < b.repository; });
  return models;
}

std::optional<fs::path> cached_snapshot(const fs::path& root, const HubName& name) {
  const fs::path model = root / cache_folder_name(name.repository);
  std::string commit = name.revision;
  if (std::ifstream ref(model / "refs" / name.revision); ref) std::getline(ref, commit);
  if (!is_safe_etag(commit)) return std::nullopt;
  const fs::path snapshot = model / "snapshots" / commit;
  std::error_code error;
  return fs::is_directory(snapshot, error) ? std::optional(snapshot) : std::nullopt;
}

CachedModel cached_model(const fs::path& root, const std::string& name) {
  const std::vector<CachedModel> models = cached_models(root);
  std::vector<CachedModel> found;
  for (const CachedModel& model : models) {
    const std::string short_name = model.repository.substr(model.repository.find('/') + 1);
    if (model.repository == name || short_name == name) found.push_back(model);
  }
  if (found.size() == 1) return found.front();
  if (found.size() > 1)
    fail(ErrorKind::kUsage, name, "several cached models have this name: give the whole of it:{}", names_of(found));
  std::vector<std::string> names;
  for (const CachedModel& model : models) names.push_back(model.repository);
  for (const CachedModel& model : models) names.push_back(model.repository.substr(model.repository.find('/') + 1));
  names.emplace_back(kBuiltInName);
  fail(ErrorKind::kNotFound, name, "no such file, and no model of this name in the cache {}{}", root.string(),
       did_you_mean(name, names));
}

std::vector<std::string> names_of_cached(const fs::path& root, const CachedModel& model) {
  const auto snapshot = cached_snapshot(root, {.repository = model.repository, .quantization = ""});
  if (!snapshot) return {};
  const std::vector<std::string> files = files_below(*snapshot);
  const auto models = gguf_models(files);
  if (is_folder_model(files) || models.size() < 2) return {model.repository};
  std::vector<std::string> names;
  for (const auto& parts : models) {
    const std::string type = quantization_in(parts.front());
    const std::string name = model.repository + ":" + type;
    if (!type.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

fs::path find_model_in(const fs::path& root, const std::string& argument) {
  std::error_code error;
  if (fs::exists(argument, error)) return argument;
  if (const auto name = parse_hub_name(argument)) {
    if (const auto snapshot = cached_snapshot(root, *name)) return model_in_snapshot(*snapshot, *name, argument);
    std::vector<std::string> names;
    for (const CachedModel& model : cached_models(root)) names.push_back(model.repository);
    fail(ErrorKind::kNotFound, argument, "no such file, and no such model in the cache{}: run puna pull {}, or see puna list",
         did_you_mean(name->repository, names), argument);
  }
  const bool a_path = argument.find('/') != std::string::npos || argument.ends_with(".gguf");
  if (argument.empty() || a_path) fail(ErrorKind::kNotFound, argument, "no such file or folder");
  const std::size_t colon = argument.find(':');
  const CachedModel model = cached_model(root, argument.substr(0, colon));
  const std::string tag = colon == std::string::npos ? "" : argument.substr(colon);
  return find_model_in(root, model.repository + tag);
}

fs::path find_model(const std::string& argument) {
  std::error_code error;
  if (fs::exists(argument, error)) return argument;
  if (argument == kBuiltInName || argument == kBuiltInPath) return kBuiltInPath;
  return find_model_in(hub_cache_root(), argument);
}

std::int64_t remove_cached_model(const fs::path& root, const CachedModel& model) {
  std::error_code error;
  fs::remove_all(model.path, error);
  if (error) fail(ErrorKind::kBadInput, model.path.string(), "cannot remove: {}", error.message());
  fs::remove_all(root / ".locks" / model.path.filename(), error);
  return model.bytes;
}

}  // namespace puna
