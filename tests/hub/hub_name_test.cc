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

TEST(HubName, SafePaths) {
  for (const char* path : {"config.json", "a/b.safetensors", "original/consolidated.00.pth", ".gitattributes", "a..b"}) {
    EXPECT_TRUE(is_safe_repository_path(path)) << path;
  }
  for (const char* path : {"", "/etc/passwd", "..", "../a", "a/../b", "a//b", "./a", "a/", "a\\b", "a\nb", "C:x"}) {
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
