// SPDX-License-Identifier: Apache-2.0
// Writes GGUF version 3. All offsets follow from the shapes, so the header is complete before the first tensor is produced.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "tensor/atomic_file.h"
#include "tensor/gguf.h"
#include "tensor/gguf_types.h"

namespace puna {
namespace {

using Type = GgufScalar::Type;

class Header {
 public:
  template <typename T>
  void number(T value) {
    const auto* bytes = reinterpret_cast<const char*>(&value);
    text_.append(bytes, sizeof(T));
  }
  void type(Type type) { number(static_cast<std::uint32_t>(type)); }
  void string(std::string_view value) {
    number<std::uint64_t>(value.size());
    text_ += value;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

void put_integer(Header& header, Type type, std::int64_t value) {
  switch (gguf_value_bytes(static_cast<std::uint32_t>(type))) {
    case 1:
      return header.number(static_cast<std::int8_t>(value));
    case 2:
      return header.number(static_cast<std::int16_t>(value));
    case 4:
      return header.number(static_cast<std::int32_t>(value));
    default:
      return header.number(value);
  }
}

void put_scalar(Header& header, const GgufScalar& scalar, const std::string& where) {
  const bool real = scalar.type == Type::kF32 || scalar.type == Type::kF64;
  const std::size_t expected = scalar.type == Type::kString ? 2 : real ? 1 : 0;  // alternatives of the variant
  PUNA_CHECK(scalar.value.index() == expected && gguf_value_bytes(static_cast<std::uint32_t>(scalar.type)) != 0 &&
                 scalar.type != Type::kArray,
             where, "a metadata value does not match its GGUF type {}", static_cast<std::uint32_t>(scalar.type));
  header.type(scalar.type);
  if (scalar.type == Type::kString) return header.string(std::get<std::string>(scalar.value));
  if (scalar.type == Type::kF32) return header.number(static_cast<float>(std::get<double>(scalar.value)));
  if (scalar.type == Type::kF64) return header.number(std::get<double>(scalar.value));
  put_integer(header, scalar.type, std::get<std::int64_t>(scalar.value));
}

template <typename T, typename Put>
void put_array(Header& header, Type type, const std::vector<T>& items, Put&& put) {
  header.type(Type::kArray);
  header.type(type);
  header.number<std::uint64_t>(items.size());
  for (const T& item : items) put(item);
}

void put_value(Header& header, const GgufWriteValue& value, const std::string& where) {
  if (const auto* scalar = std::get_if<GgufScalar>(&value)) {
    put_scalar(header, *scalar, where);
  } else if (const auto* strings = std::get_if<std::vector<std::string>>(&value)) {
    put_array(header, Type::kString, *strings, [&](const std::string& item) { header.string(item); });
  } else if (const auto* integers = std::get_if<std::vector<std::int32_t>>(&value)) {
    put_array(header, Type::kI32, *integers, [&](std::int32_t item) { header.number(item); });
  } else {
    put_array(header, Type::kF32, std::get<std::vector<float>>(value), [&](float item) { header.number(item); });
  }
}

std::uint64_t alignment_of(const GgufPlan& plan, const std::string& where) {
  std::int64_t alignment = kGgufAlignment;
  for (const auto& [key, value] : plan.metadata) {
    const auto* scalar = key == "general.alignment" ? std::get_if<GgufScalar>(&value) : nullptr;
    if (scalar != nullptr && scalar->value.index() == 0) alignment = std::get<std::int64_t>(scalar->value);
  }
  PUNA_CHECK(gguf_alignment_is_valid(alignment), where, "general.alignment is {}, expected a power of two from 8 to 1048576",
             alignment);
  return static_cast<std::uint64_t>(alignment);
}

std::uint64_t entry_bytes(const GgufPlan::Entry& entry, const std::string& where) {
  const FormatInfo& row = info(entry.format);
  PUNA_CHECK(row.gguf_type >= 0, where, "tensor {}: GGUF cannot hold {}", entry.name, row.name);
  PUNA_CHECK(entry.shape.row_length() % row.block_values == 0, where, "tensor {}: rows of {} values are not whole blocks of {}",
             entry.name, entry.shape.row_length(), row.name);
  return static_cast<std::uint64_t>(format_bytes(entry.format, entry.shape.count()));
}

void put_tensor(Header& header, const GgufPlan::Entry& entry, std::uint64_t offset) {
  header.string(entry.name);
  header.number(static_cast<std::uint32_t>(entry.shape.rank()));
  for (int axis = entry.shape.rank() - 1; axis >= 0; --axis) header.number(entry.shape[axis]);
  header.number(static_cast<std::uint32_t>(info(entry.format).gguf_type));
  header.number(offset);
}

}  // namespace

void write_gguf(const std::filesystem::path& path, const GgufPlan& plan,
                const std::function<std::span<const std::byte>(std::size_t index)>& produce) {
  const std::string where = path.filename().string();
  const std::uint64_t alignment = alignment_of(plan, where);
  Header header;
  header.number(kGgufMagic);
  header.number<std::uint32_t>(3);
  header.number<std::uint64_t>(plan.tensors.size());
  header.number<std::uint64_t>(plan.metadata.size());
  for (const auto& [key, value] : plan.metadata) {
    header.string(key);
    put_value(header, value, where);
  }
  std::uint64_t offset = 0;
  for (const GgufPlan::Entry& entry : plan.tensors) {
    put_tensor(header, entry, offset);
    offset += (entry_bytes(entry, where) + alignment - 1) / alignment * alignment;
  }

  AtomicFile file(path);
  file.write(header.text());
  file.pad_to(alignment);
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const std::span<const std::byte> bytes = produce(i);
    const std::uint64_t expected = entry_bytes(plan.tensors[i], where);
    PUNA_CHECK(bytes.size() == expected, where, "tensor {}: {} bytes were produced, expected {}", plan.tensors[i].name,
               bytes.size(), expected);
    file.write(bytes);
    file.pad_to(alignment);
  }
  file.commit();
}

}  // namespace puna
