// SPDX-License-Identifier: Apache-2.0
// What every tensor file must satisfy, whatever its container: printable names, shapes whose product fits, tensors inside the file,
// each name once. Sizes come from outside, so all arithmetic is checked. The messages name the file and the tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace puna {

// Names reach terminals and logs: refuses empty ones and control characters. `what` is "tensor name" or "key".
void check_name(std::string_view name, const char* what, const std::string& where);

// dims, slowest first -> Shape. Throws kUnsupported above rank 4, kBadInput where the product does not fit in 63 bits.
Shape checked_shape(std::span<const std::uint64_t> dims, std::string_view name, const std::string& where);

// Bytes of a tensor; throws kBadInput when a row is not a whole number of blocks or the bytes overflow.
std::uint64_t checked_bytes(Format format, const Shape& shape, std::string_view name, const std::string& where);

// bytes[offset, offset + size) of a file; `tensor NAME ends at byte N, past the end of the file (M)` when it does not fit.
std::span<const std::byte> checked_range(std::span<const std::byte> file, std::uint64_t offset, std::uint64_t size,
                                         std::string_view name, const std::string& where);

// Throws kBadInput naming a tensor that is there twice.
void check_unique_names(const std::vector<Tensor>& tensors, const std::string& where);

}  // namespace puna
