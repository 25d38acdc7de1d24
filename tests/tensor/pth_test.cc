// SPDX-License-Identifier: Apache-2.0
// Reads what torch.save writes (tools/golden/make_pth.py), refuses damage, and writes what it reads.
#include "tensor/pth.h"

#include <gtest/gtest.h>

#include <map>

#include "expect_error.h"
#include "shared_data.h"
#include "tensor/crc32.h"
#include "tensor/raw_bytes.h"
#include "tensor/zip_archive.h"

namespace puna {
namespace {

using testing::ElementsAre;

std::map<std::string, Tensor> by_name(const PthFile& file) {
  std::map<std::string, Tensor> out;
  for (const Tensor& tensor : file.tensors()) out[tensor.name] = tensor;
  return out;
}

std::vector<float> values_of(const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
  info(tensor.format).decode(tensor.bytes.data(), values.data(), tensor.shape.count());
  return values;
}

TEST(Pth, ReadsEveryType) {
  const PthFile file(golden("tensor/types.pth"));
  const auto tensors = by_name(file);
  ASSERT_EQ(tensors.size(), 5u);
  EXPECT_EQ(tensors.at("f32").format, Format::kF32);
  EXPECT_EQ(tensors.at("f32").shape, (Shape{3, 4}));
  EXPECT_EQ(tensors.at("f16").format, Format::kF16);
  EXPECT_EQ(tensors.at("f16").shape, (Shape{2, 6}));
  EXPECT_EQ(tensors.at("bf16").format, Format::kBF16);
  for (std::size_t i = 0; i < 12; ++i) {
    EXPECT_EQ(values_of(tensors.at("f32"))[i], static_cast<float>(i));
    EXPECT_EQ(values_of(tensors.at("f16"))[i], static_cast<float>(i) / 8);
    EXPECT_EQ(values_of(tensors.at("bf16"))[i], static_cast<float>(i) * 3);
  }
  EXPECT_EQ(tensors.at("scalar").shape, Shape());
  EXPECT_THAT(values_of(tensors.at("scalar")), ElementsAre(2.5f));
  EXPECT_EQ(tensors.at("empty").shape, (Shape{0, 4}));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensors.at("f32").bytes.data()) % 64, 0u) << "in place, in the mapping";
}

TEST(Pth, ReadsTiedStoragesAndOffsets) {
  const PthFile file(golden("tensor/tied.pth"));
  const auto tensors = by_name(file);
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors.at("head").bytes.data(), tensors.at("embedding").bytes.data());
  EXPECT_THAT(values_of(tensors.at("rows")), ElementsAre(8, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_EQ(tensors.at("flat").shape, Shape{13});
  EXPECT_EQ(values_of(tensors.at("flat")).front(), 7.0f);
}

TEST(Pth, ReadsNestedDictionariesAndParameters) {
  const PthFile file(golden("tensor/nested.pth"));
  const auto tensors = by_name(file);
  ASSERT_EQ(tensors.size(), 7u);
  EXPECT_THAT(values_of(tensors.at("model.0.weight")), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(values_of(tensors.at("model.1.bias")), ElementsAre(30, 31));
  EXPECT_EQ(tensors.at("parameter").shape, (Shape{2, 3}));
  EXPECT_THAT(values_of(tensors.at("more.0")), ElementsAre(1, 1));
  EXPECT_THAT(values_of(tensors.at("more.1.0")), ElementsAre(0));
}

TEST(Pth, RefusesWhatItCannotMap) {
  expect_error(ErrorKind::kUnsupported,
               "[turned.pth] tensor turned is not contiguous (stride 4 in dimension 1, expected 1): call .contiguous()",
               [] { PthFile(golden("tensor/turned.pth")); });
  expect_error(ErrorKind::kUnsupported, "tensor long is stored as LongStorage, which is not read here",
               [] { PthFile(golden("tensor/long.pth")); });
  expect_error(ErrorKind::kUnsupported, "from before PyTorch 1.6 (not a zip archive): load it with PyTorch and save it again",
               [] { PthFile(golden("tensor/legacy.pth")); });
  expect_error(ErrorKind::kBadInput, "[pth] this is not a torch.save file: it is not a zip archive",
               [] { PthFile(bytes_of("hello")); });
  expect_error(ErrorKind::kBadInput, "it is not a zip archive", [] { PthFile(bytes_of("")); });
}

TEST(Pth, EveryTruncationIsRefused) {
  const std::string whole = read_text(golden("tensor/types.pth"));
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_THROW(PthFile(bytes_of(whole).first(size)), Error) << size;
}

std::filesystem::path temporary(const char* name) { return std::filesystem::path(testing::TempDir()) / name; }

// An archive of these members.
std::string archive(const std::vector<std::pair<std::string, std::string>>& members) {
  const auto path = temporary("members.zip");
  AtomicFile file(path);
  ZipWriter zip(file);
  for (const auto& [name, bytes] : members) zip.add(name, bytes_of(bytes));
  zip.finish();
  file.commit();
  const std::string text = read_text(path);
  std::filesystem::remove(path);
  return text;
}

// The pickle of {"w": tensor of `count` floats from `offset` of storage "0", which has 4}.
std::string one_tensor(int offset, int count) {
  const auto number = [](int value) { return std::string("K") + static_cast<char>(value); };
  const auto text = [](const std::string& value) { return "X" + little_endian(value.size(), 4) + value; };
  return "\x80\x02}" + text("w") + "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" +
         text("0") + text("cpu") + number(4) + "tQ" + number(offset) + number(count) + "\x85" + number(1) + "\x85\x89}tRs.";
}

void expect_refused(ErrorKind kind, std::string_view message, const std::vector<std::pair<std::string, std::string>>& members) {
  const std::string file = archive(members);
  expect_error(kind, message, [&] { PthFile(bytes_of(file), "x.pth"); });
}

TEST(Pth, ChecksTheStorage) {
  const std::string data(16, 'x');
  const std::string good = archive({{"m/data.pkl", one_tensor(1, 3)}, {"m/data/0", data}});
  EXPECT_EQ(PthFile(bytes_of(good)).tensors()[0].bytes.size(), 12u);
  expect_refused(ErrorKind::kBadInput, "[x.pth] the archive has no member data.pkl", {{"m/other", ""}});
  expect_refused(ErrorKind::kBadInput, "tensor w: the archive has no storage \"0\"", {{"m/data.pkl", one_tensor(0, 4)}});
  expect_refused(ErrorKind::kBadInput, "tensor w: its storage has 12 bytes, expected 4 elements of FloatStorage",
                 {{"m/data.pkl", one_tensor(0, 4)}, {"m/data/0", data.substr(4)}});
  expect_refused(ErrorKind::kBadInput, "tensor w of shape [4] at element 1 does not fit in its storage of 16 bytes",
                 {{"m/data.pkl", one_tensor(1, 4)}, {"m/data/0", data}});
  expect_refused(ErrorKind::kUnsupported, "the tensors are stored big-endian, expected little-endian",
                 {{"m/data.pkl", one_tensor(0, 4)}, {"m/data/0", data}, {"m/byteorder", "big"}});
}

// --- zip archives ---

void expect_zip_refused(ErrorKind kind, std::string_view message, const std::string& file) {
  expect_error(kind, message, [&] { read_zip(bytes_of(file), "x.pth"); });
}

std::string patched(std::string file, std::size_t at, const std::string& bytes) { return file.replace(at, bytes.size(), bytes); }

TEST(Zip, ReadsItsOwnAlignedMembers) {
  const std::string file = archive({{"a", "first"}, {"folder/b", ""}, {"c", std::string(100, 'z')}});
  const auto members = read_zip(bytes_of(file), "x.pth");
  ASSERT_EQ(members.size(), 3u);
  EXPECT_EQ(text_of(members.at("a")), "first");
  EXPECT_TRUE(members.at("folder/b").empty());
  EXPECT_EQ(file.find("zzz") % 64, 0u);
}

TEST(Zip, FindsTheEndBehindAComment) {
  std::string file = archive({{"a", "first"}});
  file = patched(file, file.size() - 2, little_endian(7, 2)) + "comment";
  EXPECT_EQ(text_of(read_zip(bytes_of(file), "x.pth").at("a")), "first");
}

TEST(Zip, RefusesDamage) {
  const std::string file = archive({{"a", "first"}});
  const std::size_t central = file.find("PK\x01\x02"), end64 = file.find("PK\x06\x06");
  expect_zip_refused(ErrorKind::kBadInput, "[x.pth] the zip archive has no end record: the file is incomplete", "PK\x03\x04");
  expect_zip_refused(ErrorKind::kUnsupported, "member a is compressed (method 8): save the file again",
                     patched(file, central + 10, "\x08"));
  expect_zip_refused(ErrorKind::kUnsupported, "member a is encrypted", patched(file, central + 8, "\x01"));
  expect_zip_refused(ErrorKind::kBadInput, "directory entry 0 is damaged", patched(file, central, "XX"));
  expect_zip_refused(ErrorKind::kBadInput, "no member begins at byte 0", patched(file, 0, "XX"));
  expect_zip_refused(ErrorKind::kBadInput, "the zip64 end record is not where it should be", patched(file, end64, "XX"));
  expect_zip_refused(ErrorKind::kBadInput, "member a lacks its zip64 sizes", patched(file, central + 47, "\x07"));
  expect_zip_refused(ErrorKind::kBadInput, "member a is stored, but its two sizes differ (9, 5)",
                     patched(file, central + 51, "\x09"));
  expect_zip_refused(ErrorKind::kBadInput, "a member of 1099511627781 bytes at byte 64 is outside the file",
                     patched(file, central + 51, little_endian((1ull << 40) + 5, 8) + little_endian((1ull << 40) + 5, 8)));
  expect_zip_refused(ErrorKind::kBadInput, "the zip directory of", patched(file, end64 + 40, little_endian(~0ull, 8)));
  expect_zip_refused(ErrorKind::kBadInput, "a directory entry of 46 bytes",
                     patched(file, end64 + 32, little_endian(1ull << 60, 8)));
  const std::string twice = archive({{"a", "1"}, {"a", "2"}});
  expect_zip_refused(ErrorKind::kBadInput, "member a is there twice", twice);
}

TEST(Crc32, CheckValues) {
  EXPECT_EQ(crc32(bytes_of("")), 0u);
  EXPECT_EQ(crc32(bytes_of("123456789")), 0xcbf43926u);
  EXPECT_EQ(crc32(bytes_of("The quick brown fox jumps over the lazy dog")), 0x414fa339u);
}

// --- the writer ---

TEST(PthWriter, WritesWhatTheReaderReads) {
  const auto path = temporary("written.pth");
  const std::string data[] = {std::string(24, 'a'), std::string(8, 'b'), std::string(6, 'c'), "d", ""};
  write_pth(path,
            {{"layers.0.w", Format::kF32, {2, 3}},
             {"b", Format::kBF16, {4}},
             {"h", Format::kF16, {3, 1}},
             {"f8", Format::kF8E4M3, {}},
             {"e", Format::kF32, {0, 2}}},
            [&](std::size_t index) { return bytes_of(data[index]); });
  const PthFile file(path);
  ASSERT_EQ(file.tensors().size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(text_of(file.tensors()[i].bytes), data[i]);
  EXPECT_EQ(file.tensors()[0].name, "layers.0.w");
  EXPECT_EQ(file.tensors()[0].shape, (Shape{2, 3}));
  EXPECT_EQ(file.tensors()[1].format, Format::kBF16);
  EXPECT_EQ(file.tensors()[2].format, Format::kF16);
  EXPECT_EQ(file.tensors()[3].format, Format::kF8E4M3);
  EXPECT_EQ(file.tensors()[3].shape, Shape());
  EXPECT_EQ(file.tensors()[4].shape, (Shape{0, 2}));
  std::filesystem::remove(path);
}

TEST(PthWriter, RefusesMistakesOfTheCaller) {
  const auto path = temporary("never.pth");
  const auto nothing = [](std::size_t) { return std::span<const std::byte>(); };
  expect_error(ErrorKind::kInternal, "a .pth file cannot hold q8_0", [&] {
    write_pth(path, {{"w", Format::kQ8_0, {32}}}, nothing);
  });
  expect_error(ErrorKind::kInternal, "tensor w is there twice", [&] {
    write_pth(path, {{"w", Format::kF32, {1}}, {"w", Format::kF32, {1}}}, nothing);
  });
  expect_error(ErrorKind::kInternal, "0 bytes were produced, expected 4", [&] {
    write_pth(path, {{"w", Format::kF32, {1}}}, nothing);
  });
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace puna
