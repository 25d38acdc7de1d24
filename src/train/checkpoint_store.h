// SPDX-License-Identifier: Apache-2.0
// The checkpoints of a run: folders step-00000100 below one folder, each whole or not there. A checkpoint is written under a
// temporary name with every file synced, gets a manifest of sizes and SHA-256 sums, and is then renamed; older ones are removed
// only after that. A process killed at any moment leaves the newest whole checkpoint and at most one unfinished folder, which the
// next start removes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

namespace puna {

struct StoredCheckpoint {
  std::filesystem::path folder;
  std::int64_t step = 0;
  std::optional<double> held_out_loss;
};

class CheckpointStore {
 public:
  // keep: how many of the newest stay (1 or more); keep_best: and the one with the lowest held-out loss.
  CheckpointStore(std::filesystem::path folder, std::int64_t keep, bool keep_best);

  // `fill` writes the files into the folder it is given. Throws what it throws, and kNoRoom or kBadInput where the disk is full or
  // not writable; the checkpoints there were are untouched then.
  StoredCheckpoint write(std::int64_t step, std::optional<double> held_out_loss,
                         const std::function<void(const std::filesystem::path&)>& fill);

  // Whole ones by ascending step: those with a manifest. verify() reads every byte.
  std::vector<StoredCheckpoint> list() const;
  // The newest whose files are what the manifest says; damaged ones are passed over and named in `damaged`.
  std::optional<StoredCheckpoint> newest(std::vector<std::filesystem::path>* damaged = nullptr) const;
  // Removes what a killed process left unfinished.
  void remove_unfinished() const;
  // Of a damaged one: it stays, as damaged-step-…, and counts no longer.
  void set_aside(const std::filesystem::path& folder) const;

 private:
  void forget_old() const;

  std::filesystem::path folder_;
  std::int64_t keep_;
  bool keep_best_;
};

// Throws kBadInput naming the file that is missing, has another size or another sum than the manifest says.
void verify_checkpoint(const std::filesystem::path& folder);

}  // namespace puna
