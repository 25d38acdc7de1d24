// SPDX-License-Identifier: Apache-2.0
// What a path is: kinds, folders with something missing, and files that are not models.
#include "model/checkpoint.h"

#include <gtest/gtest.h>

#include "checkpoint_fixture.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

class RecogniseCheckpoint : public CheckpointTest {
 protected:
  void refuses(ErrorKind kind, const std::string& text, const fs::path& path) {
    expect_error(kind, text, [&] { recognise_checkpoint(path); });
    expect_error(kind, text, [&] { open_checkpoint(path); });
  }
};

TEST_F(RecogniseCheckpoint, Kinds) {
  EXPECT_EQ(recognise_checkpoint(golden("model/scaled/hf")), CheckpointKind::kHuggingFace);
  EXPECT_EQ(recognise_checkpoint(golden("model/scaled/hf_sharded")), CheckpointKind::kHuggingFace);
  EXPECT_EQ(recognise_checkpoint(golden("model/scaled/meta_2")), CheckpointKind::kMeta);
  EXPECT_EQ(recognise_checkpoint(golden("model/scaled/bf16.gguf")), CheckpointKind::kGguf);
}

TEST_F(RecogniseCheckpoint, GgufByItsBytesWhateverItsName) {
  fs::copy_file(golden("model/wide/bf16.gguf"), folder_ / "model");
  EXPECT_EQ(recognise_checkpoint(folder_ / "model"), CheckpointKind::kGguf);
  fs::rename(folder_ / "model", folder_ / "model.gguf");
  EXPECT_EQ(open_checkpoint(folder_)->where, "model.gguf");  // the only one in its folder
  fs::copy_file(folder_ / "model.gguf", folder_ / "other.gguf");
  refuses(ErrorKind::kUsage, "the folder holds 2 GGUF models (model.gguf, …): give the path of one", folder_);
}

TEST_F(RecogniseCheckpoint, PathsThatAreNotThere) {
  refuses(ErrorKind::kNotFound, "no such file or folder", folder_ / "nothing");
  refuses(ErrorKind::kNotFound, "no model in this folder: expected config.json with *.safetensors, params.json", folder_);
}

TEST_F(RecogniseCheckpoint, FoldersWithSomethingMissing) {
  const fs::path hf = copy("scaled/hf"), meta = copy("scaled/meta");
  fs::remove(hf / "model.safetensors");
  refuses(ErrorKind::kNotFound, "config.json is here but no *.safetensors: run puna pull again", hf);
  write_text(hf / "pytorch_model.bin", "x");
  refuses(ErrorKind::kUnsupported, "pytorch_model.bin holds PyTorch weights of a Hugging Face folder", hf);
  write_text(folder_ / "w" / "model.safetensors", "x");
  refuses(ErrorKind::kNotFound, "model.safetensors is here but config.json is missing", folder_ / "w");
  fs::rename(meta / "params.json", folder_ / "params.json");
  refuses(ErrorKind::kNotFound, "consolidated.00.pth is here but params.json is missing", meta);
  refuses(ErrorKind::kNotFound, "params.json is here but no consolidated.*.pth", folder_);
}

TEST_F(RecogniseCheckpoint, SingleFilesOfAFolder) {
  refuses(ErrorKind::kUsage, "one file of a checkpoint folder: give the folder itself",
          golden("model/scaled/hf/model.safetensors"));
  refuses(ErrorKind::kUsage, "give the folder itself", golden("model/scaled/hf/config.json"));
  refuses(ErrorKind::kUsage, "give the folder itself", golden("model/scaled/meta/consolidated.00.pth"));
  refuses(ErrorKind::kBadInput, "not a model: the file does not start with \"GGUF\"", golden("model/scaled.npy"));
  write_text(folder_ / "empty.gguf", "");
  refuses(ErrorKind::kBadInput, "[empty.gguf] not a model", folder_ / "empty.gguf");
}

TEST_F(RecogniseCheckpoint, GitLfsPointersAreNamed) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
  write_text(folder_ / "m.gguf", pointer);
  refuses(ErrorKind::kBadInput, "[m.gguf] a Git LFS pointer stands here instead of the file", folder_ / "m.gguf");
  const fs::path hf = copy("scaled/hf"), meta = copy("scaled/meta");
  const auto opens = [](const fs::path& path, const std::string& text) {
    expect_error(ErrorKind::kBadInput, text, [&] { open_checkpoint(path); });
  };
  write_text(hf / "tokenizer.json", pointer);
  opens(hf, "[tokenizer.json] a Git LFS pointer");
  write_text(hf / "model.safetensors", pointer);
  opens(hf, "[model.safetensors] a Git LFS pointer");
  write_text(meta / "consolidated.00.pth", pointer);
  opens(meta, "[consolidated.00.pth] a Git LFS pointer");
}

TEST_F(RecogniseCheckpoint, HuggingFaceCache) {
  const fs::path cache = folder_ / "models--meta-llama--Llama-Tiny";
  fs::create_directories(cache / "snapshots");
  refuses(ErrorKind::kNotFound, "0 revisions under snapshots/ and refs/main names none of them", cache);
  fs::copy(golden("model/scaled/hf"), cache / "snapshots" / "aaa");
  EXPECT_EQ(open_checkpoint(cache)->config.name, "meta-llama/Llama-Tiny");
  fs::copy(golden("model/tied/hf"), cache / "snapshots" / "bbb");
  refuses(ErrorKind::kNotFound, "2 revisions under snapshots/", cache);
  write_text(cache / "refs" / "main", "bbb\n");
  EXPECT_TRUE(open_checkpoint(cache)->config.tied_embeddings);
}

TEST(OpenTokenizer, WithoutOneSaysWhatWasExpected) {
  expect_error(ErrorKind::kUnsupported, "no tokenizer here: expected tokenizer.json, tokenizer.model or a GGUF file with one",
               [] { open_tokenizer(golden("model/scaled/bf16.gguf")); });
  expect_error(ErrorKind::kUnsupported, "no tokenizer here", [] { open_tokenizer(golden("model/scaled/hf")); });
  expect_error(ErrorKind::kNotFound, "no such file or folder", [] { open_tokenizer(golden("model/none")); });
}

TEST(OpenTokenizer, FromGgufAndFromABareFile) {
  PUNA_NEEDS_SHARED("stories260K");
  const auto gguf = open_tokenizer(shared_data("stories260K/stories260K.gguf"));
  const auto bare = open_tokenizer(shared_data("stories260K/tok512.model"));
  EXPECT_EQ(gguf->size(), 512);
  EXPECT_EQ(gguf->encode("Once upon a time"), bare->encode("Once upon a time"));
}

TEST_F(RecogniseCheckpoint, PromptFormatOfAMetaFolderComesFromItsVocabulary) {
  PUNA_NEEDS_SHARED("llama3_tokenizer");
  const fs::path meta = copy("scaled/meta");
  fs::copy_file(shared_data("llama3_tokenizer/tokenizer.model"), meta / "tokenizer.model");
  const auto checkpoint = open_checkpoint(meta);
  EXPECT_EQ(checkpoint->need_tokenizer().size(), 128256);
  EXPECT_EQ(checkpoint->need_prompt_format().frame, Frame::kLlama3);
  EXPECT_EQ(checkpoint->need_prompt_format().source, "default for Llama 3 vocabularies");
}

TEST_F(RecogniseCheckpoint, UnknownTemplatesAreKeptAndShown) {
  const fs::path hf = copy("scaled/hf");
  write_text(hf / "tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "a"},
                                              {"name": "default", "template": "{{ my own }}\n{{ template }}"}]})");
  const auto checkpoint = open_checkpoint(hf);
  EXPECT_EQ(checkpoint->chat_template, "{{ my own }}\n{{ template }}");
  expect_error(ErrorKind::kUnsupported, "not one that Puna knows ({{ my own }} {{ template }}): use --raw or --format NAME",
               [&] { checkpoint->need_prompt_format(); });
  write_text(hf / "chat_template.jinja", "{{ newer }}");  // the newer place wins
  EXPECT_EQ(open_checkpoint(hf)->chat_template, "{{ newer }}");
  const auto plain = open_checkpoint(golden("model/scaled/hf"));
  expect_error(ErrorKind::kUnsupported, "says nothing of how a conversation is written", [&] { plain->need_prompt_format(); });
}

}  // namespace
}  // namespace puna
