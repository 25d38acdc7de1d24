// SPDX-License-Identifier: Apache-2.0
#include "tensor/safetensors.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "shared_data.h"
#include "tensor/raw_bytes.h"

namespace puna {
namespace {

std::string file_of(const std::string& header, std::size_t data_bytes) {
  std::string data(data_bytes, '\0');
  for (std::size_t i = 0; i < data_bytes; ++i) data[i] = static_cast<char>(i);
  return little_endian(header.size(), 8) + header + data;
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

SafetensorsFile read_safetensors(const std::string& file) { return SafetensorsFile(bytes_of(file), "x.safetensors"); }

void expect_safetensors_refused(ErrorKind kind, std::string_view message, const std::string& file) {
  expect_error(kind, message, [&] { read_safetensors(file); });
}

TEST(Safetensors, ReadsTensorsByAscendingOffset) {
  const std::string file = file_of("{\"__metadata__\":{\"format\":\"pt\"}," + entry("b", "BF16", "[2,2]", "[8,16]") + "," +
                                       entry("a", "F32", "[]", "[4,8]") + "," + entry("e", "F8_E4M3", "[4]", "[0,4]") + "," +
                                       entry("none", "F16", "[0,3]", "[4,4]") + "}  ",
                                   16);
  const SafetensorsFile safetensors = read_safetensors(file);
  EXPECT_EQ(safetensors.metadata().at("format"), "pt");
  ASSERT_EQ(safetensors.tensors().size(), 4u);
  EXPECT_EQ(safetensors.tensors()[0].name, "e");
  EXPECT_EQ(safetensors.tensors()[1].name, "none");
  EXPECT_EQ(safetensors.tensors()[1].shape, (Shape{0, 3}));
  EXPECT_EQ(safetensors.tensors()[2].name, "a");
  EXPECT_EQ(safetensors.tensors()[2].shape, Shape());
  const Tensor& b = safetensors.tensors()[3];
  EXPECT_EQ(b.format, Format::kBF16);
  EXPECT_EQ(b.shape, (Shape{2, 2}));
  EXPECT_EQ(b.bytes.front(), std::byte{8});
  EXPECT_EQ(b.bytes.size(), 8u);
}

TEST(Safetensors, AnEmptyFileOfNoTensors) { EXPECT_TRUE(read_safetensors(file_of("{}", 0)).tensors().empty()); }

TEST(Safetensors, RefusesBadHeaders) {
  expect_safetensors_refused(ErrorKind::kBadInput, "[x.safetensors] the file has 3 bytes", "abc");
  expect_safetensors_refused(ErrorKind::kBadInput, "the header claims 9223372036854775807 bytes, at most 100000000 are allowed",
                             little_endian((1ull << 63) - 1, 8));
  expect_safetensors_refused(ErrorKind::kBadInput,
                             "the header ends at byte 108, past the end of the file (10): the file is incomplete",
                             little_endian(100, 8) + "{}");
  expect_safetensors_refused(ErrorKind::kBadInput, "the header is not a JSON object", file_of("[]", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "the header is not a JSON object", file_of("", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "the header is not valid JSON at byte 5", file_of("{\"ax", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "the header is not valid JSON", file_of("{} {}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "the header is not valid JSON", file_of("{\"\xff\":1}", 0));
}

TEST(Safetensors, RefusesWhatIsNotInTheSchema) {
  expect_safetensors_refused(ErrorKind::kBadInput, "w is described by a number, expected an object", file_of("{\"w\":1}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "w is described by a list, expected an object", file_of("{\"w\":[]}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "w: the unknown field \"x\", expected dtype, shape and data_offsets",
                             file_of("{\"w\":{\"x\":1}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "w: \"dtype\" is missing", file_of("{\"w\":{}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "w: \"shape\" is missing", file_of("{\"w\":{\"dtype\":\"F32\"}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "w: \"dtype\" holds a number, expected a string",
                             file_of("{\"w\":{\"dtype\":1}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "w: \"shape\" holds a string, expected a list of whole numbers",
                             file_of("{\"w\":{\"shape\":\"\"}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "\"shape\" holds a negative number", file_of("{\"w\":{\"shape\":[-1]}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "\"shape\" holds a fraction", file_of("{\"w\":{\"shape\":[1.5]}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "\"shape\" holds a list", file_of("{\"w\":{\"shape\":[[1]]}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "\"shape\" holds null", file_of("{\"w\":{\"shape\":null}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "\"shape\" holds an object", file_of("{\"w\":{\"shape\":{}}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "\"shape\" is there twice", file_of("{\"w\":{\"shape\":[],\"shape\":[]}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "__metadata__: \"k\" holds a number, expected a string",
                             file_of("{\"__metadata__\":{\"k\":1}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "__metadata__: the key k is there twice",
                             file_of("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0));
  expect_safetensors_refused(ErrorKind::kBadInput, "__metadata__ is described by true or false, expected an object",
                             file_of("{\"__metadata__\":true}", 0));
}

TEST(Safetensors, DeepNestingEndsAtTheFirstStep) {
  expect_safetensors_refused(ErrorKind::kBadInput, "w is described by a list", file_of("{\"w\":" + std::string(1000000, '['), 0));
}

TEST(Safetensors, RefusesBadNames) {
  const std::string one = entry("w", "F32", "[1]", "[0,4]");
  expect_safetensors_refused(ErrorKind::kBadInput, "the name w is in the header twice", file_of("{" + one + "," + one + "}", 4));
  expect_safetensors_refused(ErrorKind::kBadInput, "a tensor name is empty",
                             file_of("{" + entry("", "F32", "[1]", "[0,4]") + "}", 4));
  expect_safetensors_refused(ErrorKind::kBadInput, "holds control characters",
                             file_of("{" + entry("a\\u001b", "F32", "[1]", "[0,4]") + "}", 4));
}

TEST(Safetensors, RefusesTypesAndShapes) {
  expect_safetensors_refused(ErrorKind::kUnsupported,
                             "tensor w is stored as I64, which is not read here: expected F32, F16, BF16 or F8_E4M3",
                             file_of("{" + entry("w", "I64", "[1]", "[0,8]") + "}", 8));
  expect_safetensors_refused(ErrorKind::kUnsupported, "5 dimensions",
                             file_of("{" + entry("w", "F32", "[1,1,1,1,1]", "[0,4]") + "}", 4));
  expect_safetensors_refused(ErrorKind::kBadInput, "impossible shape",
                             file_of("{" + entry("w", "F32", "[4294967296,4294967296]", "[0,4]") + "}", 4));
  expect_safetensors_refused(ErrorKind::kBadInput, "tensor w of shape [2] and type F32 takes 8 bytes, but its data_offsets span 4",
                             file_of("{" + entry("w", "F32", "[2]", "[0,4]") + "}", 4));
}

TEST(Safetensors, RefusesBadOffsets) {
  expect_safetensors_refused(ErrorKind::kBadInput, "data_offsets are not a begin and an end",
                             file_of("{" + entry("w", "F32", "[1]", "[4,0]") + "}", 4));
  expect_safetensors_refused(ErrorKind::kBadInput, "data_offsets are not a begin and an end",
                             file_of("{" + entry("w", "F32", "[1]", "[0,4,8]") + "}", 4));
  expect_safetensors_refused(ErrorKind::kBadInput,
                             "tensor w ends at byte 70, past the end of the file (68): the file is incomplete; download it again",
                             file_of("{" + entry("w", "F32", "[2]", "[0,8]") + "}", 6));
  expect_safetensors_refused(ErrorKind::kBadInput, "begins at the impossible byte",
                             file_of("{" + entry("w", "F32", "[1]", "[18446744073709551608,18446744073709551612]") + "}", 4));
  const std::string first = entry("a", "F32", "[1]", "[0,4]");
  expect_safetensors_refused(ErrorKind::kBadInput, "tensor b begins at 2, inside the tensor before it, which ends at 4",
                             file_of("{" + first + "," + entry("b", "F32", "[1]", "[2,6]") + "}", 6));
  expect_safetensors_refused(ErrorKind::kBadInput, "tensor b begins at 8, leaving a hole after 4",
                             file_of("{" + first + "," + entry("b", "F32", "[1]", "[8,12]") + "}", 12));
  expect_safetensors_refused(ErrorKind::kBadInput, "5 bytes follow the last tensor, which ends at 4",
                             file_of("{" + first + "}", 9));
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string whole = file_of("{" + entry("a", "F32", "[1]", "[0,4]") + "}", 4);
  EXPECT_EQ(read_safetensors(whole).tensors().size(), 1u);
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_THROW(read_safetensors(whole.substr(0, size)), Error) << size;
}

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  const auto path = std::filesystem::path(testing::TempDir()) / "written.safetensors";
  const std::string data[] = {"12345678", "ab", "", "x"};
  write_safetensors(path,
                    {{"layer \"0\"", Format::kF32, {2}},
                     {"half", Format::kBF16, {1, 1}},
                     {"none", Format::kF16, {0}},
                     {"f8", Format::kF8E4M3, {}}},
                    {{"format", "pt"}, {"note", "a \"quote\""}}, [&](std::size_t index) { return bytes_of(data[index]); });
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("note"), "a \"quote\"");
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors()[0].name, "layer \"0\"");
  EXPECT_EQ(text_of(file.tensors()[0].bytes), data[0]);
  EXPECT_EQ(file.tensors()[1].shape, (Shape{1, 1}));
  EXPECT_EQ(file.tensors()[3].format, Format::kF8E4M3);
  const std::string text = read_text(path);
  EXPECT_EQ(text.find("12345678") % 8, 0u) << "the data begin at a multiple of 8";
  std::filesystem::remove(path);
}

TEST(SafetensorsWriter, RefusesMistakesOfTheCaller) {
  const auto path = std::filesystem::path(testing::TempDir()) / "never.safetensors";
  const auto nothing = [](std::size_t) { return std::span<const std::byte>(); };
  expect_error(ErrorKind::kInternal, "safetensors cannot hold q4_k", [&] {
    write_safetensors(path, {{"w", Format::kQ4_K, {256}}}, {}, nothing);
  });
  expect_error(ErrorKind::kInternal, "tensor w is there twice", [&] {
    write_safetensors(path, {{"w", Format::kF32, {1}}, {"w", Format::kF32, {1}}}, {}, nothing);
  });
  expect_error(ErrorKind::kInternal, "0 bytes were produced, expected 4", [&] {
    write_safetensors(path, {{"w", Format::kF32, {1}}}, {}, nothing);
  });
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace puna
