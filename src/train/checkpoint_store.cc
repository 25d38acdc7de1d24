// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "tensor/atomic_file.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-", kUnfinished = ".unfinished-", kDamaged = "damaged-";
constexpr const char* kManifest = "manifest.json";

std::string name_of_step(std::int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

std::optional<std::int64_t> step_of(const std::string& name) {
  std::int64_t step = 0;
  const char* const end = name.data() + name.size();
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const auto [last, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  return error == std::errc() && last == end ? std::optional(step) : std::nullopt;
}

// Read piece by piece: a mapping would count a checkpoint's size as memory of the run.
std::string sha256_of(const fs::path& path) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  std::ifstream file(path, std::ios::binary);
  std::vector<char> piece(kPiece);
  Sha256 sum;
  while (file.read(piece.data(), kPiece) || file.gcount() > 0)
    sum.update(std::as_bytes(std::span(piece)).first(static_cast<std::size_t>(file.gcount())));
  if (!file.eof()) fail(ErrorKind::kBadInput, path.string(), "cannot be read");
  return sum.finish();
}

Json read_json_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  if (!file) fail(ErrorKind::kNotFound, path.string(), "cannot be read");
  return parse_json(text, path.string());
}

// What the folder holds, but for the manifest itself.
std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename() != kManifest) files.push_back(fs::relative(entry.path(), folder));
  }
  std::ranges::sort(files);
  return files;
}

void write_manifest(const fs::path& folder, std::int64_t step, std::optional<double> held_out_loss) {
  Json manifest = {
      {"step", step}, {"held_out_loss", held_out_loss ? Json(*held_out_loss) : Json(nullptr)}, {"files", Json::object()}};
  for (const fs::path& file : files_below(folder))
    manifest["files"][file.string()] = {{"bytes", fs::file_size(folder / file)}, {"sha256", sha256_of(folder / file)}};
  AtomicFile out(folder / kManifest);
  out.write(dump_json(manifest) + "\n");
  out.commit();
}

// What lies at `to` already is at `from` afterwards, and at no moment is neither there; where a file system cannot exchange the
// two, it is removed first.
void put_in_place(const fs::path& from, const fs::path& to) {
  const auto moved = [&](unsigned how) { return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), how) == 0; };
  const bool exists = fs::exists(to), exchanged = exists && moved(RENAME_EXCHANGE);
  if (exists && !exchanged) fs::remove_all(to);
  if (!exchanged && !moved(0)) fail(ErrorKind::kBadInput, to.string(), "cannot be put in place: {}", std::strerror(errno));
  // The rename lasts only once the folder above is on the disk.
  const int parent = ::open(to.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) return;
  ::fsync(parent);
  ::close(parent);
}

// Takes the checkpoint away under the name of an unfinished one first, so that a kill leaves no half of it under its own.
void discard(const fs::path& folder) {
  std::error_code ignored;  // an old folder that cannot be removed costs disk, no more
  const fs::path unfinished = folder.parent_path() / fmt::format("{}{}", kUnfinished, folder.filename().string());
  fs::remove_all(unfinished, ignored);
  if (::rename(folder.c_str(), unfinished.c_str()) == 0) fs::remove_all(unfinished, ignored);
}

}  // namespace

void verify_checkpoint(const fs::path& folder) {
  const Json manifest = read_json_of(folder / kManifest);
  const std::string where = (folder / kManifest).string();
  if (!manifest.contains("files") || !manifest["files"].is_object()) fail(ErrorKind::kBadInput, where, "names no files");
  for (const auto& [name, expected] : manifest["files"].items()) {
    const fs::path path = folder / name;
    if (!fs::is_regular_file(path)) fail(ErrorKind::kBadInput, path.string(), "is missing, but stands in the manifest");
    const auto bytes = static_cast<std::uint64_t>(json_at<std::int64_t>(expected, "bytes", where));
    if (fs::file_size(path) != bytes)
      fail(ErrorKind::kBadInput, path.string(), "has {} bytes, the manifest says {}", fs::file_size(path), bytes);
    if (sha256_of(path) != json_at<std::string>(expected, "sha256", where))
      fail(ErrorKind::kBadInput, path.string(), "is not what was written: its SHA-256 differs from the manifest's");
  }
}

CheckpointStore::CheckpointStore(fs::path folder, std::int64_t keep, bool keep_best)
    : folder_(std::move(folder)), keep_(keep), keep_best_(keep_best) {
  PUNA_CHECK(keep >= 1, "checkpoints", "{} are to be kept, expected 1 or more", keep);
}

StoredCheckpoint CheckpointStore::write(std::int64_t step, std::optional<double> held_out_loss,
                                        const std::function<void(const fs::path&)>& fill) {
  const fs::path done = folder_ / name_of_step(step), unfinished = folder_ / fmt::format("{}{}", kUnfinished, name_of_step(step));
  std::error_code ignored;
  try {
    fs::remove_all(unfinished);
    fs::create_directories(unfinished);
    fill(unfinished);
    write_manifest(unfinished, step, held_out_loss);
    put_in_place(unfinished, done);
    fs::remove_all(unfinished, ignored);  // the one of this step that was there: rolled back since, or not averaged yet
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(unfinished, ignored);
    fail(error.code() == std::errc::no_space_on_device ? ErrorKind::kNoRoom : ErrorKind::kBadInput, done.string(),
         "the checkpoint cannot be written: {}", error.code().message());
  } catch (...) {
    fs::remove_all(unfinished, ignored);
    throw;
  }
  forget_old();
  return {done, step, held_out_loss};
}

std::vector<StoredCheckpoint> CheckpointStore::list() const {
  std::vector<StoredCheckpoint> found;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, ignored)) {
    const std::optional<std::int64_t> step = step_of(entry.path().filename().string());
    if (!step || !fs::is_regular_file(entry.path() / kManifest)) continue;
    StoredCheckpoint checkpoint{entry.path(), *step, std::nullopt};
    try {
      const Json manifest = read_json_of(entry.path() / kManifest);
      if (manifest.contains("held_out_loss") && manifest["held_out_loss"].is_number())
        checkpoint.held_out_loss = manifest["held_out_loss"].get<double>();
    } catch (const Error&) {
      continue;
    }
    found.push_back(std::move(checkpoint));
  }
  std::ranges::sort(found, {}, &StoredCheckpoint::step);
  return found;
}

std::optional<StoredCheckpoint> CheckpointStore::newest(std::vector<fs::path>* damaged) const {
  std::vector<StoredCheckpoint> all = list();
  for (; !all.empty(); all.pop_back()) {
    try {
      verify_checkpoint(all.back().folder);
      return all.back();
    } catch (const Error&) {
      if (damaged) damaged->push_back(all.back().folder);
    }
  }
  return std::nullopt;
}

void CheckpointStore::remove_unfinished() const {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, ignored)) {
    if (entry.path().filename().string().starts_with(kUnfinished)) fs::remove_all(entry.path(), ignored);
  }
}

void CheckpointStore::set_aside(const fs::path& folder) const {
  std::error_code ignored;  // where it cannot be moved it is passed over again
  const fs::path aside = folder_ / fmt::format("{}{}", kDamaged, folder.filename().string());
  fs::remove_all(aside, ignored);
  fs::rename(folder, aside, ignored);
}

void CheckpointStore::forget_old() const {
  std::vector<StoredCheckpoint> all = list();
  const auto loss = [](const StoredCheckpoint& each) {
    return each.held_out_loss.value_or(std::numeric_limits<double>::infinity());
  };
  const auto best = std::ranges::min_element(all, {}, loss);
  const fs::path best_folder = keep_best_ && best != all.end() && best->held_out_loss ? best->folder : fs::path();
  for (std::int64_t i = 0; i + keep_ < static_cast<std::int64_t>(all.size()); ++i) {
    if (all[static_cast<std::size_t>(i)].folder != best_folder) discard(all[static_cast<std::size_t>(i)].folder);
  }
}

}  // namespace puna
