// SPDX-License-Identifier: Apache-2.0
// Where a new checkpoint goes: checked before anything is computed, and in place only when it is complete.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "model/checkpoint.h"

namespace puna {

// The files of weights, and where they make up a folder what else it holds of the checkpoint.
std::vector<std::filesystem::path> files_read(const Checkpoint& in);

// Throws kUsage where OUT is the input itself, or one of the models and adapters that it was made of, or exists (an empty folder
// does not count, and with `overwrite` nothing does that is of the kind to be written), kNotFound where its folder is not there,
// kNoRoom where the disk has fewer than `bytes` free.
void check_output(const Checkpoint& in, const std::filesystem::path& out, bool folder, bool overwrite);
void check_room(const std::filesystem::path& out, std::int64_t bytes);

// Takes back what was put in place: a file, or of a folder what belongs to a checkpoint, and the folder where nothing else is in
// it.
void remove_output(const std::filesystem::path& out);

// A folder written beside its name and renamed when it is complete; without commit() it leaves nothing. Into a folder that exists
// the files are moved one by one, over those of the same name; then what is left of the checkpoint that it held goes: weights,
// tokenizers, templates and configurations.
class FolderDraft {
 public:
  explicit FolderDraft(const std::filesystem::path& out);
  ~FolderDraft();
  FolderDraft(const FolderDraft&) = delete;
  FolderDraft& operator=(const FolderDraft&) = delete;

  const std::filesystem::path& path() const { return draft_; }
  void commit();

 private:
  std::filesystem::path out_, draft_;
};

}  // namespace puna
