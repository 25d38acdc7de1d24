// SPDX-License-Identifier: Apache-2.0
#include "tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/progress.h"

namespace puna {
namespace {

constexpr std::size_t kHugePagesFrom = std::size_t{4} << 20;  // below, a 2 MiB page would mostly be waste

}  // namespace

Arena::Arena(std::size_t bytes, const std::string& purpose) : capacity_(bytes) {
  if (bytes == 0) return;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    fail(ErrorKind::kNoRoom, "memory", "{} needs {} ({} bytes), which the system refuses ({}): free memory or ask for less",
         purpose, human_bytes(bytes), bytes, std::strerror(errno));
  }
  if (bytes >= kHugePagesFrom) ::madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: without huge pages it is only slower
  data_ = static_cast<std::byte*>(memory);
}

Arena::Arena(std::size_t bytes, const std::string& purpose, const MemorySource& source) : source_(&source), capacity_(bytes) {
  if (bytes == 0) return;
  data_ = static_cast<std::byte*>(source.allocate(bytes));
  if (data_ == nullptr) {
    fail(ErrorKind::kNoRoom, "memory", "{} needs {} ({} bytes), which {} has not: ask for less", purpose, human_bytes(bytes), bytes,
         source.name);
  }
}

Arena::~Arena() {
  if (data_ == nullptr) return;
  if (source_ != nullptr) {
    source_->release(data_);
  } else {
    ::munmap(data_, capacity_);
  }
}

Arena::Arena(Arena&& other) noexcept
    : source_(std::exchange(other.source_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      used_(std::exchange(other.used_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(source_, other.source_);
  std::swap(data_, other.data_);
  std::swap(capacity_, other.capacity_);
  std::swap(used_, other.used_);
  return *this;
}

std::span<std::byte> Arena::take(std::size_t bytes) {
  PUNA_CHECK(bytes <= capacity_ - used_, "arena", "{} bytes asked for, {} of {} are left", bytes, capacity_ - used_, capacity_);
  const std::span<std::byte> piece{data_ + used_, bytes};
  used_ += std::min(padded(bytes), capacity_ - used_);  // the last piece may end without padding
  return piece;
}

}  // namespace puna
