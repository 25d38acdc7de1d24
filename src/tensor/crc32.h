// SPDX-License-Identifier: Apache-2.0
// The checksum of zip members (ISO 3309, reflected polynomial 0xedb88320), eight bytes at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace puna {

std::uint32_t crc32(std::span<const std::byte> bytes);

}  // namespace puna
