// SPDX-License-Identifier: Apache-2.0
#include "quant/output_path.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "base/progress.h"
#include "tensor/atomic_file.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

// "out/" and "out" are the same folder; the parent of a bare name is the working folder.
fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }
fs::path folder_of(const fs::path& path) {
  const fs::path bare = without_slash(path);
  return bare.has_parent_path() ? bare.parent_path() : fs::path(".");
}

// A GGUF file holds all of its model; what lies beside other weights belongs to them. Of a model made in memory out of others, such
// as a merged one, only the names tell.
bool is_read_with_its_folder(const Checkpoint& in, const fs::path& weights) {
  return in.kind != CheckpointKind::kGguf && weights.extension() != ".gguf";
}

void refuse_input(const Checkpoint& in, const fs::path& out) {
  for (const fs::path& file : in.files) {
    if (is_same_file(file, out) || (is_read_with_its_folder(in, file) && is_same_file(folder_of(file), out))) {
      fail(ErrorKind::kUsage, out.string(), "this is the model that is read: give another name for the one to be written");
    }
  }
}

// Whether a file belongs to a checkpoint: one that the new model does not bring would be read as if it were its own.
bool is_of_checkpoint(const std::string& name) {
  static constexpr std::array<std::string_view, 10> kNames = {"config.json",
                                                              "params.json",
                                                              "generation_config.json",
                                                              "tokenizer.json",
                                                              "tokenizer.model",
                                                              "tokenizer_config.json",
                                                              "added_tokens.json",
                                                              "special_tokens_map.json",
                                                              "chat_template.jinja",
                                                              "model.safetensors.index.json"};
  return std::ranges::find(kNames, name) != kNames.end() || name.ends_with(".safetensors") ||
         (name.starts_with("consolidated.") && name.ends_with(".pth")) ||
         (name.starts_with("fp8_scales_") && name.ends_with(".pt"));
}

bool is_checkpoint_folder(const fs::path& path) { return fs::exists(path / "config.json") || fs::exists(path / "params.json"); }

void check_existing(const fs::path& out, bool folder, bool overwrite) {
  const bool is_folder = fs::is_directory(out);
  if (folder != is_folder) {
    fail(ErrorKind::kUsage, out.string(), "{}: give another name",
         is_folder ? "a folder, where a file is to be written" : "a file, where a folder is to be written");
  }
  if (is_folder && fs::is_empty(out)) return;
  if (!overwrite) fail(ErrorKind::kUsage, out.string(), "already exists: give another name, or --force to overwrite it");
  if (is_folder && !is_checkpoint_folder(out)) {
    fail(ErrorKind::kUsage, out.string(), "a folder that holds no checkpoint is not overwritten: give another name");
  }
}

// Deletes what a folder holds of a checkpoint, except the names in `kept`.
void remove_checkpoint(const fs::path& folder, const std::set<std::string>& kept, std::error_code& error) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!error && !kept.contains(name) && is_of_checkpoint(name)) fs::remove(entry.path(), error);
  }
}

}  // namespace

std::vector<fs::path> files_read(const Checkpoint& in) {
  std::vector<fs::path> files = in.files;
  if (in.files.empty() || !is_read_with_its_folder(in, in.files.front())) return files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_of(in.files.front()))) {
    if (is_of_checkpoint(entry.path().filename().string())) files.push_back(entry.path());
  }
  return files;
}

void remove_output(const fs::path& out) {
  std::error_code error;
  if (fs::is_directory(out, error)) remove_checkpoint(out, {}, error);
  fs::remove(out, error);  // of folders only an empty one
}

void check_output(const Checkpoint& in, const fs::path& out, bool folder, bool overwrite) {
  std::error_code error;
  refuse_input(in, out);
  if (fs::exists(out, error)) return check_existing(out, folder, overwrite);
  if (!fs::is_directory(folder_of(out), error)) {
    fail(ErrorKind::kNotFound, out.string(), "the folder {} is not there: create it first", folder_of(out).string());
  }
}

void check_room(const fs::path& out, std::int64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(folder_of(out), error);
  if (error || space.available >= static_cast<std::uintmax_t>(bytes)) return;
  fail(ErrorKind::kNoRoom, out.string(), "{} are to be written, but the disk has {} free: make room, or choose another place",
       human_bytes(static_cast<std::uint64_t>(bytes)), human_bytes(space.available));
}

FolderDraft::FolderDraft(const fs::path& out) : out_(without_slash(out)), draft_(out_) {
  draft_ += ".part-" + std::to_string(::getpid());
  std::error_code error;
  fs::create_directory(draft_, error);
  if (error) fail(ErrorKind::kBadInput, draft_.string(), "cannot create the folder: {}", error.message());
}

FolderDraft::~FolderDraft() {
  std::error_code ignored;
  fs::remove_all(draft_, ignored);
}

void FolderDraft::commit() {
  std::error_code error;
  if (!fs::exists(out_)) {
    fs::rename(draft_, out_, error);
  } else {
    std::set<std::string> fresh;
    for (const fs::directory_entry& entry : fs::directory_iterator(draft_)) fresh.insert(entry.path().filename().string());
    for (const std::string& name : fresh) {
      if (!error) fs::rename(draft_ / name, out_ / name, error);
    }
    remove_checkpoint(out_, fresh, error);
  }
  if (error) fail(ErrorKind::kBadInput, out_.string(), "cannot be put in place: {}", error.message());
}

}  // namespace puna
