// SPDX-License-Identifier: Apache-2.0
// Shards of a teacher: their bytes, what is refused, and how the loader brings them to batches.
#include "train/data/teacher_shard.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "data_fixture.h"
#include "expect_error.h"
#include "shared_data.h"
#include "train/data/inspect.h"

namespace puna {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<Token> as_tokens(std::initializer_list<int> ids) {
  std::vector<Token> list;
  for (const int id : ids) list.push_back(Token{id});
  return list;
}

class TeacherShards : public DataFiles {
 protected:
  // Two documents, three trained tokens; log-probabilities that F16 holds exactly.
  std::string shard(std::int64_t vocabulary = 263, const std::string& name = "t.bin") {
    TeacherShardWriter writer(path(name), vocabulary, 2);
    writer.add_document(as_tokens({256, 97, 98, 99}), {false, true, false, true});
    row(writer, {97, 120}, {-0.5f, -1.25f}, -3);
    row(writer, {5, 99}, {-2, -0.25f}, -4);
    writer.add_document(as_tokens({98, 257}), {false, true});
    row(writer, {0, 257}, {-8, -0.125f}, -2.5f);
    writer.finish();
    return read_text(path(name));
  }
  static void row(TeacherShardWriter& writer, const std::vector<std::int32_t>& ids, const std::vector<float>& log_probs,
                  float rest) {
    writer.add_row(ids.data(), log_probs.data(), rest);
  }
  static TeacherShard open(const std::string& bytes) { return {std::as_bytes(std::span(bytes)), "t.bin"}; }
  static std::string row_text(const TeacherShard& shard, std::int64_t offset) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(shard.top_k()));
    std::vector<float> log_probs(ids.size());
    const float rest = shard.read_row(offset, ids.data(), log_probs.data());
    std::string text;
    for (std::size_t i = 0; i < ids.size(); ++i) text += fmt::format("{}:{} ", ids[i], log_probs[i]);
    return text + fmt::format("{}", rest);
  }
};

TEST_F(TeacherShards, GiveBackTheirDocumentsAndRows) {
  for (const std::int64_t vocabulary : {std::int64_t{263}, std::int64_t{65536}, std::int64_t{65537}, std::int64_t{128256}}) {
    const std::string bytes = shard(vocabulary);
    const int width = vocabulary <= 65536 ? 2 : 4;
    EXPECT_EQ(bytes.size(), static_cast<std::size_t>(32 + 6 * (width + 1) + 3 * (2 * width + 6) + 2 * 16 + 24));
    const TeacherShard read = open(bytes);
    ASSERT_EQ(read.documents(), 2);
    EXPECT_EQ(read.tokens(), 6);
    EXPECT_EQ(read.trained_tokens(), 3);
    EXPECT_EQ(read.top_k(), 2);
    EXPECT_EQ(read.vocabulary(), vocabulary);
    const TeacherShard::Document first = read.document(0), second = read.document(1);
    EXPECT_EQ(first.tokens, as_tokens({256, 97, 98, 99}));
    EXPECT_EQ(first.trained, (std::vector<bool>{false, true, false, true}));
    EXPECT_EQ(row_text(read, first.offset), "97:-0.5 120:-1.25 -3");
    EXPECT_EQ(row_text(read, first.offset + read.row_bytes()), "5:-2 99:-0.25 -4");
    EXPECT_EQ(second.tokens, as_tokens({98, 257}));
    EXPECT_EQ(row_text(read, second.offset), "0:-8 257:-0.125 -2.5");
  }
}

TEST_F(TeacherShards, HaveTheStatedBytes) {
  TeacherShardWriter writer(path("s.bin"), 300, 1);
  writer.add_document(as_tokens({1, 299}), {false, true});
  row(writer, {299}, {-0.5f}, -1);
  writer.finish();
  const std::string header("PUNATEAC\x01\0\0\0\x02\0\0\0\x2C\x01\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", 32);
  const std::string document("\x01\0\x2B\x01\0\x01\x2B\x01\0\xB8\0\xBC", 12);
  const std::string index("\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", 16);
  const std::string footer("\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", 24);
  EXPECT_EQ(read_text(path("s.bin")), header + document + index + footer);
}

TEST_F(TeacherShards, KeepWhatF16CanSay) {
  TeacherShardWriter writer(path("s.bin"), 3, 3);
  writer.add_document(as_tokens({1, 2}), {false, true});
  row(writer, {0, 1, 2}, {-1e9f, 1e-7f, -16.003f}, -1e9f);
  writer.finish();
  const std::string bytes = read_text(path("s.bin"));
  const TeacherShard read = open(bytes);
  EXPECT_EQ(row_text(read, read.document(0).offset), "0:-65504 1:0 2:-16 -inf");  // all kept: nothing is outside
}

TEST_F(TeacherShards, HaveNoNameBeforeTheyAreWhole) {
  {
    TeacherShardWriter writer(path("half.bin"), 263, 2);
    writer.add_document(as_tokens({256, 97}), {false, true});
    EXPECT_FALSE(std::filesystem::exists(path("half.bin")));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(TeacherShards, AreRefusedWhereTheyDoNotHoldTogether) {
  const std::string bytes = shard();
  const auto changed = [&](std::size_t at, char value) {
    std::string other = bytes;
    other.at(at) = value;
    return other;
  };
  const auto refused = [&](const std::string& other, const std::string& message) {
    expect_error(ErrorKind::kBadInput, message, [&] { open(other); });
  };
  refused("PUNATEAC", "[t.bin] this is no shard of a teacher");
  expect_error(ErrorKind::kUnsupported, "a teacher's shard of version 2, expected 1", [&] { open(changed(8, 2)); });
  refused(changed(12, 3), "ids of 3 bytes, expected 2 or 4");
  refused(changed(24, 0), "0 likeliest of a vocabulary of 263 ids are not possible");
  refused(changed(27, 1), "likeliest of a vocabulary of 263 ids are not possible");
  refused(changed(23, 1), "are not possible");
  refused(changed(24, 1), "6 tokens, 3 of them trained, in 2 documents do not fit its 136 bytes");
  const std::size_t index = bytes.size() - 24 - 32, footer = bytes.size() - 24;
  refused(changed(footer + 7, '\x7F'), "do not fit");
  refused(changed(footer + 15, '\xFF'), "do not fit");
  refused(changed(footer + 23, '\x40'), "do not fit");
  refused(changed(index, 0), "document 1 of 2 ends at token 0 and row 2, behind 0 and 0 of 6 and 3");
  refused(changed(index + 15, '\x80'), "document 1 of 2 ends");
  refused(changed(index + 16, 4), "document 2 of 2 ends at token 4 and row 3, behind 4 and 2");
  refused(changed(index + 16, 5), "the last document ends at token 5 of 6");
  refused(bytes.substr(0, bytes.size() - 16), "do not fit");
  const auto damaged = [&](std::size_t at, char value, const std::string& message) {
    const std::string other = changed(at, value);
    const TeacherShard read = open(other);
    expect_error(ErrorKind::kBadInput, message, [&] { row_text(read, read.document(0).offset); });
  };
  damaged(35, 2, "[t.bin] id 609 at place 1 of document 1 is outside its vocabulary of 263");
  damaged(40, 1, "mark 1 at place 0 of document 1: the file is damaged");
  damaged(42, 3, "mark 3 at place 2 of document 1");
  damaged(42, 1, "document 1 marks 3 tokens as trained and has 2 rows of the teacher");
  for (const auto& [at, value] :
       {std::pair<std::size_t, char>{44, 120}, {47, 2}, {49, '\x7C'}, {49, '\x38'}, {53, '\xFC'}, {53, '\x7E'}})
    damaged(at, value, "the row at byte 44 is damaged: expected 2 ascending ids below 263");
}

std::string shown(const PackedBatch& batch) {
  std::string text;
  for (std::size_t t = 0; t < batch.tokens.size(); ++t) {
    text += fmt::format("{}>{}", id(batch.tokens[t]), id(batch.targets[t]));
    text += batch.weights[t] == 0 ? " " : "* ";
  }
  return text;
}

TEST_F(TeacherShards, BringTheirRowsToBatchesWhereTheyAreAskedFor) {
  shard();
  DataOptions taught = options({path("t.bin")});
  taught.shuffle = false;
  taught.epochs = 1;
  DataOptions plain = taught;
  taught.teacher_vocabulary = 263;
  const auto with = loader(taught), without = loader(plain);
  EXPECT_EQ(with->sources()[0].kind, DataKind::kTeacherTokens);
  const StepBatches step = with->next(100), tokens_only = without->next(100);
  ASSERT_EQ(step.batches.size(), 1U);
  const PackedBatch& batch = step.batches[0];
  EXPECT_EQ(shown(batch), "256>97* 97>98 98>99* 98>257* ");
  EXPECT_EQ(shown(tokens_only.batches.at(0)), shown(batch));
  EXPECT_TRUE(tokens_only.batches[0].teacher.empty());
  ASSERT_EQ(batch.teacher.size(), 4U);
  EXPECT_EQ(row_text(*batch.teacher[0].shard, batch.teacher[0].offset), "97:-0.5 120:-1.25 -3");
  EXPECT_EQ(batch.teacher[1].shard, nullptr);
  EXPECT_EQ(row_text(*batch.teacher[2].shard, batch.teacher[2].offset), "5:-2 99:-0.25 -4");
  EXPECT_EQ(row_text(*batch.teacher[3].shard, batch.teacher[3].offset), "0:-8 257:-0.125 -2.5");
  const std::string state = with->state();
  const auto again = loader(taught);
  again->restore(state);
  EXPECT_TRUE(again->next(100).batches.empty());
}

TEST_F(TeacherShards, StayAsLongAsTheTeacherSawThem) {
  shard();
  DataOptions taught = options({path("t.bin")});
  taught.teacher_vocabulary = 263;
  taught.sequence_length = taught.batch_tokens = 2;
  taught.epochs = 1;
  const auto dropped = loader(taught);
  EXPECT_EQ(shown(dropped->next(10).batches.at(0)), "98>257* ");
  EXPECT_THAT(dropped->report().text(), HasSubstr("t.bin: document 1: 3 tokens, more than the sequence length of 2"));
  taught.over_long = OverLong::kTruncate;
  taught.shuffle = false;
  const auto cut = loader(taught);
  const StepBatches step = cut->next(10);
  EXPECT_EQ(shown(step.batches.at(0)), "256>97* 98>257* ");
  EXPECT_EQ(row_text(*step.batches[0].teacher.at(0).shard, step.batches[0].teacher[0].offset), "97:-0.5 120:-1.25 -3");
}

TEST_F(TeacherShards, MustBeOfTheSameVocabularyAndAllOfThem) {
  shard();
  write("a.jsonl", text_rows({"a"}));
  DataOptions taught = options({path("t.bin"), path("a.jsonl")});
  taught.teacher_vocabulary = 263;
  expect_error(ErrorKind::kUsage, "a.jsonl] holds nothing that a teacher says: name one in distillation.teacher",
               [&] { loader(taught); });
  taught = options({path("t.bin")});
  taught.teacher_vocabulary = 300;
  expect_error(ErrorKind::kBadInput, "t.bin] is of a teacher with 263 tokens in its vocabulary, the model has 300",
               [&] { loader(taught); });
  shard(128256, "big.bin");
  const std::string bytes = read_text(path("big.bin"));
  TeacherShardWriter other(path("other.bin"), 128256, 1);
  other.add_document(as_tokens({1, 128000}), {false, true});
  row(other, {1}, {-0.5f}, -1);
  other.finish();
  expect_error(ErrorKind::kBadInput, "id 128000 is outside the tokenizer's vocabulary of 263",
               [&] { loader(options({path("other.bin")}))->next(9); });
  DataOptions wrong = options({path("t.bin")});
  wrong.sources[0].kind = DataKind::kText;
  expect_error(ErrorKind::kBadInput, "this is a token shard, but its kind was given as text", [&] { loader(wrong); });
}

TEST_F(TeacherShards, AreShownByInspect) {
  shard();
  DataOptions taught = options({path("t.bin")});
  taught.shuffle = false;
  EXPECT_THAT(inspect(*loader(taught), 1, InspectStyle::kPlain), testing::Not(HasSubstr("the teacher's")));
  taught.teacher_vocabulary = 263;
  const std::string text = inspect(*loader(taught), 1, InspectStyle::kPlain);
  EXPECT_THAT(text, HasSubstr("t.bin: 2 rows of teacher_tokens in 1 file, "));
  EXPECT_THAT(text, HasSubstr("<|begin_of_text|>«a»b«c»\nthe teacher's 2 likeliest of 263 tokens:\n"
                              "  'a' is 'a' 0.607, 'x' 0.287, outside all 0.0498\n"
                              "  'c' is 'c' 0.779, '\\x05' 0.135, outside all 0.0183\n"));
}

}  // namespace
}  // namespace puna
