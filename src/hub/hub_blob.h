// SPDX-License-Identifier: Apache-2.0
// blobs/<etag>.incomplete: a file being downloaded, hashed as it grows. What an earlier run left is hashed first and continued.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace puna {

class BlobFile {
 public:
  // etag: 64 hexadecimal digits are a SHA-256 of the bytes, 40 are git's SHA-1 of "blob <size>\0" and the bytes; another etag is
  // checked for size alone. size -1: unknown (then a SHA-1 cannot be checked either).
  BlobFile(const std::filesystem::path& blobs, const std::string& etag, std::int64_t size);
  ~BlobFile();
  BlobFile(const BlobFile&) = delete;
  BlobFile& operator=(const BlobFile&) = delete;

  std::int64_t length() const { return length_; }  // bytes so far
  void append(std::string_view bytes);             // throws kNoRoom when the disk is full
  void restart();                                  // from nothing
  // Checks size and hash, syncs, renames to blobs/<etag>. A wrong hash removes the file and throws kBadInput naming both.
  void finish(const std::string& name);

 private:
  struct Digest;
  void take_in_existing();

  std::filesystem::path final_, path_;
  std::string etag_;
  std::int64_t size_, length_ = 0;
  int descriptor_ = -1;
  std::unique_ptr<Digest> digest_;
};

// An exclusive lock on a file, created with its folders, held until destruction. Waits; says so on standard error when it must.
class FileLock {
 public:
  FileLock(const std::filesystem::path& path, const std::string& what);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace puna
