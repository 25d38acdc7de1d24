// SPDX-License-Identifier: Apache-2.0
// One large anonymous mapping, or as large a piece of a device's memory, that hands out aligned pieces and is freed as a whole.
// Untouched pages cost nothing; large arenas ask for huge pages. Throws kNoRoom with the figures when the system refuses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace puna {

// Where an arena's memory comes from, if it is not the system's: a device.
struct MemorySource {
  std::string name;                                  // "the GPU"
  std::function<void*(std::size_t bytes)> allocate;  // zeroed; nullptr where there is no room
  std::function<void(void*)> release;
};

class Arena {
 public:
  static constexpr std::size_t kAlignment = 64;

  Arena() = default;
  // `purpose` stands in the error message: "the KV cache".
  Arena(std::size_t bytes, const std::string& purpose);
  // From another source, which must outlive it; take()'s pieces are not for the host to read.
  Arena(std::size_t bytes, const std::string& purpose, const MemorySource& source);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;

  // The next `bytes`, zeroed, 64-byte aligned. Throws kInternal past the end: plans are exact.
  std::span<std::byte> take(std::size_t bytes);
  template <typename T>
  std::span<T> take(std::size_t count) {
    const std::span<std::byte> piece = take(count * sizeof(T));
    return {reinterpret_cast<T*>(piece.data()), count};
  }
  // What take(bytes) uses up.
  static std::size_t padded(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  std::size_t capacity() const { return capacity_; }
  std::size_t used() const { return used_; }

 private:
  const MemorySource* source_ = nullptr;  // nullptr: the system
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0, used_ = 0;
};

}  // namespace puna
