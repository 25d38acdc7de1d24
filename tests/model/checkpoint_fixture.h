// SPDX-License-Identifier: Apache-2.0
// Checkpoints for tests: golden ones copied into a temporary folder, where a test may damage them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "expect_error.h"
#include "shared_data.h"
#include "tensor/safetensors.h"

namespace puna {

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(::testing::TempDir()) / (std::string("puna_") + test->test_suite_name() + "_" + test->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // tests/golden/model/<name>, copied.
  std::filesystem::path copy(const std::string& name) {
    const std::filesystem::path target = folder_ / std::filesystem::path(name).filename();
    std::filesystem::copy(golden("model/" + name), target, std::filesystem::copy_options::recursive);
    return target;
  }

  // The same with one JSON file changed.
  template <typename Change>
  std::filesystem::path with_json(const std::string& name, const std::string& file, Change&& change) {
    const std::filesystem::path target = copy(name);
    Json json = parse_json(read_text(target / file), file);
    change(json);
    write_text(target / file, json.dump());
    return target;
  }

  // The same with the tensors of one safetensors file changed: change(std::vector<Tensor>&).
  template <typename Change>
  std::filesystem::path with_tensors(const std::string& name, const std::string& file, Change&& change) {
    const std::filesystem::path target = copy(name), path = target / file;
    {
      const SafetensorsFile original(golden("model/" + name) / file);
      std::vector<Tensor> tensors = original.tensors();
      change(tensors);
      std::vector<SafetensorsEntry> entries;
      for (const Tensor& tensor : tensors) entries.push_back({tensor.name, tensor.format, tensor.shape});
      std::filesystem::remove(path);
      write_safetensors(path, entries, {}, [&](std::size_t i) { return tensors[i].bytes; });
    }
    return target;
  }

  std::filesystem::path folder_;
};

inline Tensor& named(std::vector<Tensor>& tensors, const std::string& name) {
  for (Tensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::runtime_error("no tensor " + name);
}

}  // namespace puna
