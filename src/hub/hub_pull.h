// SPDX-License-Identifier: Apache-2.0
// A model from the hub into the cache: choose the files, look at the room on the disk, download what is missing (continuing what an
// earlier run began), check the hashes, link the snapshot, and last name the revision, so that a reference never points at half a
// model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "hub/hub_client.h"
#include "hub/hub_files.h"

namespace puna {

struct PullReport {
  std::string commit;
  std::filesystem::path path;  // what to give as MODEL: the snapshot, or its GGUF file
  std::vector<std::string> files;
  std::int64_t bytes = 0;       // of the files
  std::int64_t downloaded = 0;  // of them in this run
};

// How much of a file is there; told as it comes, and once for a file that is there already.
struct PullProgress {
  const std::string& path;  // in the repository
  const std::string& etag;
  std::int64_t done = 0, total = 0;  // bytes; total 0: the hub did not say
};
using PullListener = std::function<void(const PullProgress&)>;

// Throws as HubClient and choose_files do; kNoRoom when the disk is too small; kBadInput for a wrong hash.
PullReport pull_model(HubClient& client, const std::filesystem::path& root, const HubName& name,
                      const std::vector<std::string>& include, const PullListener& listener);

}  // namespace puna
