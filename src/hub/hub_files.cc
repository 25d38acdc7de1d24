// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <regex>

#include "base/error.h"

namespace puna {
namespace {

bool in_top_folder(const std::string& file) { return file.find('/') == std::string::npos; }

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::string listing(std::span<const std::string> files) {
  constexpr std::size_t kListed = 40;
  std::string text;
  for (const std::string& file : files.first(std::min(files.size(), kListed))) text += "\n  " + file;
  if (files.size() > kListed) text += fmt::format("\n  … and {} more", files.size() - kListed);
  return text;
}

std::vector<std::string> matching(std::span<const std::string> files, const FileChoice& choice, const std::string& repository) {
  std::vector<std::string> chosen;
  for (const std::string& file : files) {
    const auto matches = [&](const std::string& pattern) { return ::fnmatch(pattern.c_str(), file.c_str(), 0) == 0; };
    if (std::any_of(choice.include.begin(), choice.include.end(), matches)) chosen.push_back(file);
  }
  if (chosen.empty()) fail(ErrorKind::kNotFound, repository, "no file matches --include; the repository has:{}", listing(files));
  return chosen;
}

std::vector<std::string> choose_gguf(std::span<const std::string> files, const FileChoice& choice, const std::string& repository) {
  std::vector<std::vector<std::string>> models = gguf_models(files);
  if (!choice.quantization.empty()) {
    std::erase_if(models, [&](const auto& model) { return !names_quantization(model.front(), choice.quantization); });
  }
  if (models.size() == 1) return models.front();
  std::vector<std::string> names;
  for (const auto& model : models.empty() ? gguf_models(files) : models) names.push_back(model.front());
  if (models.empty()) {
    fail(ErrorKind::kNotFound, repository, "no GGUF file is named {}; there are:{}", choice.quantization, listing(names));
  }
  fail(ErrorKind::kUsage, repository, "{} GGUF models are there: ask for one, as in {}:Q4_K_M or with --include; there are:{}",
       models.size(), repository, listing(names));
}

std::vector<std::string> choose_weights(std::span<const std::string> files, std::string_view weights) {
  std::vector<std::string> chosen;
  for (const std::string& file : files) {
    const bool beside = file.ends_with(".json") || file.ends_with(".jinja") || file == "tokenizer.model";
    const bool weight = ::fnmatch(std::string(weights).c_str(), file.c_str(), FNM_PATHNAME) == 0;
    if (in_top_folder(file) && (weight || (beside && !file.ends_with(".bin.index.json")))) chosen.push_back(file);
  }
  return chosen;
}

}  // namespace

bool names_quantization(std::string_view file, std::string_view quantization) {
  const std::string name = lower(file.substr(file.rfind('/') + 1)), word = lower(quantization);
  const auto part_of_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  for (std::size_t at = name.find(word); at != std::string::npos; at = name.find(word, at + 1)) {
    const std::size_t end = at + word.size();
    const bool begins = at == 0 || !part_of_word(name[at - 1]);
    const bool ends = end == name.size() || !part_of_word(name[end]);
    if (begins && ends) return true;
  }
  return false;
}

std::vector<std::vector<std::string>> gguf_models(std::span<const std::string> files) {
  static const std::regex split("^(.*)-[0-9]{5}-of-([0-9]{5})\\.gguf$");
  std::map<std::string, std::vector<std::string>> models;
  for (const std::string& file : files) {
    const std::string name = file.substr(file.rfind('/') + 1);
    if (!file.ends_with(".gguf") || name.starts_with("mmproj"))
      continue;  // mmproj: a picture reader's projector, not a language model
    std::smatch match;
    const bool part = file.size() < 512 && std::regex_match(file, match, split);
    models[part ? match.str(1) + "/" + match.str(2) : file].push_back(file);
  }
  std::vector<std::vector<std::string>> result;
  for (auto& [key, parts] : models) {
    std::sort(parts.begin(), parts.end());
    result.push_back(std::move(parts));
  }
  return result;
}

std::vector<std::string> choose_files(std::span<const std::string> files, const FileChoice& choice, const std::string& repository) {
  if (!choice.include.empty()) return matching(files, choice, repository);
  const auto any = [&](auto&& test) { return std::any_of(files.begin(), files.end(), test); };
  const auto top_with_ending = [&](std::string_view ending) {
    return any([&](const std::string& file) { return in_top_folder(file) && file.ends_with(ending); });
  };
  if (choice.quantization.empty() && top_with_ending(".safetensors")) return choose_weights(files, "*.safetensors");
  if (!gguf_models(files).empty()) return choose_gguf(files, choice, repository);
  if (!choice.quantization.empty())
    fail(ErrorKind::kNotFound, repository, "there are no GGUF files, so no {}", choice.quantization);
  const auto meta = [](const std::string& file) {
    return in_top_folder(file) && file.starts_with("consolidated.") && file.ends_with(".pth");
  };
  if (any(meta)) return choose_weights(files, "consolidated.*.pth");
  fail(ErrorKind::kUnsupported, repository,
       "no safetensors, no GGUF and no consolidated.*.pth in the top folder: take files with --include; there are:{}",
       listing(files));
}

}  // namespace puna
