// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>

#include "base/checked_math.h"
#include "base/error.h"
#include "tensor/file_checks.h"
#include "tensor/pickle.h"
#include "tensor/pth.h"
#include "tensor/zip_archive.h"

namespace puna {
namespace {

using Members = std::map<std::string, std::span<const std::byte>, std::less<>>;

void check_is_zip(std::span<const std::byte> bytes, const std::string& where) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 4));
  if (head.starts_with("PK")) return;
  if (head.starts_with('\x80')) {
    fail(ErrorKind::kUnsupported, where,
         "this is a torch.save file from before PyTorch 1.6 (not a zip archive): "
         "load it with PyTorch and save it again");
  }
  fail(ErrorKind::kBadInput, where, "this is not a torch.save file: it is not a zip archive");
}

// "<archive>/" of the one member "<archive>/data.pkl".
std::string archive_prefix(const Members& members, const std::string& where) {
  for (const auto& [name, bytes] : members) {
    if (name.ends_with("/data.pkl") && name.find('/') == name.size() - 9) return name.substr(0, name.size() - 8);
  }
  fail(ErrorKind::kBadInput, where, "the archive has no member data.pkl: this is not a torch.save file");
}

void check_byte_order(const Members& members, const std::string& prefix, const std::string& where) {
  const auto order = members.find(prefix + "byteorder");
  if (order == members.end()) return;
  const std::string_view text(reinterpret_cast<const char*>(order->second.data()), order->second.size());
  if (text != "little")
    fail(ErrorKind::kUnsupported, where, "the tensors are stored {}-endian, expected little-endian", text.substr(0, 16));
}

void check_contiguous(const PickledTensor& tensor, const Shape& shape, const std::string& where) {
  std::uint64_t expected = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    const auto dim = static_cast<std::uint64_t>(shape[axis]);
    const std::uint64_t stride = tensor.strides[static_cast<std::size_t>(axis)];
    if (shape.count() > 0 && dim > 1 && stride != expected) {
      fail(ErrorKind::kUnsupported, where,
           "tensor {} is not contiguous (stride {} in dimension {}, expected {}): "
           "call .contiguous() before saving",
           tensor.name, stride, axis, expected);
    }
    expected *= dim;  // at most the count, which was checked
  }
}

Tensor resolve(const PickledTensor& tensor, const Members& members, const std::string& prefix, const std::string& where) {
  check_name(tensor.name, "tensor name", where);
  if (!tensor.format) {
    fail(ErrorKind::kUnsupported, where,
         "tensor {} is stored as {}, which is not read here: expected float32, float16, bfloat16 or "
         "float8_e4m3fn",
         tensor.name, tensor.type);
  }
  const std::uint64_t element = static_cast<std::uint64_t>(info(*tensor.format).block_bytes);
  const Shape shape = checked_shape(tensor.dims, tensor.name, where);
  const std::uint64_t size = checked_bytes(*tensor.format, shape, tensor.name, where);
  check_contiguous(tensor, shape, where);

  const auto member = members.find(prefix + "data/" + std::string(tensor.storage.key.substr(0, 256)));
  if (member == members.end()) {
    fail(ErrorKind::kBadInput, where, "tensor {}: the archive has no storage {:?}: the file is damaged", tensor.name,
         tensor.storage.key.substr(0, 256));
  }
  const std::span<const std::byte> storage = member->second;
  const auto expected = checked_multiply(tensor.storage.count, tensor.storage.format ? element : 1);
  if (!expected || *expected != storage.size()) {
    fail(ErrorKind::kBadInput, where, "tensor {}: its storage has {} bytes, expected {} elements of {}: the file is damaged",
         tensor.name, storage.size(), tensor.storage.count, tensor.storage.type);
  }
  const auto start = checked_multiply(tensor.offset, element);
  if (!start || !range_fits(*start, size, storage.size())) {
    fail(ErrorKind::kBadInput, where,
         "tensor {} of shape {} at element {} does not fit in its storage of {} bytes: the file is damaged", tensor.name,
         shape.text(), tensor.offset, storage.size());
  }
  return {tensor.name, *tensor.format, shape, storage.subspan(*start, size), {}};
}

}  // namespace

PthFile::PthFile(const std::filesystem::path& path) : where_(path.filename().string()), file_(std::make_unique<MappedFile>(path)) {
  parse(file_->bytes());
}

PthFile::PthFile(std::span<const std::byte> bytes, std::string where) : where_(std::move(where)) { parse(bytes); }

void PthFile::parse(std::span<const std::byte> bytes) {
  check_is_zip(bytes, where_);
  const Members members = read_zip(bytes, where_);
  const std::string prefix = archive_prefix(members, where_);
  check_byte_order(members, prefix, where_);
  for (const PickledTensor& tensor : read_pickle(members.find(prefix + "data.pkl")->second, where_)) {
    tensors_.push_back(resolve(tensor, members, prefix, where_));
  }
  check_unique_names(tensors_, where_);
}

}  // namespace puna
