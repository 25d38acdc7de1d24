// SPDX-License-Identifier: Apache-2.0
// A GGUF file, or a set split as NAME-00001-of-0000N.gguf, of which any may be given. Tensors stay where they are mapped.
#include <array>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/built_in.h"
#include "model/checkpoint_reading.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kDigits = 5;
constexpr std::string_view kOf = "-of-", kEnding = ".gguf";

// "NAME-" of "NAME-00002-of-00003.gguf", or empty where the name is not of that form.
std::string split_stem(const std::string& name) {
  const std::size_t tail = 1 + kDigits + kOf.size() + kDigits + kEnding.size();
  if (name.size() <= tail || !name.ends_with(kEnding)) return "";
  const std::size_t start = name.size() - tail;
  if (name[start] != '-' || name.substr(start + 1 + kDigits, kOf.size()) != kOf) return "";
  return name.substr(0, start + 1);
}

fs::path split_part(const fs::path& path, std::int64_t number, std::int64_t count) {
  return path.parent_path() / fmt::format("{}{:05}-of-{:05}.gguf", split_stem(path.filename().string()), number, count);
}

std::shared_ptr<GgufFile> open_part(const fs::path& path) {
  if (!fs::exists(path)) {
    fail(ErrorKind::kNotFound, path.filename().string(),
         "is missing: the model is split and needs all its parts; run puna pull again");
  }
  refuse_pointer_file(path);
  return std::make_shared<GgufFile>(path);
}

using Parts = std::vector<std::pair<fs::path, std::shared_ptr<GgufFile>>>;  // a part's path is empty where it is no file

Parts open_parts(const fs::path& path) {
  constexpr std::int64_t kMostParts = 99999;  // five digits in the name
  const std::shared_ptr<GgufFile> given = open_part(path);
  const std::int64_t count = given->find_integer("split.count").value_or(0);
  if (count <= 1) return {{path, given}};
  if (count > kMostParts || split_stem(path.filename().string()).empty()) {
    fail(ErrorKind::kBadInput, given->where(), "one of {} parts, but its name is not NAME-00001-of-{:05}.gguf: give it that name",
         count, count);
  }
  Parts parts;
  for (std::int64_t number = 1; number <= count; ++number) {
    const fs::path part = split_part(path, number, count);
    parts.emplace_back(part, open_part(part));
    const std::int64_t found = parts.back().second->find_integer("split.no").value_or(-1);
    if (found != number - 1) {
      fail(ErrorKind::kBadInput, part.filename().string(), "split.no is {}, expected {} from the file's name", found, number - 1);
    }
  }
  return parts;
}

// Figures about rotary positions that the config already has.
bool is_extra_of_gguf(std::string_view name) { return name == "rope_freqs.weight" || name.ends_with(".attn_rot_embd.weight"); }

void check_tensor_count(const GgufFile& first, std::size_t found) {
  const auto expected = first.find_integer("split.tensors.count");
  if (expected && *expected != static_cast<std::int64_t>(found)) {
    fail(ErrorKind::kBadInput, first.where(), "the parts hold {} tensors, expected {} (split.tensors.count): run puna pull again",
         found, *expected);
  }
}

std::shared_ptr<Checkpoint> checkpoint_of(const Parts& parts, const std::string& where) {
  const GgufFile& first = *parts.front().second;
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->kind = CheckpointKind::kGguf;
  checkpoint->where = where;
  std::vector<Tensor> tensors;
  for (const auto& [file_path, file] : parts) tensors.insert(tensors.end(), file->tensors().begin(), file->tensors().end());
  if (parts.size() > 1) check_tensor_count(first, tensors.size());
  checkpoint->config = gguf_config(first, tensors);
  if (checkpoint->config.name.empty()) checkpoint->config.name = fs::path(where).stem().string();
  checkpoint->weights.layers.resize(static_cast<std::size_t>(checkpoint->config.layers));
  for (const auto& [file_path, file] : parts) {
    for (const Tensor& tensor : file->tensors()) {
      if (const auto slot = find_weight(tensor.name, &WeightRoleInfo::gguf)) {
        place_tensor(*checkpoint, *slot, tensor, file->where());
      } else if (!is_extra_of_gguf(tensor.name)) {
        refuse_tensor(tensor.name, file->where());
      }
    }
    if (!file_path.empty()) checkpoint->files.push_back(file_path);
    checkpoint->owners.push_back(file);
  }
  checkpoint->config.tied_embeddings = !checkpoint->weights.output;
  checkpoint->tokenizer = gguf_tokenizer(first);
  checkpoint->chat_template = first.find_string("tokenizer.chat_template").value_or("");
  finish_checkpoint(*checkpoint, &WeightRoleInfo::gguf, "tokenizer.chat_template");
  return checkpoint;
}

}  // namespace

std::shared_ptr<Checkpoint> open_gguf_checkpoint(const fs::path& path) {
  return checkpoint_of(open_parts(path), path.filename().string());
}

std::shared_ptr<Checkpoint> open_built_in_checkpoint() {
  auto checkpoint = checkpoint_of({{fs::path(), std::make_shared<GgufFile>(built_in_gguf(), kBuiltInName)}}, kBuiltInName);
  checkpoint->config.name = kBuiltInName;
  return checkpoint;
}

GgufFile gguf_file_of(const Checkpoint& checkpoint) {
  if (checkpoint.files.empty()) return GgufFile(built_in_gguf(), kBuiltInName);  // as open_built_in_checkpoint() made it
  return GgufFile(checkpoint.files.front());
}

}  // namespace puna
