// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_name.h"

#include <algorithm>
#include <cctype>

#include "base/without_controls.h"

namespace puna {
namespace {

constexpr std::string_view kFolderPrefix = "models--";

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// The hub's rule: letters, digits, "-", "_", ".", not "--" or "..", no dot or dash at an end; at most 96.
bool is_name_part(std::string_view part) {
  if (part.empty() || part.size() > 96 || part.find("..") != part.npos || part.find("--") != part.npos) return false;
  if (part.front() == '.' || part.front() == '-' || part.back() == '.' || part.back() == '-') return false;
  return std::all_of(part.begin(), part.end(), [](char c) { return is_word(c) || c == '-' || c == '_' || c == '.'; });
}

}  // namespace

bool looks_like_quantization(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (upper == "F16" || upper == "BF16" || upper == "F32") return true;
  std::string_view rest = upper;
  for (const std::string_view prefix : {"IQ", "TQ", "Q"}) {
    if (!rest.starts_with(prefix)) continue;
    rest.remove_prefix(prefix.size());
    const auto rest_is_type = [](char c) { return is_word(c) || c == '_'; };
    return !rest.empty() && rest.front() >= '1' && rest.front() <= '8' && (rest.size() == 1 || rest[1] == '_') &&
           std::all_of(rest.begin(), rest.end(), rest_is_type);
  }
  return false;
}

std::string quantization_in(std::string_view file) {
  std::string_view left = file.substr(file.rfind('/') + 1);
  std::string found;
  while (!left.empty()) {
    const std::size_t end = std::min(left.find_first_of("-."), left.size());
    if (looks_like_quantization(left.substr(0, end))) found = left.substr(0, end);
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  return found;
}

std::optional<HubName> parse_hub_name(std::string_view text) {
  HubName name;
  const std::size_t colon = text.find(':');
  const std::string_view repository = text.substr(0, colon);
  const std::size_t slash = repository.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  if (!is_name_part(repository.substr(0, slash)) || !is_name_part(repository.substr(slash + 1))) return std::nullopt;
  name.repository = repository;
  if (colon == std::string_view::npos) return name;
  const std::string_view tag = text.substr(colon + 1);
  if (looks_like_quantization(tag)) {
    name.quantization = tag;
  } else if (is_safe_repository_path(tag)) {
    name.revision = tag;
  } else {
    return std::nullopt;
  }
  return name;
}

bool is_safe_repository_path(std::string_view path) {
  if (path.empty() || path.size() > 1024 || path.front() == '/') return false;
  const auto unsafe = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '\\' || c == ':'; };
  if (std::any_of(path.begin(), path.end(), unsafe) || without_controls(path) != path) return false;  // C1 controls, broken UTF-8
  while (true) {
    const std::string_view part = path.substr(0, path.find('/'));
    if (part.empty() || part == "." || part == "..") return false;
    if (part.size() == path.size()) return true;
    path.remove_prefix(part.size() + 1);
  }
}

bool is_safe_etag(std::string_view etag) {
  if (etag.empty() || etag.size() > 128 || etag.front() == '.') return false;
  return std::all_of(etag.begin(), etag.end(), [](char c) { return is_word(c) || c == '-' || c == '_' || c == '.'; });
}

std::string cache_folder_name(std::string_view repository) {
  const std::size_t slash = repository.find('/');
  return std::string(kFolderPrefix) + std::string(repository.substr(0, slash)) + "--" + std::string(repository.substr(slash + 1));
}

std::optional<std::string> repository_of_folder(std::string_view folder) {
  if (!folder.starts_with(kFolderPrefix)) return std::nullopt;
  folder.remove_prefix(kFolderPrefix.size());
  const std::size_t dashes = folder.find("--");
  if (dashes == std::string_view::npos) return std::nullopt;
  const std::string_view owner = folder.substr(0, dashes), name = folder.substr(dashes + 2);
  if (!is_name_part(owner) || !is_name_part(name)) return std::nullopt;
  return std::string(owner) + "/" + std::string(name);
}

}  // namespace puna
