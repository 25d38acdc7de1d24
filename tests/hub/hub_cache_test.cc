// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "expect_error.h"
#include "temp_folder.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

class HubCache : public testing::Test {
 protected:
  void write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  // A file of a model's revision, stored as the hub's cache does.
  void add(const std::string& repository, const std::string& commit, const std::string& file, const std::string& text) {
    const fs::path model = root_ / cache_folder_name(repository);
    write(model / "blobs" / (commit + file), text);
    fs::create_directories((model / "snapshots" / commit / file).parent_path());
    fs::create_symlink(model / "blobs" / (commit + file), model / "snapshots" / commit / file);
    write(model / "refs" / "main", commit);
  }
  fs::path find(const std::string& argument) { return find_model_in(root_, argument); }

  TempFolder folder_;
  fs::path root_ = folder_.path();
};

TEST_F(HubCache, Lists) {
  add("org/b", "c1", "model.safetensors", "12345");
  add("org/a", "c1", "a.gguf", "123");
  fs::create_directories(root_ / "datasets--org--x");
  const auto models = cached_models(root_);
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[0].repository, "org/a");
  EXPECT_EQ(models[0].kind, "gguf");
  EXPECT_EQ(models[1].bytes, 5);
  EXPECT_EQ(models[1].revisions, std::vector<std::string>{"main"});
  EXPECT_TRUE(cached_models(root_ / "absent").empty());
}

TEST_F(HubCache, StepsOverALinkInACircle) {
  add("org/a", "c1", "a.gguf", "123");
  fs::create_directory_symlink(root_ / "models--org--circle", root_ / "models--org--circle");
  ASSERT_EQ(cached_models(root_).size(), 1U);
  EXPECT_EQ(cached_models(root_).front().repository, "org/a");
}

TEST_F(HubCache, FindsAFolderOrAFile) {
  add("org/folder", "c1", "model.safetensors", "x");
  add("org/gguf", "c2", "m-Q8_0.gguf", "x");
  EXPECT_EQ(find("org/folder"), root_ / "models--org--folder/snapshots/c1");
  EXPECT_EQ(find("org/folder:c1"), root_ / "models--org--folder/snapshots/c1");
  EXPECT_EQ(find("gguf"), root_ / "models--org--gguf/snapshots/c2/m-Q8_0.gguf");
  EXPECT_EQ(find("gguf:q8_0"), root_ / "models--org--gguf/snapshots/c2/m-Q8_0.gguf");
  EXPECT_EQ(find(root_.string()), root_) << "a path that exists is itself";
}

TEST_F(HubCache, NamesEachOfSeveralFiles) {
  add("org/folder", "c1", "model.safetensors", "x");
  add("org/one", "c2", "m.gguf", "x");
  for (const char* file :
       {"m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-F16-00001-of-00002.gguf", "m-F16-00002-of-00002.gguf", "unnamed.gguf"})
    add("org/several", "c3", file, "x");
  std::vector<std::string> names;
  for (const CachedModel& model : cached_models(root_)) {
    for (const std::string& name : names_of_cached(root_, model)) {
      EXPECT_TRUE(fs::exists(find(name))) << name;
      names.push_back(name);
    }
  }
  const std::vector<std::string> expected = {"org/folder", "org/one", "org/several:F16", "org/several:Q4_K_M", "org/several:Q8_0"};
  EXPECT_EQ(names, expected);
}

TEST_F(HubCache, AsksWhereThereAreSeveral) {
  add("org/gguf", "c2", "m-Q8_0.gguf", "x");
  add("org/gguf", "c2", "m-Q4_K_M.gguf", "x");
  add("other/gguf", "c3", "m.gguf", "x");
  expect_error(ErrorKind::kUsage, "2 GGUF files of this model: say which, as in org/gguf:Q4_K_M", [&] { find("org/gguf"); });
  expect_error(ErrorKind::kUsage, "several cached models have this name", [&] { find("gguf"); });
  EXPECT_EQ(find("org/gguf:Q4_K_M").filename(), "m-Q4_K_M.gguf");
}

TEST_F(HubCache, SaysWhatToDoWhereNothingIsThere) {
  add("org/model", "c1", "model.safetensors", "x");
  expect_error(ErrorKind::kNotFound, "did you mean org/model?: run puna pull org/modle", [&] { find("org/modle"); });
  expect_error(ErrorKind::kNotFound, "no such file, and no model of this name", [&] { find("nothing"); });
  expect_error(ErrorKind::kNotFound, "no such file or folder", [&] { find("/no/such.gguf"); });
  expect_error(ErrorKind::kNotFound, "run puna pull org/model:Q8_0", [&] { find("org/model:Q8_0"); });
  expect_error(ErrorKind::kNotFound, "no such file", [&] { find(""); });
}

TEST_F(HubCache, AReferenceCannotLeadOut) {
  add("org/model", "c1", "model.safetensors", "x");
  write(root_ / "models--org--model/refs/main", "../../..");
  EXPECT_EQ(cached_snapshot(root_, {"org/model", "main", ""}), std::nullopt);
}

TEST_F(HubCache, RemovesOneModel) {
  add("org/a", "c1", "a.gguf", "123");
  add("org/b", "c1", "b.gguf", "1");
  EXPECT_EQ(remove_cached_model(root_, cached_model(root_, "a")), 3);
  EXPECT_FALSE(fs::exists(root_ / "models--org--a"));
  EXPECT_TRUE(fs::exists(root_ / "models--org--b"));
}

TEST(HubCacheRoot, FollowsTheEnvironment) {
  ::setenv("HOME", "/home/u", 1);
  ::unsetenv("XDG_CACHE_HOME");
  ::unsetenv("HF_HUB_CACHE");
  ::unsetenv("HF_HOME");
  EXPECT_EQ(hub_cache_root(), "/home/u/.cache/huggingface/hub");
  ::setenv("XDG_CACHE_HOME", "/x", 1);
  EXPECT_EQ(hub_cache_root(), "/x/huggingface/hub");
  ::setenv("HF_HOME", "/hf", 1);
  EXPECT_EQ(hub_cache_root(), "/hf/hub");
  ::setenv("HF_HUB_CACHE", "/cache", 1);
  EXPECT_EQ(hub_cache_root(), "/cache");
}

}  // namespace
}  // namespace puna
