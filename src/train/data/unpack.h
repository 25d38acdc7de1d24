// SPDX-License-Identifier: Apache-2.0
// Compressed files, unpacked once into a file without a name: rows are then found by offset as in any other file, memory stays
// that of two buffers, and the disk's space comes back when the file is closed, however the program ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/mapped_file.h"

namespace puna {

// By the first bytes: gzip or Zstandard.
bool is_compressed(std::span<const std::byte> bytes);

// Several members or frames behind each other are one text, as `cat` makes them. Throws kBadInput for damaged or incomplete
// bytes, kNoRoom for more than `most_bytes` or a full disk. `scratch` empty: the system's folder for temporary files.
MappedFile unpack(const MappedFile& packed, const std::filesystem::path& scratch, std::int64_t most_bytes);

}  // namespace puna
