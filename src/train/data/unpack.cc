// SPDX-License-Identifier: Apache-2.0
#include "train/data/unpack.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"

namespace puna {
namespace {

constexpr std::size_t kUnpackBuffer = std::size_t{1} << 18;

bool begins_with(std::span<const std::byte> bytes, std::initializer_list<unsigned> magic) {
  return bytes.size() >= magic.size() &&
         std::equal(magic.begin(), magic.end(), bytes.begin(), [](unsigned m, std::byte b) { return std::byte(m) == b; });
}

bool is_gzip(std::span<const std::byte> bytes) { return begins_with(bytes, {0x1F, 0x8B}); }
bool is_zstd(std::span<const std::byte> bytes) { return begins_with(bytes, {0x28, 0xB5, 0x2F, 0xFD}); }

// A file that loses its name when it is mapped, or when this is destroyed.
class ScratchFile {
 public:
  ScratchFile(const std::filesystem::path& folder, std::string source, std::int64_t most_bytes)
      : source_(std::move(source)), room_(most_bytes), most_bytes_(most_bytes) {
    const auto place = folder.empty() ? std::filesystem::temp_directory_path() : folder;
    path_ = (place / "puna-unpacked-XXXXXX").string();
    file_ = ::mkstemp(path_.data());
    if (file_ < 0)
      fail(ErrorKind::kNoRoom, place.string(), "cannot make a file to unpack {} into: {}", source_, std::strerror(errno));
  }
  ~ScratchFile() {
    ::close(file_);
    ::unlink(path_.c_str());
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  void write(const std::byte* bytes, std::size_t size) {
    room_ -= static_cast<std::int64_t>(size);
    if (room_ < 0) {
      fail(ErrorKind::kNoRoom, source_, "unpacked it is larger than {}: split it, or allow more",
           human_bytes(static_cast<std::uint64_t>(most_bytes_)));
    }
    while (size > 0) {
      const ssize_t written = ::write(file_, bytes, size);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail(ErrorKind::kNoRoom, path_, "cannot unpack {} to here: {}", source_, std::strerror(errno));
      bytes += written;
      size -= static_cast<std::size_t>(written);
    }
  }

  MappedFile map() const { return MappedFile(path_); }

 private:
  std::string source_, path_;
  int file_ = -1;
  std::int64_t room_, most_bytes_;
};

[[noreturn]] void fail_incomplete(const std::string& name) {
  fail(ErrorKind::kBadInput, name, "ends in the middle of its compressed data: the file is incomplete, fetch it again");
}

void unpack_gzip(std::span<const std::byte> packed, const std::string& name, ScratchFile& out) {
  z_stream stream{};
  if (::inflateInit2(&stream, 15 + 16) != Z_OK) fail(ErrorKind::kNoRoom, name, "zlib cannot start");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, ::inflateEnd);
  std::vector<std::byte> buffer(kUnpackBuffer);
  int result = Z_OK;
  while (!packed.empty()) {
    const std::size_t chunk = std::min(packed.size(), std::size_t{1} << 30);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
    stream.avail_in = static_cast<uInt>(chunk);
    do {
      stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
      stream.avail_out = static_cast<uInt>(kUnpackBuffer);
      result = ::inflate(&stream, Z_NO_FLUSH);
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        fail(ErrorKind::kBadInput, name, "damaged gzip data: {}", stream.msg == nullptr ? "unknown" : stream.msg);
      }
      out.write(buffer.data(), kUnpackBuffer - stream.avail_out);
    } while (result != Z_STREAM_END && (stream.avail_in > 0 || stream.avail_out == 0) && result != Z_BUF_ERROR);
    packed = packed.subspan(chunk - stream.avail_in);
    if (result != Z_STREAM_END || packed.empty()) continue;
    if (!is_gzip(packed)) fail(ErrorKind::kBadInput, name, "{} bytes that are not gzip follow the compressed data", packed.size());
    ::inflateReset(&stream);
  }
  if (result != Z_STREAM_END) fail_incomplete(name);
}

void unpack_zstd(std::span<const std::byte> packed, const std::string& name, ScratchFile& out) {
  const std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream(::ZSTD_createDStream(), ::ZSTD_freeDStream);
  if (stream == nullptr) fail(ErrorKind::kNoRoom, name, "Zstandard cannot start");
  std::vector<std::byte> buffer(kUnpackBuffer);
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  std::size_t open = 1;  // 0 between frames
  bool full = false;     // there may be more to come without further input
  while (in.pos < in.size || full) {
    ZSTD_outBuffer piece{buffer.data(), buffer.size(), 0};
    open = ::ZSTD_decompressStream(stream.get(), &piece, &in);
    if (::ZSTD_isError(open) != 0) fail(ErrorKind::kBadInput, name, "damaged Zstandard data: {}", ::ZSTD_getErrorName(open));
    out.write(buffer.data(), piece.pos);
    full = piece.pos == piece.size && open != 0;
  }
  if (open != 0) fail_incomplete(name);
}

}  // namespace

bool is_compressed(std::span<const std::byte> bytes) { return is_gzip(bytes) || is_zstd(bytes); }

MappedFile unpack(const MappedFile& packed, const std::filesystem::path& scratch, std::int64_t most_bytes) {
  const std::string name = packed.path().string();
  ScratchFile out(scratch, name, most_bytes);
  if (is_gzip(packed.bytes())) {
    unpack_gzip(packed.bytes(), name, out);
  } else {
    unpack_zstd(packed.bytes(), name, out);
  }
  return out.map();
}

}  // namespace puna
