// SPDX-License-Identifier: Apache-2.0
// A file that appears under its name only when it is complete: written beside it, synced, renamed. Not committed, it leaves
// nothing, and what had the name before is as it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace puna {

// Whether both are there and are one file or folder, whatever names and links lead to it.
bool is_same_file(const std::filesystem::path& a, const std::filesystem::path& b);
// Throws kUsage where `out` is one of the files that are read: what is read would be lost.
void check_not_read(const std::filesystem::path& out, std::span<const std::filesystem::path> inputs);

class AtomicFile {
 public:
  // Throws kUsage where the name is a folder's or a device's, which a file would replace, kBadInput when the file cannot be
  // created, written or renamed, kNoRoom when the disk is full.
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // Zeros up to the next multiple of `alignment`.
  void pad_to(std::uint64_t alignment);
  std::uint64_t size() const { return size_; }
  void commit();

 private:
  [[noreturn]] void refuse(const char* action) const;

  std::filesystem::path path_, temporary_;
  int file_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace puna
