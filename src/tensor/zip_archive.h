// SPDX-License-Identifier: Apache-2.0
// Zip archives of stored (uncompressed) members, zip64 included: what torch.save writes. Members are read in place.
// Format: PKWARE APPNOTE.TXT 6.3. Checksums are not verified on reading, for that would touch every byte of a mapped file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/atomic_file.h"

namespace puna {

// Name -> bytes of every member. Throws kBadInput for a damaged archive, kUnsupported for compressed or encrypted members.
std::map<std::string, std::span<const std::byte>, std::less<>> read_zip(std::span<const std::byte> bytes, const std::string& where);

// Writes stored members, their data at multiples of 64 so that they can be mapped, always with zip64 fields.
class ZipWriter {
 public:
  explicit ZipWriter(AtomicFile& file) : file_(file) {}
  void add(const std::string& name, std::span<const std::byte> bytes);
  void finish();

 private:
  struct Member {
    std::string name;
    std::uint64_t size, offset;
    std::uint32_t checksum;
  };
  AtomicFile& file_;
  std::vector<Member> members_;
};

}  // namespace puna
