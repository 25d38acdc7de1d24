// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_name.h"

#include <gtest/gtest.h>

namespace puna {
namespace {

TEST(HubName, RepositoryRevisionAndQuantization) {
  EXPECT_EQ(parse_hub_name("meta-llama/Llama-3.1-8B"), (HubName{"meta-llama/Llama-3.1-8B", "main", ""}));
  EXPECT_EQ(parse_hub_name("org/name:v1.0"), (HubName{"org/name", "v1.0", ""}));
  EXPECT_EQ(parse_hub_name("org/name:refs/pr/1"), (HubName{"org/name", "refs/pr/1", ""}));
  EXPECT_EQ(parse_hub_name("org/name:Q4_K_M"), (HubName{"org/name", "main", "Q4_K_M"}));
}

TEST(HubName, RefusesPathsAndTricks) {
  for (const char* text : {"", "name", "org/", "/name", "../name", "org/..", "org/na me", "a/b/c", "org/name:", "org/name:../../x",
                           "org/name:/etc", "org/.name", "-org/name", "https://host/name", "org/a--b"}) {
    EXPECT_EQ(parse_hub_name(text), std::nullopt) << text;
  }
  EXPECT_EQ(parse_hub_name("org/" + std::string(97, 'a')), std::nullopt);
}

TEST(HubName, TellsQuantizationsFromRevisions) {
  for (const char* text : {"Q4_K_M", "q8_0", "IQ2_XS", "TQ1_0", "F16", "bf16", "f32", "Q6_K", "Q3_K_L"}) {
    EXPECT_TRUE(looks_like_quantization(text)) << text;
  }
  for (const char* text :
       {"main", "v1.0", "quick", "q", "q9_0", "Q4-K", "f64", "0123456789abcdef0123456789abcdef01234567", "q4x"}) {
    EXPECT_FALSE(looks_like_quantization(text)) << text;
  }
}

TEST(HubName, TheTypeInAFilesName) {
  EXPECT_EQ(quantization_in("Llama-3.2-1B-Instruct-Q4_K_M.gguf"), "Q4_K_M");
  EXPECT_EQ(quantization_in("big/m-F16-00001-of-00002.gguf"), "F16");
  EXPECT_EQ(quantization_in("m.q8_0.gguf"), "q8_0");
  EXPECT_EQ(quantization_in("Q8_0/model.gguf"), "") << "the folder is not the file";
  EXPECT_EQ(quantization_in("model.gguf"), "");
  EXPECT_EQ(quantization_in(""), "");
}

// What a server is asked for from outside: none of them may become a path.
TEST(HubName, NamesThatLeadSomewhere) {
  std::vector<std::string> evil = {"",
                                   "/",
                                   "//",
                                   ".",
                                   "..",
                                   "a",
                                   "../..",
                                   "a/..",
                                   "../a",
                                   "a/../b",
                                   "/etc/passwd",
                                   "a//b",
                                   "a/b/c",
                                   "a/",
                                   "/a",
                                   "a/.b",
                                   ".a/b",
                                   "a/b.",
                                   "a/-b",
                                   "a/b-",
                                   "a--b/c",
                                   "a/b--c",
                                   "a\\b",
                                   "a/b\\c",
                                   "C:/a",
                                   "a/b:..",
                                   "a/b:../c",
                                   "a/b:/etc",
                                   "a/b:c/../d",
                                   "a/b:c//d",
                                   "a/b:",
                                   "a/b:c:d",
                                   "a/b\n",
                                   "a/b\t",
                                   "a b/c",
                                   "a/b c",
                                   "~/a",
                                   "a/~",
                                   "$HOME/a",
                                   "a/$(id)",
                                   "a/`id`",
                                   "a/b;c",
                                   "a/b|c",
                                   "a/b&c",
                                   "a/%2e%2e",
                                   "%2e%2e/a",
                                   "a/..%2f",
                                   "a/b?c",
                                   "a/b#c",
                                   "a/b*",
                                   "a/[b]",
                                   "file:///a",
                                   "http://a/b",
                                   "hf://a/b",
                                   "a/\xc3\xa9",
                                   "a/\xe2\x80\xa5",
                                   "a/\xef\xbc\x8e\xef\xbc\x8e",
                                   "a/b:\x7f",
                                   "a/b:c\\d",
                                   "models--a--b/../c"};
  evil.emplace_back("a/b\0", 4);
  evil.emplace_back("a/b\0c", 5);
  evil.emplace_back("a/b:c\0", 6);
  evil.push_back("a/" + std::string(97, 'b'));
  evil.push_back(std::string(97, 'a') + "/b");
  evil.push_back("a/b:" + std::string(4096, 'c'));
  for (int c = 0; c < 0x20; ++c) evil.push_back(std::string("a/b") + static_cast<char>(c) + "c");
  for (const std::string& name : evil) EXPECT_EQ(parse_hub_name(name), std::nullopt) << name;
}

TEST(HubName, SafePaths) {
  for (const char* path :
       {"config.json", "a/b.safetensors", "original/consolidated.00.pth", ".gitattributes", "a..b", "caf\xc3\xa9.json"}) {
    EXPECT_TRUE(is_safe_repository_path(path)) << path;
  }
  for (const char* path : {"", "/etc/passwd", "..", "../a", "a/../b", "a//b", "./a", "a/", "a\\b", "a\nb", "a\tb", "C:x", "a\x1b]b",
                           "a\x7f", "a\xc2\x80", "a\xc2\x9b[31m", "a\x9b", "a\xc3", "a\xed\xa0\x80"}) {
    EXPECT_FALSE(is_safe_repository_path(path)) << path;
  }
  EXPECT_TRUE(is_safe_etag("0123abcdef"));
  for (const char* etag : {"", "../x", "a/b", ".hidden", "a b"}) EXPECT_FALSE(is_safe_etag(etag)) << etag;
}

TEST(HubName, CacheFolders) {
  EXPECT_EQ(cache_folder_name("org/a-b"), "models--org--a-b");
  EXPECT_EQ(repository_of_folder("models--org--a-b"), "org/a-b");
  for (const char* folder : {"datasets--org--a", "models--org", "models----a", "models--..--a", ".locks"}) {
    EXPECT_EQ(repository_of_folder(folder), std::nullopt) << folder;
  }
}

}  // namespace
}  // namespace puna
