// SPDX-License-Identifier: Apache-2.0
// The Hugging Face cache on disk, shared with other programs: models--org--name/{blobs,refs,snapshots}. A snapshot's files are
// relative links into blobs/. Also the place where a MODEL argument becomes a path.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "hub/hub_name.h"

namespace puna {

// HF_HUB_CACHE, else HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
std::filesystem::path hub_cache_root();
// The folder that holds `token` and `hub`: HF_HOME, else $XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface.
std::filesystem::path hub_home();

struct CachedModel {
  std::string repository;              // "org/name"
  std::string kind;                    // "safetensors", "gguf", "meta" or "other"
  std::vector<std::string> revisions;  // names under refs/
  std::int64_t bytes = 0;              // of blobs
  std::filesystem::path path;          // models--org--name
};
// By name; folders that are no model's are passed over.
std::vector<CachedModel> cached_models(const std::filesystem::path& root);

// The folder of a revision's files, or nullopt where the cache does not have it. A revision is a name under refs/ or a commit.
std::optional<std::filesystem::path> cached_snapshot(const std::filesystem::path& root, const HubName& name);

// The path that a MODEL argument means: a path that exists, "nano" (model/built_in.h), "org/name[:revision or quantization]" in the
// cache, or a short name that exactly one cached model has. Throws kNotFound saying what to do, kUsage where there are several to
// choose from.
std::filesystem::path find_model(const std::string& argument);
std::filesystem::path find_model_in(const std::filesystem::path& root, const std::string& argument);

// The names that find_model_in() opens a cached model by: "org/name", or one for each of several GGUF files, "org/name:Q4_K_M".
// None where only other revisions than main are there, or the files' names do not tell their types.
std::vector<std::string> names_of_cached(const std::filesystem::path& root, const CachedModel& model);

// Removes a model's folder and its locks; returns the bytes that were in it.
std::int64_t remove_cached_model(const std::filesystem::path& root, const CachedModel& model);
// The one cached model a name means; throws as find_model.
CachedModel cached_model(const std::filesystem::path& root, const std::string& name);

}  // namespace puna
