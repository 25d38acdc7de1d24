// SPDX-License-Identifier: Apache-2.0
#include "tensor/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace puna {

bool is_same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code error;
  return std::filesystem::equivalent(a, b, error) && !error;
}

void check_not_read(const std::filesystem::path& out, std::span<const std::filesystem::path> inputs) {
  for (const std::filesystem::path& input : inputs) {
    if (is_same_file(input, out))
      fail(ErrorKind::kUsage, out.string(), "this file is read: give another name for the one to be written");
  }
}

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(path), temporary_(path) {
  std::error_code ignored;  // of a name that nothing has yet
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    fail(ErrorKind::kUsage, path.string(), "is {}: give the name of the file to write",
         std::filesystem::is_directory(status) ? "a folder" : "no file");
  }
  temporary_ += ".part-" + std::to_string(::getpid());
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file_ < 0) refuse("create");
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::refuse(const char* action) const {
  const int error = errno;
  const ErrorKind kind = error == ENOSPC || error == EDQUOT ? ErrorKind::kNoRoom : ErrorKind::kBadInput;
  fail(kind, path_.string(), "cannot {} the file: {}", action, std::strerror(error));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) refuse("write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    size_ += static_cast<std::uint64_t>(written);
  }
}

void AtomicFile::pad_to(std::uint64_t alignment) {
  const std::uint64_t rest = size_ % alignment;
  if (rest != 0) write(std::string(alignment - rest, '\0'));
}

void AtomicFile::commit() {
  if (::fsync(file_) != 0) refuse("sync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) refuse("rename");
  ::close(std::exchange(file_, -1));
  // The rename itself lasts only once the folder is on the disk; where a file system cannot sync folders, nothing is lost but that.
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
  const int directory = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;
  ::fsync(directory);
  ::close(directory);
}

}  // namespace puna
