// SPDX-License-Identifier: Apache-2.0
// What the tests of training data share: a folder that is removed with the test, and a tokenizer of bytes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "train/byte_tokenizer.h"
#include "train/data/loader.h"

namespace puna {

// The text of all tokens, with what is trained between « and ».
inline std::string marked(const std::vector<Token>& tokens, const std::vector<bool>& trained, const Tokenizer& tokenizer) {
  std::string text;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (trained[t] && (t == 0 || !trained[t - 1])) text += "«";
    text += tokenizer.piece(tokens[t], true);
    if (trained[t] && (t + 1 == tokens.size() || !trained[t + 1])) text += "»";
  }
  return text;
}

class DataFiles : public testing::Test {
 protected:
  DataFiles() : folder_(std::filesystem::temp_directory_path() / ("puna-data-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~DataFiles() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& content) {
    const auto path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // Lines of {"text": …}.
  static std::string text_rows(const std::vector<std::string>& texts) {
    std::string lines;
    for (const std::string& text : texts) lines += dump_json(Json{{"text", text}}) + "\n";
    return lines;
  }
  static DataOptions options(const std::vector<std::string>& paths) {
    DataOptions options;
    for (const std::string& path : paths) options.sources.push_back({path, DataKind::kAuto, std::nullopt});
    return options;
  }
  std::unique_ptr<Loader> loader(const DataOptions& options) const {
    return std::make_unique<Loader>(options, tokenizer_, *prompt_format_from_name("llama3"));
  }

  std::filesystem::path folder_;
  ByteTokenizer tokenizer_;
};

}  // namespace puna
