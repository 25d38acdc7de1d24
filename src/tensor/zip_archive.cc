// SPDX-License-Identifier: Apache-2.0
#include "tensor/zip_archive.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "base/checked_math.h"
#include "base/error.h"
#include "tensor/crc32.h"
#include "tensor/file_checks.h"

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in the file");

namespace puna {
namespace {

// Signatures and fixed sizes of the records (APPNOTE 4.3).
constexpr std::uint32_t kLocalMark = 0x04034b50, kCentralMark = 0x02014b50, kEndMark = 0x06054b50;
constexpr std::uint32_t kEnd64Mark = 0x06064b50, kLocator64Mark = 0x07064b50;
constexpr std::uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr std::uint64_t kMostComment = 65535;
constexpr std::uint32_t kIn64 = 0xffffffff;  // a 32-bit field whose value is in the zip64 extra field
constexpr std::uint16_t kZip64Field = 1, kPaddingField = 0x4246;

template <typename T>
T number_at(std::span<const std::byte> bytes, std::uint64_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// `size` bytes at `offset`, which a record of the archive claims to be there.
std::span<const std::byte> piece(std::span<const std::byte> bytes, std::uint64_t offset, std::uint64_t size, const char* what,
                                 const std::string& where) {
  if (!range_fits(offset, size, bytes.size())) {
    fail(ErrorKind::kBadInput, where,
         "{} of {} bytes at byte {} is outside the file ({}): the file is incomplete; download it again", what, size, offset,
         bytes.size());
  }
  return bytes.subspan(offset, size);
}

struct Directory {
  std::uint64_t offset, size, count;
};

std::uint64_t find_end_record(std::span<const std::byte> bytes, const std::string& where) {
  if (bytes.size() >= kEndBytes) {
    const std::uint64_t last = bytes.size() - kEndBytes;
    const std::uint64_t first = last - std::min(last, kMostComment);
    for (std::uint64_t at = last + 1; at-- > first;) {
      if (number_at<std::uint32_t>(bytes, at) == kEndMark) return at;
    }
  }
  fail(ErrorKind::kBadInput, where, "the zip archive has no end record: the file is incomplete; download it again");
}

Directory find_directory(std::span<const std::byte> bytes, const std::string& where) {
  const std::uint64_t end = find_end_record(bytes, where);
  const auto record = bytes.subspan(end, kEndBytes);
  const Directory small{number_at<std::uint32_t>(record, 16), number_at<std::uint32_t>(record, 12),
                        number_at<std::uint16_t>(record, 10)};
  if (end < kLocator64Bytes || number_at<std::uint32_t>(bytes, end - kLocator64Bytes) != kLocator64Mark) return small;
  const auto at = number_at<std::uint64_t>(bytes, end - kLocator64Bytes + 8);
  const auto record64 = piece(bytes, at, kEnd64Bytes, "the zip64 end record", where);
  if (number_at<std::uint32_t>(record64, 0) != kEnd64Mark)
    fail(ErrorKind::kBadInput, where, "the zip64 end record is not where it should be");
  return {number_at<std::uint64_t>(record64, 48), number_at<std::uint64_t>(record64, 40), number_at<std::uint64_t>(record64, 32)};
}

// Takes the next 64-bit value of the zip64 extra field for a 32-bit field that says so.
class Zip64Extra {
 public:
  Zip64Extra(std::span<const std::byte> extra, std::string_view name, const std::string& where) : name_(name), where_(where) {
    while (extra.size() >= 4) {
      const auto id = number_at<std::uint16_t>(extra, 0);
      const std::size_t size = std::min<std::size_t>(number_at<std::uint16_t>(extra, 2), extra.size() - 4);
      if (id == kZip64Field) values_ = extra.subspan(4, size);
      extra = extra.subspan(4 + size);
    }
  }
  std::uint64_t widen(std::uint32_t value) {
    if (value != kIn64) return value;
    if (values_.size() < 8) fail(ErrorKind::kBadInput, where_, "member {} lacks its zip64 sizes: the file is damaged", name_);
    const auto wide = number_at<std::uint64_t>(values_, 0);
    values_ = values_.subspan(8);
    return wide;
  }

 private:
  std::span<const std::byte> values_;
  std::string_view name_;
  const std::string& where_;
};

// Where the data of a member begin: behind its local header, whose name and extra field have lengths of their own.
std::span<const std::byte> member_bytes(std::span<const std::byte> bytes, std::uint64_t offset, std::uint64_t size,
                                        const std::string& where) {
  const auto local = piece(bytes, offset, kLocalBytes, "a member's header", where);
  if (number_at<std::uint32_t>(local, 0) != kLocalMark)
    fail(ErrorKind::kBadInput, where, "no member begins at byte {}: the file is damaged", offset);
  const std::uint64_t names = std::uint64_t{number_at<std::uint16_t>(local, 26)} + number_at<std::uint16_t>(local, 28);
  return piece(bytes, offset + kLocalBytes + names, size, "a member", where);
}

}  // namespace

std::map<std::string, std::span<const std::byte>, std::less<>> read_zip(std::span<const std::byte> bytes,
                                                                        const std::string& where) {
  const Directory directory = find_directory(bytes, where);
  auto records = piece(bytes, directory.offset, directory.size, "the zip directory", where);
  std::map<std::string, std::span<const std::byte>, std::less<>> members;
  for (std::uint64_t i = 0; i < directory.count; ++i) {
    const auto record = piece(records, 0, kCentralBytes, "a directory entry", where);
    if (number_at<std::uint32_t>(record, 0) != kCentralMark) fail(ErrorKind::kBadInput, where, "directory entry {} is damaged", i);
    const std::uint64_t name_size = number_at<std::uint16_t>(record, 28), extra_size = number_at<std::uint16_t>(record, 30);
    const std::uint64_t comment_size = number_at<std::uint16_t>(record, 32);
    const auto text = piece(records, kCentralBytes, name_size + extra_size + comment_size, "a directory entry", where);
    const std::string name(reinterpret_cast<const char*>(text.data()), name_size);
    check_name(name, "member name", where);
    if (number_at<std::uint16_t>(record, 8) & 1) fail(ErrorKind::kUnsupported, where, "member {} is encrypted", name);
    if (const auto method = number_at<std::uint16_t>(record, 10); method != 0) {
      fail(ErrorKind::kUnsupported, where, "member {} is compressed (method {}): save the file again with torch.save", name,
           method);
    }
    Zip64Extra extra(text.subspan(name_size, extra_size), name, where);
    const std::uint64_t size = extra.widen(number_at<std::uint32_t>(record, 24));
    const std::uint64_t stored_size = extra.widen(number_at<std::uint32_t>(record, 20));
    if (size != stored_size)
      fail(ErrorKind::kBadInput, where, "member {} is stored, but its two sizes differ ({}, {})", name, size, stored_size);
    const std::uint64_t offset = extra.widen(number_at<std::uint32_t>(record, 42));
    if (!members.emplace(name, member_bytes(bytes, offset, size, where)).second) {
      fail(ErrorKind::kBadInput, where, "member {} is there twice: the file is damaged", name);
    }
    records = records.subspan(kCentralBytes + text.size());
  }
  return members;
}

namespace {

// Little-endian record under construction.
class Record {
 public:
  Record& u16(std::uint64_t value) { return put(value, 2); }
  Record& u32(std::uint64_t value) { return put(value, 4); }
  Record& u64(std::uint64_t value) { return put(value, 8); }
  Record& text(std::string_view value) { return bytes_ += value, *this; }
  Record& zeros(std::size_t count) { return bytes_.append(count, '\0'), *this; }
  const std::string& bytes() const { return bytes_; }

 private:
  Record& put(std::uint64_t value, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i));
    return *this;
  }
  std::string bytes_;
};

constexpr std::uint64_t kDataAlignment = 64;
constexpr std::uint16_t kVersion64 = 45;             // of the format: zip64
constexpr std::uint64_t kEarliestDate = 1 << 5 | 1;  // 1 January 1980: the bytes depend on the tensors alone

// version, flags, method, time, date, checksum, both sizes (in the zip64 field)
void put_description(Record& record, std::uint32_t checksum) {
  record.u16(kVersion64).u16(0).u16(0).u16(0).u16(kEarliestDate).u32(checksum).u32(kIn64).u32(kIn64);
}

}  // namespace

void ZipWriter::add(const std::string& name, std::span<const std::byte> bytes) {
  const Member member{name, bytes.size(), file_.size(), crc32(bytes)};
  const std::uint64_t unpadded = member.offset + kLocalBytes + name.size() + 4 + 16 + 4;  // with both extra fields' heads
  const std::uint64_t padding = (kDataAlignment - unpadded % kDataAlignment) % kDataAlignment;
  Record local;
  local.u32(kLocalMark);
  put_description(local, member.checksum);
  local.u16(name.size()).u16(4 + 16 + 4 + padding).text(name);
  local.u16(kZip64Field).u16(16).u64(member.size).u64(member.size);
  local.u16(kPaddingField).u16(padding).zeros(padding);
  file_.write(local.bytes());
  file_.write(bytes);
  members_.push_back(member);
}

void ZipWriter::finish() {
  const std::uint64_t start = file_.size();
  for (const Member& member : members_) {
    Record central;
    central.u32(kCentralMark).u16(kVersion64);
    put_description(central, member.checksum);
    central.u16(member.name.size()).u16(4 + 24).u16(0).u16(0).u16(0).u32(0).u32(kIn64).text(member.name);
    central.u16(kZip64Field).u16(24).u64(member.size).u64(member.size).u64(member.offset);
    file_.write(central.bytes());
  }
  const std::uint64_t end = file_.size(), count = members_.size();
  Record tail;
  tail.u32(kEnd64Mark).u64(kEnd64Bytes - 12).u16(kVersion64).u16(kVersion64).u32(0).u32(0);
  tail.u64(count).u64(count).u64(end - start).u64(start);
  tail.u32(kLocator64Mark).u32(0).u64(end).u32(1);
  tail.u32(kEndMark).u16(0).u16(0).u16(0xffff).u16(0xffff).u32(kIn64).u32(kIn64).u16(0);
  file_.write(tail.bytes());
}

}  // namespace puna
