// SPDX-License-Identifier: Apache-2.0
// One large anonymous mapping that hands out aligned pieces and is freed as a whole. Untouched pages cost nothing;
// large arenas ask for huge pages. Throws kNoRoom with the figures when the system refuses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace puna {

class Arena {
 public:
  static constexpr std::size_t kAlignment = 64;

  Arena() = default;
  // `purpose` stands in the error message: "the KV cache".
  Arena(std::size_t bytes, const std::string& purpose);
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
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0, used_ = 0;
};

}  // namespace puna
