// SPDX-License-Identifier: Apache-2.0
// Files, folders and patterns; compressed files; token shards; files as rows.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "data_fixture.h"
#include "expect_error.h"
#include "shared_data.h"
#include "train/data/row_file.h"
#include "train/data/source_files.h"
#include "train/data/token_shard.h"
#include "train/data/unpack.h"

namespace puna {
namespace {

using testing::ElementsAre;

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(::deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  ::deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& text) {
  std::string packed(::ZSTD_compressBound(text.size()), '\0');
  packed.resize(::ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

// A megabyte that does not compress to nothing.
std::string long_text() {
  std::string text;
  for (int i = 0; text.size() < 1000000; ++i) text += fmt::format("{} times {} is {}.\n", i, i * 7919, i * i % 10007);
  return text;
}

class DataFile : public DataFiles {
 protected:
  std::vector<std::string> files(const std::string& of) const {
    std::vector<std::string> names;
    for (const auto& file : source_files(path(of))) names.push_back(std::filesystem::relative(file, folder_).string());
    return names;
  }
  std::string unpacked(const std::string& name, std::int64_t most = 1 << 30) const {
    const MappedFile file = unpack(MappedFile(path(name)), folder_, most);
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  }
  std::int64_t entries() const { return std::distance(std::filesystem::directory_iterator(folder_), {}); }
};

TEST_F(DataFile, AreFoundByNameFolderAndPattern) {
  for (const char* name : {"a/2.jsonl", "a/1.txt.gz", "a/b/3.JSON", "a/photo.png", "a/.hidden.txt", "a/.git/x.txt"})
    write(name, "x");
  EXPECT_THAT(files("a"), ElementsAre("a/1.txt.gz", "a/2.jsonl", "a/b/3.JSON"));
  EXPECT_THAT(files("a/photo.png"), ElementsAre("a/photo.png"));
  EXPECT_THAT(files("a/[0-9].*"), ElementsAre("a/1.txt.gz", "a/2.jsonl"));
  EXPECT_EQ(data_extension("x/A.JSONL.gz"), ".jsonl");
  write("empty/photo.png", "x");
  expect_error(ErrorKind::kNotFound, "the folder has no files that end in .txt, .md,", [&] { files("empty"); });
  expect_error(ErrorKind::kNotFound, "x*] no file matches this pattern", [&] { files("x*"); });
  expect_error(ErrorKind::kNotFound, "there is no such file or folder", [&] { files("absent"); });
}

TEST_F(DataFile, UnpacksToWhatWasPacked) {
  const std::string text = long_text();
  write("a.gz", gzip(text));
  write("a.zst", zstd(text));
  write("b.gz", gzip(text) + gzip("and more"));
  write("b.zst", zstd(text) + zstd("and more"));
  write("empty.gz", gzip(""));
  const auto before = entries();
  EXPECT_EQ(unpacked("a.gz"), text);
  EXPECT_EQ(unpacked("a.zst"), text);
  EXPECT_EQ(unpacked("b.gz"), text + "and more");
  EXPECT_EQ(unpacked("b.zst"), text + "and more");
  EXPECT_EQ(unpacked("empty.gz"), "");
  EXPECT_EQ(entries(), before);  // nothing is left behind
}

TEST_F(DataFile, RefusesDamagedAndEndlessFiles) {
  const std::string text = long_text();
  for (const auto& [name, packed] : {std::pair{"x.gz", gzip(text)}, std::pair{"x.zst", zstd(text)}}) {
    write(name, packed.substr(0, packed.size() / 2));
    expect_error(ErrorKind::kBadInput, "ends in the middle of its compressed data", [&, n = name] { unpacked(n); });
    std::string broken = packed;
    for (std::size_t i = broken.size() / 2; i < broken.size() / 2 + 100; ++i) broken[i] = static_cast<char>(~broken[i]);
    write(name, broken);
    EXPECT_THROW(unpacked(name), Error);
    write(name, packed);
    expect_error(ErrorKind::kNoRoom, "unpacked it is larger than 300.0 KB: split it, or allow more",
                 [&, n = name] { unpacked(n, 300000); });
  }
  write("x.gz", gzip("a") + "tail");
  expect_error(ErrorKind::kBadInput, "4 bytes that are not gzip follow", [&] { unpacked("x.gz"); });
  EXPECT_EQ(entries(), 2);
}

class Shard : public DataFile {
 protected:
  std::string shard(std::int64_t vocabulary) {
    TokenShardWriter writer(path("s.bin"), vocabulary);
    writer.add(std::vector<Token>{Token{1}, Token{2}, Token{static_cast<int>(vocabulary) - 1}});
    writer.add(std::vector<Token>{Token{4}});
    writer.finish();
    return read_text(path("s.bin"));
  }
  static void expect_refused(std::string bytes, std::size_t at, char value, const std::string& message) {
    bytes.at(at) = value;
    expect_error(ErrorKind::kBadInput, message, [&] { open(bytes); });
  }
  static TokenShard open(const std::string& bytes) { return {std::as_bytes(std::span(bytes)), "s.bin"}; }
};

TEST_F(Shard, GivesBackItsDocuments) {
  for (const std::int64_t vocabulary : {std::int64_t{300}, std::int64_t{65536}, std::int64_t{65537}, std::int64_t{128256}}) {
    const std::string bytes = shard(vocabulary);
    EXPECT_EQ(bytes.size(), vocabulary <= 65536 ? 40 + 8 + 16 : 40 + 16 + 16);
    const TokenShard read = open(bytes);
    ASSERT_EQ(read.documents(), 2);
    EXPECT_EQ(read.tokens(), 4);
    EXPECT_EQ(read.document(0), (std::vector<Token>{Token{1}, Token{2}, Token{static_cast<int>(vocabulary) - 1}}));
    EXPECT_EQ(read.document(1), std::vector<Token>{Token{4}});
  }
}

TEST_F(Shard, HasTheStatedBytes) {
  const std::string expected =
      std::string("PUNATOKS\x01\0\0\0\x02\0\0\0\x04\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x2C\x01\0\0\0\0\0\0", 40) +
      std::string("\x01\0\x02\0\x2B\x01\x04\0", 8) + std::string("\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0", 16);
  EXPECT_EQ(shard(300), expected);
}

TEST_F(Shard, IsRefusedWhereItDoesNotHoldTogether) {
  const std::string bytes = shard(300);
  expect_error(ErrorKind::kBadInput, "[s.bin] this is not a token shard", [] { open("PUNATOKS"); });
  expect_refused(bytes, 12, 3, "ids of 3 bytes, expected 2 or 4");
  expect_refused(bytes, 16, 8, "8 ids and 2 documents do not fit its 64 bytes");
  expect_refused(bytes, 31, '\xFF', "do not fit its 64 bytes");
  expect_refused(bytes, 48, 5, "document 0 of 2 ends at id 5, expected 1 to 4");
  expect_refused(bytes, 56, 2, "document 1 of 2 ends at id 2, expected 4 to 4");
  expect_error(ErrorKind::kBadInput, "not fit", [&] { open(bytes.substr(0, bytes.size() - 8)); });
  std::string small = bytes;
  small[33] = 0;  // a vocabulary of 44: found when the document is read
  expect_error(ErrorKind::kBadInput, "[s.bin] id 299 at place 2 is outside its vocabulary of 44", [&] { open(small).document(0); });
  std::string newer = bytes;
  newer[8] = 2;
  expect_error(ErrorKind::kUnsupported, "a token shard of version 2, expected 1", [&] { open(newer); });
}

class RowFiles : public DataFile {
 protected:
  RowFile open(const std::string& name, DataKind kind = DataKind::kAuto) const {
    DataOptions options;
    options.blank_line_documents = blocks_;
    return {path(name), kind, options};
  }
  static std::vector<std::string> rows(const RowFile& file) {
    std::vector<std::string> rows;
    for (std::int64_t i = 0; i < file.rows(); ++i) rows.emplace_back(file.row(i));
    return rows;
  }
  bool blocks_ = false;
};

TEST_F(RowFiles, AreLinesElementsAndDocuments) {
  write("a.jsonl", "\xEF\xBB\xBF\n{\"text\": \"a\"}\r\n\n{\"text\": \"b\"}");
  const RowFile lines = open("a.jsonl");
  EXPECT_EQ(lines.kind(), DataKind::kTextRows);
  EXPECT_THAT(rows(lines), ElementsAre("{\"text\": \"a\"}", "{\"text\": \"b\"}"));
  EXPECT_EQ(lines.where(1), path("a.jsonl") + ":4");

  write("a.json", "[\n  {\"instruction\": \"a\", \"output\": \"b\"},\n  {\"instruction\": \"c\", \"output\": \"d\"}\n]\n");
  const RowFile elements = open("a.json");
  EXPECT_EQ(elements.kind(), DataKind::kInstruction);
  EXPECT_THAT(rows(elements),
              ElementsAre("{\"instruction\": \"a\", \"output\": \"b\"}", "{\"instruction\": \"c\", \"output\": \"d\"}"));
  EXPECT_EQ(elements.where(1), path("a.json") + ":3");

  write("a.txt", "[one]\n\n two \n\n");
  EXPECT_THAT(rows(open("a.txt")), ElementsAre("[one]\n\n two \n\n"));
  blocks_ = true;
  EXPECT_THAT(rows(open("a.txt")), ElementsAre("[one]", " two"));
  EXPECT_EQ(open("a.txt").where(1), path("a.txt") + ":3");
}

TEST_F(RowFiles, CutOneLongDocumentIntoParts) {
  const std::string text = long_text() + long_text() + long_text();
  write("a.txt.zst", zstd(text));
  const RowFile file = open("a.txt.zst");
  EXPECT_EQ(file.kind(), DataKind::kText);
  ASSERT_EQ(file.rows(), 3);
  std::string all;
  for (const std::string& row : rows(file)) all += row;
  EXPECT_EQ(all, text);
  EXPECT_TRUE(file.row(0).ends_with(".\n"));
  EXPECT_TRUE(file.begins_document(0) && !file.ends_document(0) && !file.begins_document(2) && file.ends_document(2));
}

TEST_F(RowFiles, AreTheSameRowsCompressed) {
  const std::string lines = text_rows({"a", "b\nc", long_text()}), array = "[{\"text\": \"a\"},\n{\"text\": \"b\"}]";
  for (const auto& [name, content] : {std::pair{"a.jsonl", lines}, std::pair{"b.json", array}, std::pair{"c.txt", long_text()}}) {
    write(name, content);
    write(std::string(name) + ".gz", gzip(content));
    write(std::string(name) + ".zst", zstd(content));
    const RowFile plain = open(name);
    for (const std::string& packed : {std::string(name) + ".gz", std::string(name) + ".zst"}) {
      const RowFile file = open(packed);
      EXPECT_EQ(file.kind(), plain.kind());
      EXPECT_EQ(file.bytes(), plain.bytes());
      EXPECT_EQ(rows(file), rows(plain));
      EXPECT_EQ(file.where(0), path(packed) + ":1");
    }
  }
}

TEST_F(RowFiles, SayWhatTheyCannotBe) {
  write("a.jsonl", "not json\n");
  expect_error(ErrorKind::kBadInput, "cannot tell what the rows hold", [&] { open("a.jsonl"); });
  write("s.bin", "PUNATOKS");
  expect_error(ErrorKind::kBadInput, "this is a token shard, but its kind was given as text",
               [&] { open("s.bin", DataKind::kText); });
  expect_error(ErrorKind::kBadInput, "this is not a token shard", [&] { open("a.jsonl", DataKind::kTokens); });
}

}  // namespace
}  // namespace puna
