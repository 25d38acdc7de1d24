// SPDX-License-Identifier: Apache-2.0
// Writes what torch.save writes: a pickle stream (protocol 2) that builds an OrderedDict, and one storage per tensor.
#include <unordered_set>

#include "base/error.h"
#include "tensor/atomic_file.h"
#include "tensor/pth.h"
#include "tensor/zip_archive.h"

namespace puna {
namespace {

// Appends opcodes (Lib/pickletools.py of CPython).
class Pickle {
 public:
  void opcode(char code) { bytes_ += code; }
  void name(const char* module, const char* name) { bytes_ += std::string("c") + module + "\n" + name + "\n"; }
  void text(const std::string& value) {  // BINUNICODE
    opcode('X');
    little_endian(value.size(), 4);
    bytes_ += value;
  }
  void integer(std::int64_t value) {  // LONG1 of eight bytes, the top one 0
    opcode('\x8a');
    opcode('\x08');
    little_endian(static_cast<std::uint64_t>(value), 8);
  }
  void tuple(const std::vector<std::int64_t>& values) {
    opcode('(');
    for (const std::int64_t value : values) integer(value);
    opcode('t');
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void little_endian(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i));
  }
  std::string bytes_;
};

const char* storage_name(Format format, const std::string& where) {
  switch (format) {
    case Format::kF32:
      return "FloatStorage";
    case Format::kF16:
      return "HalfStorage";
    case Format::kBF16:
      return "BFloat16Storage";
    case Format::kF8E4M3:
      return "UntypedStorage";
    default:
      fail(ErrorKind::kInternal, where, "a .pth file cannot hold {}", info(format).name);
  }
}

std::vector<std::int64_t> dims_of(const Shape& shape) {
  std::vector<std::int64_t> dims;
  for (int axis = 0; axis < shape.rank(); ++axis) dims.push_back(shape[axis]);
  return dims;
}

// Row-major, in elements.
std::vector<std::int64_t> strides_of(const Shape& shape) {
  std::vector<std::int64_t> strides(static_cast<std::size_t>(shape.rank()), 1);
  for (std::size_t axis = strides.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * shape[static_cast<int>(axis)];
  return strides;
}

// _rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict()); v3 with a dtype where there is no typed storage.
void put_tensor(Pickle& pickle, const PthEntry& entry, std::size_t index, const std::string& where) {
  const bool untyped = entry.format == Format::kF8E4M3;
  pickle.name("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
  pickle.opcode('(');
  pickle.opcode('(');
  pickle.text("storage");
  pickle.name(untyped ? "torch.storage" : "torch", storage_name(entry.format, where));
  pickle.text(std::to_string(index));
  pickle.text("cpu");
  pickle.integer(entry.shape.count());  // one-byte elements where it counts bytes
  pickle.opcode('t');
  pickle.opcode('Q');
  pickle.integer(0);
  pickle.tuple(dims_of(entry.shape));
  pickle.tuple(strides_of(entry.shape));
  pickle.opcode('\x89');
  pickle.name("collections", "OrderedDict");
  pickle.opcode(')');
  pickle.opcode('R');
  if (untyped) pickle.name("torch", "float8_e4m3fn");
  pickle.opcode('t');
  pickle.opcode('R');
}

std::string dictionary(const std::vector<PthEntry>& entries, const std::string& where) {
  Pickle pickle;
  pickle.opcode('\x80');
  pickle.opcode('\x02');
  pickle.name("collections", "OrderedDict");
  pickle.opcode(')');
  pickle.opcode('R');
  pickle.opcode('(');
  std::unordered_set<std::string> names;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    PUNA_CHECK(names.insert(entries[i].name).second, where, "tensor {} is there twice", entries[i].name);
    pickle.text(entries[i].name);
    put_tensor(pickle, entries[i], i, where);
  }
  pickle.opcode('u');
  pickle.opcode('.');
  return pickle.bytes();
}

}  // namespace

void write_pth(const std::filesystem::path& path, const std::vector<PthEntry>& entries,
               const std::function<std::span<const std::byte>(std::size_t index)>& produce) {
  const std::string where = path.filename().string();
  const std::string stream = dictionary(entries, where);
  const auto bytes_of = [](std::string_view text) { return std::as_bytes(std::span(text)); };
  AtomicFile file(path);
  ZipWriter zip(file);
  zip.add("archive/data.pkl", bytes_of(stream));
  zip.add("archive/byteorder", bytes_of("little"));
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::span<const std::byte> bytes = produce(i);
    const std::int64_t expected = format_bytes(entries[i].format, entries[i].shape.count());
    PUNA_CHECK(static_cast<std::int64_t>(bytes.size()) == expected, where, "tensor {}: {} bytes were produced, expected {}",
               entries[i].name, bytes.size(), expected);
    zip.add("archive/data/" + std::to_string(i), bytes);
  }
  zip.add("archive/version", bytes_of("3\n"));
  zip.finish();
  file.commit();
}

}  // namespace puna
