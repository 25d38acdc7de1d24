// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_files.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace puna {
namespace {

using Files = std::vector<std::string>;

const Files kLlama = {".gitattributes",
                      "LICENSE",
                      "README.md",
                      "config.json",
                      "generation_config.json",
                      "model-00001-of-00002.safetensors",
                      "model-00002-of-00002.safetensors",
                      "model.safetensors.index.json",
                      "original/consolidated.00.pth",
                      "original/params.json",
                      "original/tokenizer.model",
                      "pytorch_model.bin",
                      "pytorch_model.bin.index.json",
                      "special_tokens_map.json",
                      "tokenizer.json",
                      "tokenizer_config.json"};
const Files kGguf = {"README.md",
                     "m-IQ4_XS.gguf",
                     "m-Q4_K_M.gguf",
                     "m-Q4_K_S.gguf",
                     "BF16/m-BF16-00001-of-00002.gguf",
                     "BF16/m-BF16-00002-of-00002.gguf",
                     "mmproj-m-F16.gguf"};

TEST(ChooseFiles, SafetensorsWithTheirCompany) {
  EXPECT_EQ(choose_files(kLlama, {}, "org/m"),
            (Files{"config.json", "generation_config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                   "model.safetensors.index.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"}));
}

TEST(ChooseFiles, MetaFolder) {
  const Files files = {"README.md", "consolidated.00.pth", "consolidated.01.pth", "params.json", "tokenizer.model", "x.txt"};
  EXPECT_EQ(choose_files(files, {}, "org/m"),
            (Files{"consolidated.00.pth", "consolidated.01.pth", "params.json", "tokenizer.model"}));
}

TEST(ChooseFiles, OneGgufModel) {
  EXPECT_EQ(choose_files(kGguf, {.include = {}, .quantization = "q4_k_m"}, "org/m"), Files{"m-Q4_K_M.gguf"});
  EXPECT_EQ(choose_files(kGguf, {.include = {}, .quantization = "BF16"}, "org/m"),
            (Files{"BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf"}));
  EXPECT_EQ(choose_files(Files{"a.gguf", "README.md"}, {}, "org/m"), Files{"a.gguf"});
}

TEST(ChooseFiles, AsksWhereThereIsAChoice) {
  expect_error(ErrorKind::kUsage, "[org/m] 4 GGUF models are there: ask for one, as in org/m:Q4_K_M",
               [] { choose_files(kGguf, {}, "org/m"); });
  expect_error(ErrorKind::kNotFound, "no GGUF file is named Q4_K; there are:\n  BF16/",
               [] { choose_files(kGguf, {.include = {}, .quantization = "Q4_K"}, "org/m"); });
  expect_error(ErrorKind::kNotFound, "there are no GGUF files, so no Q8_0",
               [] { choose_files(kLlama, {.include = {}, .quantization = "Q8_0"}, "org/m"); });
  expect_error(ErrorKind::kUnsupported, "no safetensors, no GGUF", [] { choose_files(Files{"pytorch_model.bin"}, {}, "org/m"); });
}

TEST(ChooseFiles, Patterns) {
  EXPECT_EQ(choose_files(kLlama, {.include = {"original/*", "*.md"}, .quantization = ""}, "org/m"),
            (Files{"README.md", "original/consolidated.00.pth", "original/params.json", "original/tokenizer.model"}));
  expect_error(ErrorKind::kNotFound, "no file matches --include; the repository has:\n  .gitattributes",
               [] { choose_files(kLlama, {.include = {"*.zip"}, .quantization = ""}, "org/m"); });
}

TEST(ChooseFiles, LongListsAreCut) {
  Files files;
  for (int i = 0; i < 100; ++i) files.push_back("model" + std::to_string(100 + i) + ".gguf");
  expect_error(ErrorKind::kUsage, "\n  … and 60 more", [&] { choose_files(files, {}, "org/m"); });
}

TEST(NamesQuantization, WholeWords) {
  EXPECT_TRUE(names_quantization("dir/Llama-3.Q4_K_M.gguf", "q4_k_m"));
  EXPECT_FALSE(names_quantization("Llama-3-Q4_K_M.gguf", "Q4_K"));
  EXPECT_FALSE(names_quantization("Llama-3-BF16.gguf", "F16"));
  EXPECT_FALSE(names_quantization("Q4_K_M/Llama.gguf", "Q4_K_M")) << "the file's own name counts";
}

}  // namespace
}  // namespace puna
