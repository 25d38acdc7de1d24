// SPDX-License-Identifier: Apache-2.0
// Reads the header of a GGUF file. A count is believed only after the bytes that so many items need at the least are seen to be
// there.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "tensor/file_checks.h"
#include "tensor/gguf.h"
#include "tensor/gguf_types.h"

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in the file");

namespace puna {
namespace {

using Type = GgufScalar::Type;

constexpr std::uint64_t kSmallestPair = 8 + 1 + 4 + 1;     // key length, key, type, value
constexpr std::uint64_t kSmallestTensor = 8 + 1 + 4 + 12;  // name length, name, rank, type, offset

// Walks over the header; every step is checked against what is left.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return bytes_.size() - position_; }

  template <typename T>
  T number(const char* what) {
    need(sizeof(T), what);
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string_view string(const char* what) {
    const auto length = number<std::uint64_t>(what);
    need(length, what);
    const auto* text = reinterpret_cast<const char*>(bytes_.data() + position_);
    position_ += length;
    return {text, length};
  }

  // A count of items that take at least `smallest` bytes each.
  std::uint64_t count(const char* what, std::uint64_t smallest) {
    const auto value = number<std::uint64_t>(what);
    if (value > left() / smallest) {
      fail(ErrorKind::kBadInput, where_, "{} {} cannot fit in the {} bytes that are left: the file is damaged or incomplete", value,
           what, left());
    }
    return value;
  }

 private:
  void need(std::uint64_t size, const char* what) const {
    if (size > left()) {
      fail(ErrorKind::kBadInput, where_,
           "the file ends inside the header: {} at byte {} needs {} bytes, {} are left; download it again", what, position_, size,
           left());
    }
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  std::uint64_t position_ = 0;
};

bool read_bool(Cursor& cursor, std::string_view key, const std::string& where) {
  const auto byte = cursor.number<std::uint8_t>("a boolean");
  if (byte > 1) fail(ErrorKind::kBadInput, where, "{} is a boolean of value {}, expected 0 or 1: the file is damaged", key, byte);
  return byte == 1;
}

std::int64_t read_integer(Cursor& cursor, Type type) {
  switch (type) {
    case Type::kU8:
      return cursor.number<std::uint8_t>("a value");
    case Type::kI8:
      return cursor.number<std::int8_t>("a value");
    case Type::kU16:
      return cursor.number<std::uint16_t>("a value");
    case Type::kI16:
      return cursor.number<std::int16_t>("a value");
    case Type::kU32:
      return cursor.number<std::uint32_t>("a value");
    case Type::kI32:
      return cursor.number<std::int32_t>("a value");
    default:
      return cursor.number<std::int64_t>("a value");
  }
}

double read_real(Cursor& cursor, Type type) {
  return type == Type::kF32 ? static_cast<double>(cursor.number<float>("a value")) : cursor.number<double>("a value");
}

template <typename T, typename Read>
GgufArray read_items(std::uint64_t count, Read&& read) {
  std::vector<T> items;
  items.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) items.push_back(read());
  return items;
}

GgufArray read_array(Cursor& cursor, std::string_view key, const std::string& where) {
  const auto type = static_cast<Type>(cursor.number<std::uint32_t>("an array's type"));
  const std::uint64_t size = gguf_value_bytes(static_cast<std::uint32_t>(type));
  if (type == Type::kArray) fail(ErrorKind::kUnsupported, where, "{} is an array of arrays, which no model file needs", key);
  if (size == 0) fail(ErrorKind::kBadInput, where, "{} is an array of the unknown type {}", key, static_cast<std::uint32_t>(type));
  const std::uint64_t count = cursor.count("array items", size);
  switch (type) {
    case Type::kBool:
      return read_items<bool>(count, [&] { return read_bool(cursor, key, where); });
    case Type::kString:
      return read_items<std::string_view>(count, [&] { return cursor.string("a string"); });
    case Type::kF32:
    case Type::kF64:
      return read_items<double>(count, [&] { return read_real(cursor, type); });
    default:
      break;
  }
  return read_items<std::int64_t>(count, [&] {
    const std::int64_t value = read_integer(cursor, type);
    if (type == Type::kU64 && value < 0) fail(ErrorKind::kBadInput, where, "{} holds an integer above 2^63 - 1", key);
    return value;
  });
}

GgufValue read_value(Cursor& cursor, Type type, std::string_view key, const std::string& where) {
  if (type == Type::kArray) return read_array(cursor, key, where);
  if (gguf_value_bytes(static_cast<std::uint32_t>(type)) == 0) {
    fail(ErrorKind::kBadInput, where, "{} has the unknown value type {}: the file is damaged or newer than this program", key,
         static_cast<std::uint32_t>(type));
  }
  switch (type) {
    case Type::kBool:
      return read_bool(cursor, key, where);
    case Type::kString:
      return cursor.string("a string");
    case Type::kF32:
    case Type::kF64:
      return read_real(cursor, type);
    default:
      break;
  }
  const std::int64_t value = read_integer(cursor, type);
  if (type == Type::kU64 && value < 0) return static_cast<std::uint64_t>(value);
  return value;
}

void check_magic(Cursor& cursor, const std::string& where) {
  if (cursor.left() < 4 || cursor.number<std::uint32_t>("the magic") != kGgufMagic) {
    fail(ErrorKind::kBadInput, where, "this is not a GGUF file: it does not begin with \"GGUF\"");
  }
  const auto version = cursor.number<std::uint32_t>("the version");
  if (version == 2 || version == 3) return;
  if ((version & 0xffff) == 0 && version != 0) {
    fail(ErrorKind::kUnsupported, where,
         "this GGUF file is big-endian, only little-endian files are read: convert the model again");
  }
  fail(ErrorKind::kUnsupported, where, "GGUF version {}, expected 2 or 3: convert the model again", version);
}

// What a tensor's header says; its bytes are looked up when the place of the data is known.
struct GgufEntry {
  Tensor tensor;
  std::uint64_t offset, size;
};

Format read_format(Cursor& cursor, std::string_view name, const std::string& where) {
  const auto type = cursor.number<std::uint32_t>("a tensor's type");
  const auto format = type > 1000 ? std::nullopt : format_from_gguf(static_cast<int>(type));
  if (!format) {
    fail(ErrorKind::kUnsupported, where,
         "tensor {} is stored as {}, which is not read here: use a file with F32, F16, BF16, Q8_0, Q4_0, "
         "Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K",
         name, ggml_type_name(type));
  }
  return *format;
}

GgufEntry read_tensor(Cursor& cursor, std::uint64_t alignment, const std::string& where) {
  GgufEntry entry;
  entry.tensor.name = cursor.string("a tensor's name");
  const std::string& name = entry.tensor.name;
  check_name(name, "tensor name", where);
  const auto rank = cursor.number<std::uint32_t>("a tensor's rank");
  if (rank > Shape::kMaxRank) {
    fail(ErrorKind::kUnsupported, where, "tensor {} has {} dimensions, at most {} are supported", name, rank, Shape::kMaxRank);
  }
  std::array<std::uint64_t, Shape::kMaxRank> dims{};
  for (std::uint32_t axis = 0; axis < rank; ++axis) dims[rank - 1 - axis] = cursor.number<std::uint64_t>("a tensor's dimension");
  entry.tensor.shape = checked_shape(std::span<const std::uint64_t>(dims.data(), rank), name, where);
  entry.tensor.format = read_format(cursor, name, where);
  entry.size = checked_bytes(entry.tensor.format, entry.tensor.shape, name, where);
  entry.offset = cursor.number<std::uint64_t>("a tensor's offset");
  if (entry.offset % alignment != 0) {
    fail(ErrorKind::kBadInput, where, "tensor {} starts at offset {}, expected a multiple of {}: the file is damaged", name,
         entry.offset, alignment);
  }
  return entry;
}

void check_no_overlap(const std::vector<GgufEntry>& entries, const std::string& where) {
  std::vector<const GgufEntry*> order;
  for (const GgufEntry& entry : entries) {
    if (entry.size > 0) order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(), [](const GgufEntry* a, const GgufEntry* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->offset + order[i - 1]->size > order[i]->offset) {
      fail(ErrorKind::kBadInput, where, "tensors {} and {} overlap: the file is damaged", order[i - 1]->tensor.name,
           order[i]->tensor.name);
    }
  }
}

}  // namespace

void GgufFile::parse(std::span<const std::byte> bytes) {
  Cursor cursor(bytes, where_);
  check_magic(cursor, where_);
  // The metadata come first, so only their count can be held against the bytes that follow both counts.
  const auto tensor_count = cursor.count("tensors", kSmallestTensor);
  const auto pair_count = cursor.count("metadata pairs", kSmallestPair);
  for (std::uint64_t i = 0; i < pair_count; ++i) {
    const std::string_view key = cursor.string("a key");
    check_name(key, "metadata key", where_);
    const auto type = static_cast<Type>(cursor.number<std::uint32_t>("a value's type"));
    if (!metadata_.try_emplace(std::string(key), read_value(cursor, type, key, where_)).second) {
      fail(ErrorKind::kBadInput, where_, "the metadata key {} is there twice: the file is damaged", key);
    }
  }

  const std::int64_t alignment = find_integer("general.alignment").value_or(kGgufAlignment);
  if (!gguf_alignment_is_valid(alignment)) {
    fail(ErrorKind::kBadInput, where_, "general.alignment is {}, expected a power of two from 8 to 1048576", alignment);
  }
  const auto step = static_cast<std::uint64_t>(alignment);
  std::vector<GgufEntry> entries;
  entries.reserve(std::min(tensor_count, cursor.left() / kSmallestTensor));
  for (std::uint64_t i = 0; i < tensor_count; ++i) entries.push_back(read_tensor(cursor, step, where_));

  const std::uint64_t data = (cursor.position() + step - 1) / step * step;
  for (GgufEntry& entry : entries) {
    const auto start = checked_add(data, entry.offset);
    if (!start) fail(ErrorKind::kBadInput, where_, "tensor {} starts at the impossible offset {}", entry.tensor.name, entry.offset);
    if (entry.size > 0) entry.tensor.bytes = checked_range(bytes, *start, entry.size, entry.tensor.name, where_);
  }
  check_no_overlap(entries, where_);
  tensors_.reserve(entries.size());
  for (GgufEntry& entry : entries) tensors_.push_back(std::move(entry.tensor));
  check_unique_names(tensors_, where_);
}

}  // namespace puna
