// SPDX-License-Identifier: Apache-2.0
// A model from the hub into the cache: choose the files, look at the room on the disk, download what is missing (continuing what an
// earlier run began), check the hashes, link the snapshot, and last name the revision, so that a reference never points at half a
// model.
#pragma once

#include <cstdint>
#include <filesystem>
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

// Throws as HubClient and choose_files do; kNoRoom when the disk is too small; kBadInput for a wrong hash.
PullReport pull_model(HubClient& client, const std::filesystem::path& root, const HubName& name,
                      const std::vector<std::string>& include);

}  // namespace puna
