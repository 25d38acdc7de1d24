// SPDX-License-Identifier: Apache-2.0
// Reads a safetensors file. The header may be 100 MB of somebody else's JSON, so it is read event by event into the few fields
// there are; no document is built, and anything that does not belong there ends the reading at once.
#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "base/checked_math.h"
#include "base/error.h"
#include "tensor/file_checks.h"
#include "tensor/safetensors.h"

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in the file");

namespace puna {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // as the reference implementation
constexpr std::string_view kMetadata = "__metadata__";

// One tensor as the header describes it.
struct Description {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<std::uint64_t>> shape, offsets;
};

// {"__metadata__": {string: string, ...}, name: {"dtype": string, "shape": [n, ...], "data_offsets": [begin, end]}, ...}
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderHandler(const std::string& where) : where_(where) {}

  std::vector<Description> tensors;
  std::map<std::string, std::string> metadata;

  bool start_object(std::size_t) override {
    if (place_ == Place::kOutside) {
      place_ = Place::kNames;
    } else if (place_ == Place::kNames) {
      place_ = name_ == kMetadata ? Place::kStrings : Place::kTensor;
      if (place_ == Place::kTensor) tensors.push_back({name_, {}, {}, {}});
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) check_complete();
    place_ = place_ == Place::kNames ? Place::kOutside : Place::kNames;
    return true;
  }

  bool key(string_t& text) override {
    check_name(text, place_ == Place::kNames ? "tensor name" : "field name", where_);
    if (place_ == Place::kNames) {
      if (!names_.insert(text).second)
        fail(ErrorKind::kBadInput, where_, "the name {} is in the header twice: the file is damaged", text);
      name_ = text;
      field_.clear();
    } else {
      field_ = text;
      if (place_ == Place::kTensor) check_new_field();
    }
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::kTensor && field_ == "dtype") {
      check_name(text, "type name", where_);
      tensors.back().dtype = text;
    } else if (place_ == Place::kStrings) {
      if (!metadata.emplace(field_, text).second)
        fail(ErrorKind::kBadInput, where_, "{}: the key {} is there twice", kMetadata, field_);
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") unexpected("a list");
    place_ = Place::kList;
    numbers() = std::vector<std::uint64_t>();
    return true;
  }
  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kList) unexpected("a number");
    numbers()->push_back(value);
    return true;
  }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    fail(ErrorKind::kBadInput, where_, "the header is not valid JSON at byte {}: {}", position, error.what());
  }

 private:
  enum class Place { kOutside, kNames, kStrings, kTensor, kList };

  std::optional<std::vector<std::uint64_t>>& numbers() { return field_ == "shape" ? tensors.back().shape : tensors.back().offsets; }

  [[noreturn]] bool unexpected(const char* found) const {
    if (place_ == Place::kOutside) fail(ErrorKind::kBadInput, where_, "the header is {}, expected an object", found);
    if (field_.empty()) fail(ErrorKind::kBadInput, where_, "{} is described by {}, expected an object", name_, found);
    const char* expected = field_ == "dtype" || place_ == Place::kStrings ? "a string" : "a list of whole numbers";
    fail(ErrorKind::kBadInput, where_, "{}: \"{}\" holds {}, expected {}", name_, field_, found, expected);
  }

  void check_new_field() const {
    const Description& tensor = tensors.back();
    if (field_ != "dtype" && field_ != "shape" && field_ != "data_offsets") {
      fail(ErrorKind::kBadInput, where_, "{}: the unknown field \"{}\", expected dtype, shape and data_offsets", name_, field_);
    }
    if (field_ == "dtype" ? tensor.dtype.has_value() : field_ == "shape" ? tensor.shape.has_value() : tensor.offsets.has_value()) {
      fail(ErrorKind::kBadInput, where_, "{}: \"{}\" is there twice", name_, field_);
    }
  }

  void check_complete() const {
    const Description& tensor = tensors.back();
    const char* missing = !tensor.dtype ? "dtype" : !tensor.shape ? "shape" : !tensor.offsets ? "data_offsets" : nullptr;
    if (missing != nullptr) fail(ErrorKind::kBadInput, where_, "{}: \"{}\" is missing", name_, missing);
  }

  const std::string& where_;
  Place place_ = Place::kOutside;
  std::string name_, field_;
  std::unordered_set<std::string> names_;
};

std::string_view header_text(std::span<const std::byte> bytes, const std::string& where) {
  if (bytes.size() < kLengthBytes) {
    fail(ErrorKind::kBadInput, where, "the file has {} bytes, a safetensors file has at least {}: download it again", bytes.size(),
         kLengthBytes);
  }
  std::uint64_t length;
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > kMostHeaderBytes) {
    fail(ErrorKind::kBadInput, where, "the header claims {} bytes, at most {} are allowed: this is not a safetensors file", length,
         kMostHeaderBytes);
  }
  if (length > bytes.size() - kLengthBytes) {
    fail(ErrorKind::kBadInput, where,
         "the header ends at byte {}, past the end of the file ({}): the file is incomplete; download it again",
         kLengthBytes + length, bytes.size());
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  if (!text.starts_with('{')) fail(ErrorKind::kBadInput, where, "the header is not a JSON object: this is not a safetensors file");
  return text;
}

struct HeaderEntry {
  Tensor tensor;
  std::uint64_t begin, end;  // relative to the end of the header
};

HeaderEntry make_entry(const Description& tensor, const std::string& where) {
  const std::string& name = tensor.name;
  const auto format = format_from_safetensors(*tensor.dtype);
  if (!format) {
    fail(ErrorKind::kUnsupported, where, "tensor {} is stored as {}, which is not read here: expected F32, F16, BF16 or F8_E4M3",
         name, *tensor.dtype);
  }
  const std::vector<std::uint64_t>& offsets = *tensor.offsets;
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    fail(ErrorKind::kBadInput, where, "tensor {}: data_offsets are not a begin and an end", name);
  }
  const Shape shape = checked_shape(*tensor.shape, name, where);
  const std::uint64_t size = checked_bytes(*format, shape, name, where);
  if (offsets[1] - offsets[0] != size) {
    fail(ErrorKind::kBadInput, where, "tensor {} of shape {} and type {} takes {} bytes, but its data_offsets span {}", name,
         shape.text(), info(*format).safetensors, size, offsets[1] - offsets[0]);
  }
  return {{name, *format, shape, {}, {}}, offsets[0], offsets[1]};
}

// The tensors must fill the data exactly: a hole could hide bytes, an overlap let one tensor change with another.
void check_coverage(const std::vector<HeaderEntry>& entries, std::uint64_t data_bytes, const std::string& where) {
  std::uint64_t reached = 0;
  for (const HeaderEntry& entry : entries) {
    if (entry.begin != reached) {
      fail(ErrorKind::kBadInput, where, "tensor {} begins at {}, {} {}: the file is damaged", entry.tensor.name, entry.begin,
           entry.begin < reached ? "inside the tensor before it, which ends at" : "leaving a hole after", reached);
    }
    reached = entry.end;
  }
  if (reached != data_bytes) {
    fail(ErrorKind::kBadInput, where, "{} bytes follow the last tensor, which ends at {}: the file is damaged",
         data_bytes - reached, reached);
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : where_(path.filename().string()), file_(std::make_unique<MappedFile>(path)) {
  parse(file_->bytes());
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, std::string where) : where_(std::move(where)) { parse(bytes); }

void SafetensorsFile::parse(std::span<const std::byte> bytes) {
  const std::string_view text = header_text(bytes, where_);
  const std::uint64_t data = kLengthBytes + text.size();
  HeaderHandler header(where_);
  nlohmann::json::sax_parse(text, &header);
  metadata_ = std::move(header.metadata);

  std::vector<HeaderEntry> entries;
  entries.reserve(header.tensors.size());
  for (const Description& tensor : header.tensors) entries.push_back(make_entry(tensor, where_));
  std::stable_sort(entries.begin(), entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  for (HeaderEntry& entry : entries) {
    const auto start = checked_add(data, entry.begin);
    if (!start) fail(ErrorKind::kBadInput, where_, "tensor {} begins at the impossible byte {}", entry.tensor.name, entry.begin);
    entry.tensor.bytes = checked_range(bytes, *start, entry.end - entry.begin, entry.tensor.name, where_);
  }
  check_coverage(entries, bytes.size() - data, where_);
  tensors_.reserve(entries.size());
  for (HeaderEntry& entry : entries) tensors_.push_back(std::move(entry.tensor));
}

}  // namespace puna
