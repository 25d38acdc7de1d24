// SPDX-License-Identifier: Apache-2.0
// What the tests of training data share: a tokenizer whose ids are bytes, with Llama 3's special tokens behind them, and a folder
// that is removed with the test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "train/data/loader.h"

namespace puna {

class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(bool adds_bos = true) {
    kind_ = "bytes";
    std::vector<std::pair<std::string, Token>> specials;
    for (const char* name : {"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                             "<|eom_id|>", "<|python_tag|>"}) {
      specials.emplace_back(name, Token{256 + static_cast<int>(specials.size())});
    }
    size_ = 256 + static_cast<int>(specials.size());
    set_names(std::move(specials), {});
    set_bos(Token{256}, adds_bos);
  }

 private:
  void encode_text(std::string_view text, std::vector<Token>& tokens) const override {
    for (const char c : text) tokens.push_back(Token{static_cast<unsigned char>(c)});
  }
  std::string bytes_of(Token token) const override { return std::string(1, static_cast<char>(id(token))); }
};

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
