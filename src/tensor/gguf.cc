// SPDX-License-Identifier: Apache-2.0
#include "tensor/gguf.h"

#include <type_traits>

#include "base/error.h"

namespace puna {
namespace {

template <typename T>
constexpr const char* kKindName = "";
template <>
constexpr const char* kKindName<std::int64_t> = "an integer";
template <>
constexpr const char* kKindName<std::uint64_t> = "an integer above 2^63 - 1";
template <>
constexpr const char* kKindName<double> = "a real number";
template <>
constexpr const char* kKindName<bool> = "true or false";
template <>
constexpr const char* kKindName<std::string_view> = "a string";
template <>
constexpr const char* kKindName<GgufArray> = "an array";

const char* kind_of(const GgufValue& value) {
  return std::visit([]<typename T>(const T&) { return kKindName<T>; }, value);
}

const GgufValue* find(const GgufFile& file, std::string_view key) {
  const auto at = file.metadata().find(key);
  return at == file.metadata().end() ? nullptr : &at->second;
}

// The value as a T, nullopt where the key is absent; any other type is refused.
template <typename T>
std::optional<T> find_as(const GgufFile& file, std::string_view key) {
  const GgufValue* value = find(file, key);
  if (value == nullptr) return std::nullopt;
  if (const T* exact = std::get_if<T>(value)) return *exact;
  if constexpr (std::is_same_v<T, double>) {
    if (const auto* whole = std::get_if<std::int64_t>(value)) return static_cast<double>(*whole);
  }
  fail(ErrorKind::kBadInput, file.where(), "{} is {}, expected {}", key, kind_of(*value), kKindName<T>);
}

template <typename T>
T need(const GgufFile& file, std::string_view key) {
  const auto value = find_as<T>(file, key);
  if (!value) fail(ErrorKind::kBadInput, file.where(), "the metadata key {} is missing: convert the model again", key);
  return *value;
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path)
    : where_(path.filename().string()), file_(std::make_unique<MappedFile>(path)) {
  parse(file_->bytes());
}

GgufFile::GgufFile(std::span<const std::byte> bytes, std::string where) : where_(std::move(where)) { parse(bytes); }

std::int64_t GgufFile::integer(std::string_view key) const { return need<std::int64_t>(*this, key); }
double GgufFile::real(std::string_view key) const { return need<double>(*this, key); }
std::string_view GgufFile::string(std::string_view key) const { return need<std::string_view>(*this, key); }

std::optional<std::int64_t> GgufFile::find_integer(std::string_view key) const { return find_as<std::int64_t>(*this, key); }
std::optional<double> GgufFile::find_real(std::string_view key) const { return find_as<double>(*this, key); }
std::optional<bool> GgufFile::find_bool(std::string_view key) const { return find_as<bool>(*this, key); }
std::optional<std::string_view> GgufFile::find_string(std::string_view key) const { return find_as<std::string_view>(*this, key); }

const GgufArray* GgufFile::find_array(std::string_view key) const {
  const GgufValue* value = find(*this, key);
  if (value == nullptr) return nullptr;
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr) fail(ErrorKind::kBadInput, where_, "{} is {}, expected an array", key, kind_of(*value));
  return array;
}

}  // namespace puna
