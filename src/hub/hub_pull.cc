// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_pull.h"

#include <unistd.h>
#include <algorithm>
#include <fstream>
#include <system_error>

#include "base/error.h"
#include "base/progress.h"
#include "hub/hub_blob.h"
#include "hub/hub_cache.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

struct Wanted {
  std::string path;
  HubFile file;
};

std::int64_t size_of(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? 0 : static_cast<std::int64_t>(size);
}

bool is_complete(const fs::path& blobs, const HubFile& file) {
  std::error_code error;
  return fs::is_regular_file(blobs / file.etag, error) && (file.size < 0 || size_of(blobs / file.etag) == file.size);
}

void check_room(const fs::path& blobs, const std::vector<Wanted>& wanted) {
  std::int64_t needed = 0;
  for (const Wanted& item : wanted) {
    if (is_complete(blobs, item.file)) continue;
    needed += std::max<std::int64_t>(0, item.file.size - size_of(blobs / (item.file.etag + ".incomplete")));
  }
  std::error_code error;
  const fs::space_info space = fs::space(blobs, error);
  if (!error && static_cast<std::uint64_t>(needed) > space.available) {
    fail(ErrorKind::kNoRoom, blobs.string(),
         "{} are still to come and {} are free on this disk: make room, or set HF_HOME to another disk",
         human_bytes(static_cast<std::uint64_t>(needed)), human_bytes(space.available));
  }
}

// Where a reply's bytes begin; throws away what is there when the server starts from nothing.
class Continuation {
 public:
  Continuation(BlobFile& blob, const std::function<void()>& tell) : blob_(blob), tell_(tell) {}
  void operator()(const HubReply& reply, std::string_view bytes) {
    if (!begun_) begin(reply);
    blob_.append(bytes);
    tell_();
  }

 private:
  void begin(const HubReply& reply) {
    begun_ = true;
    const std::string expected = fmt::format("bytes {}-", blob_.length());
    const bool continues = reply.status == 206 && reply.header("content-range").starts_with(expected);
    if (continues || blob_.length() == 0) return;
    blob_.restart();
    if (reply.status == 206) fail(ErrorKind::kNetwork, "hub", "sent another range than {}: run puna pull again", expected);
  }

  BlobFile& blob_;
  const std::function<void()>& tell_;
  bool begun_ = false;
};

// Returns the bytes that came in this run.
std::int64_t download(HubClient& client, const std::string& repository, const std::string& commit, const Wanted& item,
                      const fs::path& blobs, const PullListener& listener) {
  BlobFile blob(blobs, item.file.etag, item.file.size);
  const std::int64_t before = blob.length();
  const std::function<void()> tell = [&] {
    listener({item.path, item.file.etag, blob.length(), std::max<std::int64_t>(item.file.size, 0)});
  };
  for (int failures = 0; item.file.size != blob.length() || item.file.size < 0;) {
    const std::int64_t from = blob.length();
    Continuation sink(blob, tell);
    const auto problem = client.download(repository, commit, item.path, from, std::ref(sink));
    if (!problem && (item.file.size < 0 || blob.length() == item.file.size)) break;
    failures = blob.length() > from ? 1 : failures + 1;
    if (failures == kHubTries) {
      fail(ErrorKind::kNetwork, item.path, "{} after {} bytes: run puna pull again, it goes on from there",
           problem.value_or("the connection ended"), blob.length());
    }
    wait_before_retry(failures, client.options().interrupted);
  }
  blob.finish(item.path);
  return blob.length() - std::min(before, blob.length());
}

// snapshots/<commit>/<path> -> ../../blobs/<etag>, one more ".." for each folder in path.
void link_file(const fs::path& snapshot, const Wanted& item) {
  const fs::path link = snapshot / item.path;
  fs::path target = fs::path("..") / "..";
  for (std::ptrdiff_t depth = std::count(item.path.begin(), item.path.end(), '/'); depth > 0; --depth) target /= "..";
  target /= fs::path("blobs") / item.file.etag;
  std::error_code error;
  fs::create_directories(link.parent_path(), error);
  if (fs::is_symlink(link, error) && fs::read_symlink(link, error) == target) return;
  const fs::path temporary = link.string() + fmt::format(".{}.part", ::getpid());
  fs::remove(temporary, error);
  fs::create_symlink(target, temporary, error);
  if (!error) fs::rename(temporary, link, error);
  if (error) fail(ErrorKind::kBadInput, link.string(), "cannot be linked: {}", error.message());
}

void write_reference(const fs::path& path, const std::string& commit) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  const fs::path temporary = path.string() + fmt::format(".{}.part", ::getpid());
  {
    std::ofstream file(temporary, std::ios::binary);
    file << commit;
    if (!file.flush()) fail(ErrorKind::kNoRoom, temporary.string(), "cannot be written");
  }
  fs::rename(temporary, path, error);
  if (error) fail(ErrorKind::kBadInput, path.string(), "cannot be written: {}", error.message());
}

fs::path model_path(const fs::path& snapshot, const std::vector<std::string>& files) {
  const auto models = gguf_models(files);
  const bool only_gguf = models.size() == 1 && models.front().size() == files.size();
  return only_gguf ? snapshot / models.front().front() : snapshot;
}

}  // namespace

PullReport pull_model(HubClient& client, const fs::path& root, const HubName& name, const std::vector<std::string>& include,
                      const PullListener& listener) {
  const HubRepository repository = client.repository(name);
  PullReport report;
  report.commit = repository.commit;
  report.files = choose_files(repository.files, {include, name.quantization}, name.repository);
  const fs::path model = root / cache_folder_name(name.repository);
  const fs::path blobs = model / "blobs", snapshot = model / "snapshots" / repository.commit;
  std::error_code error;
  fs::create_directories(blobs, error);
  if (error) fail(ErrorKind::kBadInput, blobs.string(), "cannot be made: {}", error.message());
  std::vector<Wanted> wanted;
  for (const std::string& path : report.files) wanted.push_back({path, client.file(name.repository, repository.commit, path)});
  check_room(blobs, wanted);
  for (const Wanted& item : wanted) {
    const FileLock lock(root / ".locks" / cache_folder_name(name.repository) / (item.file.etag + ".lock"), item.path);
    if (!is_complete(blobs, item.file))
      report.downloaded += download(client, name.repository, repository.commit, item, blobs, listener);
    link_file(snapshot, item);
    const std::int64_t bytes = size_of(blobs / item.file.etag);
    listener({item.path, item.file.etag, bytes, bytes});
    report.bytes += bytes;
  }
  if (name.revision != repository.commit) write_reference(model / "refs" / name.revision, repository.commit);
  report.path = model_path(snapshot, report.files);
  return report;
}

}  // namespace puna
