// SPDX-License-Identifier: Apache-2.0
// Files that fail while they are mapped: another program cuts one short, or its disk breaks, and whoever touches the lost bytes
// gets SIGBUS. Nobody can go on computing without them, so the program ends; but it says of which file, and with the exit code of
// bad input. What surprises: who asks first whether a file was cut short can refuse instead.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace puna {

// From here on SIGBUS within a watched mapping ends the program with a line on standard error and ErrorKind::kBadInput as its exit
// code. SIGBUS elsewhere does what it did.
void tell_of_mapping_faults();

// `mapped` is the file at `path`, whole, as it is now. Until it is forgotten, which comes before it is unmapped. Beyond 512 at
// once, mappings are not watched.
void watch_mapping(std::span<const std::byte> mapped, const std::filesystem::path& path);
void forget_mapping(std::span<const std::byte> mapped);

// Whether a watched file at one of these paths has fewer bytes than when it was mapped. One that was replaced by a rename has not:
// its mapping is of the file that was there before.
bool was_cut_short(std::span<const std::filesystem::path> paths);

}  // namespace puna
