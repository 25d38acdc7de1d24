// SPDX-License-Identifier: Apache-2.0
// Reads what ggml writes, what llama.cpp's converter wrote, and every kind of damage.
#include "tensor/gguf.h"

#include <gtest/gtest.h>

#include <cstring>

#include "expect_error.h"
#include "shared_data.h"
#include "tensor/raw_bytes.h"

namespace puna {
namespace {

using testing::ElementsAre;

// A GGUF file put together by hand, so that any field can be wrong.
struct Builder {
  std::uint32_t version = 3;
  std::uint64_t tensor_count = 0, pair_count = 0;
  std::string pairs, tensors, data;

  static std::string text(std::string_view value) { return little_endian(value.size(), 8) + std::string(value); }

  Builder& pair(std::string_view key, std::uint32_t type, const std::string& value) {
    pairs += text(key) + little_endian(type, 4) + value;
    ++pair_count;
    return *this;
  }
  Builder& tensor(std::string_view name, const std::vector<std::uint64_t>& dims, std::uint32_t type, std::uint64_t offset) {
    tensors += text(name) + little_endian(dims.size(), 4);
    for (const std::uint64_t dim : dims) tensors += little_endian(dim, 8);
    tensors += little_endian(type, 4) + little_endian(offset, 8);
    ++tensor_count;
    return *this;
  }
  Builder& bytes(std::size_t count) {
    data.assign(count, '\x01');
    return *this;
  }
  std::string file(std::size_t alignment = 32) const {
    std::string out =
        "GGUF" + little_endian(version, 4) + little_endian(tensor_count, 8) + little_endian(pair_count, 8) + pairs + tensors;
    if (!data.empty()) out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    return out + data;
  }
};

GgufFile read(const std::string& file) { return GgufFile(bytes_of(file), "x.gguf"); }

void expect_refused(ErrorKind kind, std::string_view message, const std::string& file) {
  expect_error(kind, message, [&] { read(file); });
}

TEST(Gguf, ReadsEveryValueTypeThatGgmlWrites) {
  const GgufFile file(golden("tensor/every_type.gguf"));
  EXPECT_EQ(file.where(), "every_type.gguf");
  EXPECT_EQ(file.integer("test.u8"), 200);
  EXPECT_EQ(file.integer("test.i8"), -100);
  EXPECT_EQ(file.integer("test.u16"), 60000);
  EXPECT_EQ(file.integer("test.i16"), -30000);
  EXPECT_EQ(file.integer("test.u32"), 4000000000);
  EXPECT_EQ(file.integer("test.i32"), -2000000000);
  EXPECT_EQ(file.integer("test.u64"), std::int64_t{1} << 62);
  EXPECT_EQ(file.integer("test.i64"), -(std::int64_t{1} << 62));
  EXPECT_EQ(file.real("test.f32"), 0.5);
  EXPECT_EQ(file.real("test.f64"), 0.1);
  EXPECT_EQ(file.real("test.u8"), 200.0);
  EXPECT_EQ(file.find_bool("test.bool"), true);
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_THAT(std::get<std::vector<std::string_view>>(*file.find_array("test.words")), ElementsAre("a", "", "\u00e9t\u00e9"));
  EXPECT_THAT(std::get<std::vector<std::int64_t>>(*file.find_array("test.numbers")), ElementsAre(-1, 0, 70000));
  EXPECT_THAT(std::get<std::vector<double>>(*file.find_array("test.scores")), ElementsAre(0.25, -1e9));
}

TEST(Gguf, ReadsTheTensorsThatGgmlWrites) {
  const GgufFile file(golden("tensor/every_type.gguf"));
  ASSERT_EQ(file.tensors().size(), 3u);
  const Tensor &plain = file.tensors()[0], &half = file.tensors()[1], &blocks = file.tensors()[2];
  EXPECT_EQ(plain.name, "plain");
  EXPECT_EQ(plain.format, Format::kF32);
  EXPECT_EQ(plain.shape, (Shape{2, 3}));
  float row[3];
  decode_row(plain, 1, row);
  EXPECT_THAT(row, ElementsAre(3.0f, 4.0f, 5.0f));
  EXPECT_EQ(half.shape, Shape{5}) << "ggml drops the dimension of 1";
  float values[5];
  decode_row(half, 0, values);
  EXPECT_THAT(values, ElementsAre(0.0f, 0.25f, 0.5f, 0.75f, 1.0f));
  EXPECT_EQ(blocks.format, Format::kQ8_0);
  EXPECT_EQ(blocks.bytes.size(), 68u);
  EXPECT_EQ(blocks.bytes[67], std::byte{67});
}

TEST(Gguf, ReadsATrainedModel) {
  PUNA_NEEDS_SHARED("stories260K/stories260K.gguf");
  const GgufFile file(shared_data("stories260K/stories260K.gguf"));
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("llama.embedding_length"), 64);
  EXPECT_EQ(file.integer("llama.block_count"), 5);
  EXPECT_EQ(std::get<std::vector<std::string_view>>(*file.find_array("tokenizer.ggml.tokens")).size(), 512u);
  std::int64_t parameters = 0;
  for (const Tensor& tensor : file.tensors()) parameters += tensor.shape.count();
  EXPECT_GT(parameters, 250000);
  EXPECT_LT(parameters, 300000);
}

TEST(Gguf, AbsentKeysAndOtherTypes) {
  const GgufFile file(golden("tensor/every_type.gguf"));
  EXPECT_FALSE(file.find_integer("none"));
  EXPECT_FALSE(file.find_real("none"));
  EXPECT_FALSE(file.find_string("none"));
  EXPECT_EQ(file.find_array("none"), nullptr);
  expect_error(ErrorKind::kBadInput, "[every_type.gguf] the metadata key llama.block_count is missing: convert the model again",
               [&] { file.integer("llama.block_count"); });
  expect_error(ErrorKind::kBadInput, "general.architecture is a string, expected an integer",
               [&] { file.integer("general.architecture"); });
  expect_error(ErrorKind::kBadInput, "test.f32 is a real number, expected a string", [&] { file.find_string("test.f32"); });
  expect_error(ErrorKind::kBadInput, "test.bool is true or false, expected an array", [&] { file.find_array("test.bool"); });
  expect_error(ErrorKind::kBadInput, "test.words is an array, expected true or false", [&] { file.find_bool("test.words"); });
}

TEST(Gguf, VersionTwoAndUnsigned64) {
  Builder builder;
  builder.version = 2;
  const std::string file = builder.pair("huge", 10, little_endian(~0ull, 8)).file();
  const GgufFile gguf = read(file);
  EXPECT_EQ(std::get<std::uint64_t>(gguf.metadata().find("huge")->second), ~0ull);
  expect_error(ErrorKind::kBadInput, "huge is an integer above 2^63 - 1, expected an integer", [&] { gguf.integer("huge"); });
}

TEST(Gguf, RefusesOtherFiles) {
  expect_refused(ErrorKind::kBadInput, "[x.gguf] this is not a GGUF file", "");
  expect_refused(ErrorKind::kBadInput, "does not begin with \"GGUF\"", "PK\x03\x04 and more");
  Builder builder;
  builder.version = 1;
  expect_refused(ErrorKind::kUnsupported, "GGUF version 1, expected 2 or 3", builder.file());
  builder.version = 0x03000000;
  expect_refused(ErrorKind::kUnsupported, "this GGUF file is big-endian, only little-endian files are read", builder.file());
}

TEST(Gguf, RefusesCountsThatCannotFit) {
  Builder builder;
  builder.tensor_count = 1ull << 60;
  expect_refused(ErrorKind::kBadInput, "1152921504606846976 tensors cannot fit", builder.file());
  builder.tensor_count = 0;
  builder.pair_count = 1ull << 60;
  expect_refused(ErrorKind::kBadInput, "1152921504606846976 metadata pairs cannot fit", builder.file());
  const std::string array = little_endian(4, 4) + little_endian(1ull << 60, 8);
  expect_refused(ErrorKind::kBadInput, "1152921504606846976 array items cannot fit", Builder().pair("a", 9, array).file());
}

TEST(Gguf, RefusesStringsPastTheEnd) {
  const std::string file = Builder().pair("key", 8, little_endian(1ull << 62, 8)).file();
  expect_refused(ErrorKind::kBadInput,
                 "the file ends inside the header: a string at byte 47 needs 4611686018427387904 bytes, 0 are left", file);
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string whole = read_text(golden("tensor/every_type.gguf"));
  const std::size_t end = whole.size() - 28;  // ggml pads the last tensor, of 68 bytes, to 96
  EXPECT_EQ(read(whole.substr(0, end)).tensors().size(), 3u);
  for (std::size_t size = 0; size < end; ++size) {
    EXPECT_THROW(read(whole.substr(0, size)), Error) << size;
  }
  expect_refused(ErrorKind::kBadInput,
                 "[x.gguf] tensor blocks ends at byte 772, past the end of the file (700): the file is incomplete; "
                 "download it again",
                 whole.substr(0, 700));
}

TEST(Gguf, RefusesBadValues) {
  expect_refused(ErrorKind::kBadInput, "flag is a boolean of value 2, expected 0 or 1", Builder().pair("flag", 7, "\x02").file());
  expect_refused(ErrorKind::kBadInput, "odd has the unknown value type 13", Builder().pair("odd", 13, "12345678").file());
  const auto array = [](std::uint32_t type, std::uint64_t count, const std::string& items) {
    return Builder().pair("list", 9, little_endian(type, 4) + little_endian(count, 8) + items).file();
  };
  expect_refused(ErrorKind::kUnsupported, "list is an array of arrays", array(9, 1, std::string(24, '\0')));
  expect_refused(ErrorKind::kBadInput, "list is an array of the unknown type 99", array(99, 1, "12345678"));
  expect_refused(ErrorKind::kBadInput, "list holds an integer above 2^63 - 1", array(10, 1, std::string(8, '\xff')));
  expect_refused(ErrorKind::kBadInput, "list is a boolean of value 9", array(7, 1, "\x09"));
}

TEST(Gguf, RefusesBadKeys) {
  const std::string one = little_endian(1, 4);
  expect_refused(ErrorKind::kBadInput, "the metadata key k is there twice", Builder().pair("k", 4, one).pair("k", 4, one).file());
  expect_refused(ErrorKind::kBadInput, "a metadata key is empty", Builder().pair("", 4, one).file());
  expect_refused(ErrorKind::kBadInput, "a metadata key of 2 bytes holds control characters",
                 Builder().pair("\x1b[", 4, one).file());
}

TEST(Gguf, RefusesBadAlignments) {
  for (const std::uint32_t alignment : {0u, 1u, 24u, 1u << 31}) {
    expect_refused(ErrorKind::kBadInput, "expected a power of two from 8 to 1048576",
                   Builder().pair("general.alignment", 4, little_endian(alignment, 4)).file());
  }
  const std::string file = Builder().pair("general.alignment", 4, little_endian(64, 4)).tensor("w", {4}, 0, 64).bytes(80).file(64);
  EXPECT_EQ(read(file).tensors()[0].bytes.data(), bytes_of(file).last(16).data());
}

TEST(Gguf, RefusesBadShapes) {
  expect_refused(ErrorKind::kUnsupported, "tensor w has 5 dimensions, at most 4 are supported",
                 Builder().tensor("w", {1, 1, 1, 1, 1}, 0, 0).file());
  expect_refused(ErrorKind::kBadInput, "tensor w has an impossible shape",
                 Builder().tensor("w", {1ull << 32, 1ull << 32}, 0, 0).file());
  expect_refused(ErrorKind::kBadInput, "tensor w has an impossible shape: dimension 0 is 18446744073709551615",
                 Builder().tensor("w", {~0ull}, 0, 0).file());
  expect_refused(ErrorKind::kBadInput, "needs more bytes than can be counted", Builder().tensor("w", {1ull << 62}, 0, 0).file());
  expect_refused(ErrorKind::kBadInput, "tensor w has rows of 48 values, q8_0 needs a multiple of 32",
                 Builder().tensor("w", {48, 2}, 8, 0).file());
}

TEST(Gguf, NamesTheTypeAndTheTensorItCannotRead) {
  expect_refused(ErrorKind::kUnsupported, "tensor blk.0.w is stored as Q2_K (ggml type 10), which is not read here",
                 Builder().tensor("blk.0.w", {256}, 10, 0).file());
  expect_refused(ErrorKind::kUnsupported, "is stored as ggml type 4294967295", Builder().tensor("w", {256}, ~0u, 0).file());
}

TEST(Gguf, RefusesBadPlaces) {
  expect_refused(ErrorKind::kBadInput, "tensor w starts at offset 8, expected a multiple of 32",
                 Builder().tensor("w", {4}, 0, 8).bytes(64).file());
  expect_refused(ErrorKind::kBadInput, "tensors a and b overlap",
                 Builder().tensor("b", {4}, 0, 32).tensor("a", {16}, 0, 0).bytes(96).file());
  expect_refused(ErrorKind::kBadInput, "starts at the impossible offset", Builder().tensor("w", {4}, 0, ~31ull).bytes(64).file());
  expect_refused(ErrorKind::kBadInput, "past the end of the file", Builder().tensor("w", {4}, 0, 64).bytes(64).file());
  expect_refused(ErrorKind::kBadInput, "there are two tensors named w",
                 Builder().tensor("w", {4}, 0, 0).tensor("w", {4}, 0, 32).bytes(64).file());
  expect_refused(ErrorKind::kBadInput, "a tensor name is empty", Builder().tensor("", {4}, 0, 0).bytes(64).file());
}

TEST(Gguf, EmptyTensorsAndScalarsAreWellFormed) {
  const std::string file = Builder().tensor("none", {0, 7}, 0, 0).tensor("one", {}, 0, 0).bytes(4).file();
  const GgufFile gguf = read(file);
  EXPECT_FALSE(gguf.tensors()[0]);
  EXPECT_EQ(gguf.tensors()[0].shape, (Shape{7, 0}));
  EXPECT_EQ(gguf.tensors()[1].shape, Shape());
  EXPECT_EQ(gguf.tensors()[1].bytes.size(), 4u);
}

// --- the writer ---

using Type = GgufScalar::Type;

TEST(GgufWriter, WritesWhatTheReaderReads) {
  const auto path = std::filesystem::path(testing::TempDir()) / "written.gguf";
  const std::string first(24, 'a'), second(68, 'b');
  GgufPlan plan;
  plan.metadata = {{"general.architecture", GgufScalar{Type::kString, std::string("llama")}},
                   {"i8", GgufScalar{Type::kI8, std::int64_t{-5}}},
                   {"u16", GgufScalar{Type::kU16, std::int64_t{65535}}},
                   {"u32", GgufScalar{Type::kU32, std::int64_t{4000000000}}},
                   {"u64", GgufScalar{Type::kU64, std::int64_t{1} << 40}},
                   {"f32", GgufScalar{Type::kF32, 1e-5}},
                   {"f64", GgufScalar{Type::kF64, 0.1}},
                   {"flag", GgufScalar{Type::kBool, std::int64_t{1}}},
                   {"words", std::vector<std::string>{"x", ""}},
                   {"ints", std::vector<std::int32_t>{-1, 2}},
                   {"reals", std::vector<float>{0.5f}}};
  plan.tensors = {{"a", Format::kF32, {2, 3}}, {"b", Format::kQ8_0, {2, 32}}};
  write_gguf(path, plan, [&](std::size_t index) { return bytes_of(index == 0 ? first : second); });

  const GgufFile file(path);
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("i8"), -5);
  EXPECT_EQ(file.integer("u16"), 65535);
  EXPECT_EQ(file.integer("u32"), 4000000000);
  EXPECT_EQ(file.integer("u64"), std::int64_t{1} << 40);
  EXPECT_EQ(file.real("f32"), static_cast<double>(1e-5f));
  EXPECT_EQ(file.real("f64"), 0.1);
  EXPECT_EQ(file.find_bool("flag"), true);
  EXPECT_THAT(std::get<std::vector<std::string_view>>(*file.find_array("words")), ElementsAre("x", ""));
  EXPECT_THAT(std::get<std::vector<std::int64_t>>(*file.find_array("ints")), ElementsAre(-1, 2));
  EXPECT_THAT(std::get<std::vector<double>>(*file.find_array("reals")), ElementsAre(0.5));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].shape, (Shape{2, 3}));
  EXPECT_EQ(text_of(file.tensors()[0].bytes), first);
  EXPECT_EQ(file.tensors()[1].format, Format::kQ8_0);
  EXPECT_EQ(text_of(file.tensors()[1].bytes), second);
  std::filesystem::remove(path);
}

TEST(GgufWriter, RewritesGgmlsFileByteForByte) {
  const std::filesystem::path source = golden("tensor/every_type.gguf");
  const auto path = std::filesystem::path(testing::TempDir()) / "again.gguf";
  const GgufFile file(source);
  const auto whole = [&](const char* name, Type type) {
    return std::pair<std::string, GgufWriteValue>(std::string("test.") + name,
                                                  GgufScalar{type, file.integer(std::string("test.") + name)});
  };
  GgufPlan plan;
  plan.metadata = {whole("u8", Type::kU8),
                   whole("i8", Type::kI8),
                   whole("u16", Type::kU16),
                   whole("i16", Type::kI16),
                   whole("u32", Type::kU32),
                   whole("i32", Type::kI32),
                   whole("u64", Type::kU64),
                   whole("i64", Type::kI64),
                   {"test.f32", GgufScalar{Type::kF32, 0.5}},
                   {"test.f64", GgufScalar{Type::kF64, 0.1}},
                   {"test.bool", GgufScalar{Type::kBool, std::int64_t{1}}},
                   {"general.architecture", GgufScalar{Type::kString, std::string("llama")}},
                   {"test.words", std::vector<std::string>{"a", "", "\u00e9t\u00e9"}},
                   {"test.numbers", std::vector<std::int32_t>{-1, 0, 70000}},
                   {"test.scores", std::vector<float>{0.25f, -1e9f}}};
  for (const Tensor& tensor : file.tensors()) plan.tensors.push_back({tensor.name, tensor.format, tensor.shape});
  write_gguf(path, plan, [&](std::size_t index) { return file.tensors()[index].bytes; });
  EXPECT_TRUE(read_text(path) == read_text(source));
  std::filesystem::remove(path);
}

TEST(GgufWriter, LeavesNothingBehindWhenATensorFails) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "failing";
  std::filesystem::create_directory(folder);
  GgufPlan plan;
  plan.tensors = {{"a", Format::kF32, {2}}};
  EXPECT_THROW(
      write_gguf(folder / "x.gguf", plan, [](std::size_t) -> std::span<const std::byte> { throw std::runtime_error("stop"); }),
      std::runtime_error);
  expect_error(ErrorKind::kInternal, "tensor a: 3 bytes were produced, expected 8",
               [&] { write_gguf(folder / "x.gguf", plan, [](std::size_t) { return bytes_of("abc"); }); });
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove(folder);
}

TEST(GgufWriter, RefusesWhatGgufCannotHold) {
  const auto nothing = [](std::size_t) { return std::span<const std::byte>(); };
  GgufPlan plan;
  plan.tensors = {{"a", Format::kF8E4M3, {2}}};
  expect_error(ErrorKind::kInternal, "GGUF cannot hold f8_e4m3", [&] { write_gguf("/nowhere/x.gguf", plan, nothing); });
  plan.tensors = {{"a", Format::kQ4_K, {2, 128}}};
  expect_error(ErrorKind::kInternal, "rows of 128 values are not whole blocks of q4_k",
               [&] { write_gguf("/nowhere/x.gguf", plan, nothing); });
  plan.tensors.clear();
  plan.metadata = {{"k", GgufScalar{Type::kU32, 0.5}}};
  expect_error(ErrorKind::kInternal, "does not match its GGUF type 4", [&] { write_gguf("/nowhere/x.gguf", plan, nothing); });
  plan.metadata.clear();
  expect_error(ErrorKind::kBadInput, "cannot create the file: No such file or directory",
               [&] { write_gguf("/nowhere/x.gguf", plan, nothing); });
}

}  // namespace
}  // namespace puna
