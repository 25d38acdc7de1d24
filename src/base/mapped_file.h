// SPDX-License-Identifier: Apache-2.0
// A whole file as read-only memory. Pages arrive when they are touched; nothing is copied. A file that another program cuts short
// while it is mapped ends this one (mapping_faults.h): write model files beside their final name and rename them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace puna {

class MappedFile {
 public:
  // Throws kNotFound when it is absent or unreadable, kBadInput when it is not a regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Tells the kernel that [offset, offset + size) is not needed soon: its whole pages leave resident memory, and are read again
  // if they are touched.
  void release(std::size_t offset, std::size_t size) const;
  // Asks the kernel to read the whole file ahead.
  void prefetch() const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace puna
