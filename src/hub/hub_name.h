// SPDX-License-Identifier: Apache-2.0
// Names of models on the hub: "org/name", "org/name:main" (a branch, tag or commit) and "org/name:Q4_K_M" (one of a GGUF
// repository's files). What looks like a quantized type is taken for one; every other word is a revision.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace puna {

struct HubName {
  std::string repository;  // "org/name"
  std::string revision = "main";
  std::string quantization;  // "Q4_K_M", or empty
  bool operator==(const HubName&) const = default;
};

// nullopt where the text is no such name (a path, a short name, something with "..").
std::optional<HubName> parse_hub_name(std::string_view text);
// "Q4_K_M", "iq2_xs", "F16", "BF16": not "main", not a commit.
bool looks_like_quantization(std::string_view text);
// The last such word of a file's name, words being parted by dashes and dots: "Q4_K_M" of "m-Q4_K_M.gguf"; or empty.
std::string quantization_in(std::string_view file);

// A file name that a repository may have: relative, without "..", empty parts, backslashes and control characters.
bool is_safe_repository_path(std::string_view path);
// What may name a file in blobs/: letters, digits, dots, dashes, at most 128, not beginning with a dot.
bool is_safe_etag(std::string_view etag);

// "models--org--name"
std::string cache_folder_name(std::string_view repository);
// "org/name" of such a folder; nullopt for another folder.
std::optional<std::string> repository_of_folder(std::string_view folder);

}  // namespace puna
