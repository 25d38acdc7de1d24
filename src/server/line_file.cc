// SPDX-License-Identifier: Apache-2.0
#include "server/line_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"

namespace puna {
namespace {

struct OpenFile {
  explicit OpenFile(const std::filesystem::path& path)
      : descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {}
  ~OpenFile() {
    if (descriptor >= 0) ::close(descriptor);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int descriptor;
};

// Where the last complete line ends.
off_t end_of_lines(int descriptor, off_t size) {
  std::array<char, 4096> block{};
  for (off_t end = size; end > 0;) {
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(block.size()));
    const ssize_t got = ::pread(descriptor, block.data(), static_cast<std::size_t>(end - begin), begin);
    if (got < end - begin) return size;
    const std::string_view text(block.data(), static_cast<std::size_t>(got));
    if (const std::size_t at = text.rfind('\n'); at != std::string_view::npos) return begin + static_cast<off_t>(at) + 1;
    end = begin;
  }
  return 0;
}

bool write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return ::fsync(descriptor) == 0 || errno == EINVAL;  // EINVAL: what is no file has no disk
}

}  // namespace

std::vector<std::string> complete_lines(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path, std::ios::binary);
  std::string line;
  while (std::getline(file, line) && !file.eof()) lines.push_back(line);
  return lines;
}

void append_line(const std::filesystem::path& path, std::string_view line) {
  const OpenFile file(path);
  if (file.descriptor < 0) fail(ErrorKind::kNoRoom, path.string(), "cannot write here: {}", std::strerror(errno));
  const off_t size = ::lseek(file.descriptor, 0, SEEK_END), end = end_of_lines(file.descriptor, size);
  bool written = end >= size || ::ftruncate(file.descriptor, end) == 0;
  written = written && write_all(file.descriptor, std::string(line) + "\n");
  if (written) return;
  const int code = errno;
  if (end < ::lseek(file.descriptor, 0, SEEK_END) && ::ftruncate(file.descriptor, end) != 0)
    fail(ErrorKind::kNoRoom, path.string(), "cannot write: {}, nor take back what was begun", std::strerror(code));
  fail(ErrorKind::kNoRoom, path.string(), "cannot write: {}", std::strerror(code));
}

}  // namespace puna
