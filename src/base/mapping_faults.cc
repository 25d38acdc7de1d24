// SPDX-License-Identifier: Apache-2.0
#include "base/mapping_faults.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <string_view>

#include "base/error.h"

namespace puna {
namespace {

// Read by a signal handler, which may take no lock and no memory: `begin` is set last and cleared first.
struct Watched {
  std::atomic<const std::byte*> begin{nullptr};  // nullptr: free
  std::size_t size = 0;
  dev_t device = 0;
  ino_t inode = 0;
  std::filesystem::path path;
};

std::array<Watched, 512> watched_mappings;
std::mutex watching;

// The bytes of the file that was mapped, where it is still the one at its path; -1 where it is not.
std::int64_t bytes_now(const Watched& mapping) {
  struct stat status {};
  if (::stat(mapping.path.c_str(), &status) != 0 || status.st_dev != mapping.device || status.st_ino != mapping.inode) return -1;
  return status.st_size;
}

// A line made without memory of the heap.
class Line {
 public:
  Line& operator<<(std::string_view text) {
    text = text.substr(0, text_.size() - size_);
    size_ = static_cast<std::size_t>(std::copy(text.begin(), text.end(), text_.data() + size_) - text_.data());
    return *this;
  }
  Line& operator<<(std::size_t number) {
    const auto end = std::to_chars(text_.data() + size_, text_.data() + text_.size(), number);
    if (end.ec == std::errc()) size_ = static_cast<std::size_t>(end.ptr - text_.data());
    return *this;
  }
  void write() const { [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text_.data(), size_); }

 private:
  std::array<char, 8192> text_;
  std::size_t size_ = 0;
};

[[noreturn]] void end_of(const Watched& mapping) {
  static std::atomic_flag told;
  while (told.test_and_set()) ::pause();  // another thread tells, and ends all
  Line line;
  line << "puna: [" << mapping.path.c_str() << "] ";
  if (const std::int64_t bytes = bytes_now(mapping); bytes >= 0 && static_cast<std::size_t>(bytes) < mapping.size) {
    line << "the file was cut short while it was in use: it has " << static_cast<std::size_t>(bytes) << " bytes, and had "
         << mapping.size << ": write files beside their final name and rename them\n";
  } else {
    line << "the file could not be read while it was in use: look for errors of its disk in the system's log\n";
  }
  line.write();
  ::_exit(static_cast<int>(ErrorKind::kBadInput));
}

void on_bus_error(int, siginfo_t* info, void*) {
  const auto* const address = static_cast<const std::byte*>(info->si_addr);
  for (const Watched& mapping : watched_mappings) {
    const std::byte* const begin = mapping.begin.load(std::memory_order_acquire);
    if (begin != nullptr && address >= begin && address < begin + mapping.size) end_of(mapping);
  }
  std::signal(SIGBUS, SIG_DFL);  // the same instruction faults again, and ends the program as it would have
}

}  // namespace

void tell_of_mapping_faults() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

void watch_mapping(std::span<const std::byte> mapped, const std::filesystem::path& path) {
  struct stat status {};
  if (mapped.empty() || ::stat(path.c_str(), &status) != 0) return;
  const std::scoped_lock lock(watching);
  const auto free = std::ranges::find_if(watched_mappings, [](const Watched& mapping) { return mapping.begin == nullptr; });
  if (free == watched_mappings.end()) return;
  free->size = mapped.size();
  free->device = status.st_dev;
  free->inode = status.st_ino;
  free->path = path;
  free->begin.store(mapped.data(), std::memory_order_release);
}

void forget_mapping(std::span<const std::byte> mapped) {
  const std::scoped_lock lock(watching);
  const auto found = std::ranges::find_if(watched_mappings, [&](const Watched& one) { return one.begin == mapped.data(); });
  if (found != watched_mappings.end() && !mapped.empty()) found->begin = nullptr;
}

bool was_cut_short(std::span<const std::filesystem::path> paths) {
  const std::scoped_lock lock(watching);
  return std::ranges::any_of(watched_mappings, [&](const Watched& mapping) {
    if (mapping.begin == nullptr || std::ranges::find(paths, mapping.path) == paths.end()) return false;
    const std::int64_t bytes = bytes_now(mapping);
    return bytes >= 0 && static_cast<std::size_t>(bytes) < mapping.size;
  });
}

}  // namespace puna
