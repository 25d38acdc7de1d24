// SPDX-License-Identifier: Apache-2.0
// Finds out what a path is, and the steps that all kinds of checkpoints share.
#include "model/checkpoint.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <system_error>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/built_in.h"
#include "model/checkpoint_reading.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

struct Found {
  CheckpointKind kind;
  fs::path path;  // the GGUF file, or the folder with the config
};

// Throws kNotFound with the system's reason where the file may not be read.
std::string first_bytes(const fs::path& path, std::size_t count) {
  const MappedFile file(path);
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), std::min(count, file.bytes().size()));
}

// Names of the folder's files with this ending, sorted.
std::vector<std::string> files_ending(const fs::path& folder, std::string_view ending) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(ending)) names.push_back(name);
  }
  if (error) fail(ErrorKind::kNotFound, folder.string(), "cannot open the folder: {}", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

// A Hugging Face cache holds revisions: models--org--name/snapshots/<revision>, and refs/main names one of them.
fs::path snapshot_of(const fs::path& folder) {
  std::vector<fs::path> revisions;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder / "snapshots", error)) {
    if (entry.is_directory()) revisions.push_back(entry.path());
  }
  const fs::path named = folder / "refs" / "main";
  std::string main = fs::exists(named) ? first_bytes(named, 64) : "";
  while (!main.empty() && (main.back() == '\n' || main.back() == ' ')) main.pop_back();
  for (const fs::path& revision : revisions) {
    if (revision.filename() == main) return revision;
  }
  if (revisions.size() == 1) return revisions.front();
  fail(ErrorKind::kNotFound, folder.string(),
       "{} revisions under snapshots/ and refs/main names none of them: give the path of one", revisions.size());
}

Found find_gguf_in(const fs::path& folder, const std::vector<std::string>& names) {
  std::vector<std::string> first;  // of a split set only the first file counts
  for (const std::string& name : names) {
    if (name.find("-of-") == std::string::npos || name.find("-00001-of-") != std::string::npos) first.push_back(name);
  }
  if (first.size() == 1) return {CheckpointKind::kGguf, folder / first.front()};
  fail(ErrorKind::kUsage, folder.string(), "the folder holds {} GGUF models ({}, …): give the path of one", first.size(),
       names.front());
}

Found find_in_folder(const fs::path& folder) {
  const std::vector<std::string> safetensors = files_ending(folder, ".safetensors");
  if (fs::is_directory(folder / "snapshots")) return find_in_folder(snapshot_of(folder));
  const bool config = fs::exists(folder / "config.json"), params = fs::exists(folder / "params.json");
  const bool index = fs::exists(folder / "model.safetensors.index.json");
  if (config && (!safetensors.empty() || index)) return {CheckpointKind::kHuggingFace, folder};
  const std::vector<std::string> shards = files_ending(folder, ".pth");
  if (params && !shards.empty()) return {CheckpointKind::kMeta, folder};
  if (const auto names = files_ending(folder, ".gguf"); !names.empty()) return find_gguf_in(folder, names);
  if (const auto names = files_ending(folder, ".bin"); config && !names.empty()) {
    fail(ErrorKind::kUnsupported, folder.string(),
         "{} holds PyTorch weights of a Hugging Face folder, which are not read: convert them to safetensors, or take a revision "
         "that "
         "has them",
         names.front());
  }
  if (config) fail(ErrorKind::kNotFound, folder.string(), "config.json is here but no *.safetensors: run puna pull again");
  if (params)
    fail(ErrorKind::kNotFound, folder.string(), "params.json is here but no consolidated.*.pth: the download is incomplete");
  if (!safetensors.empty()) {
    fail(ErrorKind::kNotFound, folder.string(), "{} is here but config.json is missing: run puna pull again", safetensors.front());
  }
  if (!shards.empty()) {
    fail(ErrorKind::kNotFound, folder.string(), "{} is here but params.json is missing: the download is incomplete",
         shards.front());
  }
  fail(ErrorKind::kNotFound, folder.string(),
       "no model in this folder: expected config.json with *.safetensors, params.json with consolidated.*.pth, or a .gguf file");
}

Found find_file(const fs::path& path) {
  refuse_pointer_file(path);
  if (first_bytes(path, 4) == "GGUF") return {CheckpointKind::kGguf, path};
  const std::string where = path.filename().string();
  const std::string folder = path.parent_path().empty() ? "." : path.parent_path().string();
  for (const std::string_view ending : {".safetensors", ".safetensors.index.json", ".pth", ".bin"}) {
    if (!where.ends_with(ending)) continue;
    fail(ErrorKind::kUsage, where, "one file of a checkpoint folder: give the folder itself, {}", folder);
  }
  if (where == "config.json" || where == "params.json") {
    fail(ErrorKind::kUsage, where, "one file of a checkpoint folder: give the folder itself, {}", folder);
  }
  fail(ErrorKind::kBadInput, where, "not a model: the file does not start with \"GGUF\", and it is no checkpoint folder");
}

Found find_checkpoint(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) fail(ErrorKind::kNotFound, path.string(), "no such file or folder");
  return fs::is_directory(path) ? find_in_folder(path) : find_file(path);
}

// Without a template the vocabulary tells the family.
std::optional<PromptFormat> format_of_family(const Tokenizer& tokenizer) {
  const char* name = nullptr;
  const char* family = nullptr;
  if (tokenizer.special("<|start_header_id|>") && tokenizer.special("<|eot_id|>")) {
    name = "llama3.1", family = "Llama 3";
  } else if (tokenizer.kind() == "SentencePiece" && tokenizer.size() == 32000) {
    name = "llama2", family = "Llama 2";
  } else {
    return std::nullopt;
  }
  std::optional<PromptFormat> format = prompt_format_from_name(name);
  if (format) format->source = fmt::format("default for {} vocabularies", family);
  return format;
}

std::int64_t count_bytes(const Checkpoint& checkpoint) {
  std::int64_t bytes = 0;
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.role == WeightRole::kOutput && checkpoint.config.tied_embeddings) continue;
    for (std::int64_t layer = 0; layer < (row.per_layer ? checkpoint.config.layers : 1); ++layer) {
      const Tensor& tensor = checkpoint.weights.at(row.role, layer);
      bytes += static_cast<std::int64_t>(tensor.bytes.size() + tensor.row_scales.size());
    }
  }
  return bytes;
}

}  // namespace

const Tokenizer& Checkpoint::need_tokenizer() const {
  if (tokenizer == nullptr) {
    fail(ErrorKind::kUnsupported, where, "this checkpoint has no tokenizer: give token ids with --tokens");
  }
  return *tokenizer;
}

std::int64_t Checkpoint::known_tokens() const {
  return tokenizer == nullptr ? config.vocabulary : std::min<std::int64_t>(config.vocabulary, tokenizer->size());
}

const PromptFormat& Checkpoint::need_prompt_format() const {
  if (prompt_format) return *prompt_format;
  if (chat_template.empty()) {
    fail(ErrorKind::kUnsupported, where,
         "this checkpoint says nothing of how a conversation is written: use --raw or --format NAME");
  }
  constexpr std::size_t kShown = 80;
  std::string start = chat_template.substr(0, kShown);
  std::replace(start.begin(), start.end(), '\n', ' ');
  fail(ErrorKind::kUnsupported, where, "its chat template is not one that Puna knows ({}{}): use --raw or --format NAME", start,
       chat_template.size() > kShown ? "…" : "");
}

CheckpointKind recognise_checkpoint(const fs::path& path) { return find_checkpoint(path).kind; }

std::shared_ptr<Checkpoint> open_checkpoint(const fs::path& path) {
  if (path == kBuiltInPath) return open_built_in_checkpoint();
  const Found found = find_checkpoint(path);
  switch (found.kind) {
    case CheckpointKind::kGguf:
      return open_gguf_checkpoint(found.path);
    case CheckpointKind::kHuggingFace:
      return open_hugging_face_checkpoint(found.path);
    default:
      return open_meta_checkpoint(found.path);
  }
}

std::unique_ptr<Tokenizer> open_tokenizer(const fs::path& path) {
  if (path == kBuiltInPath) return gguf_tokenizer(GgufFile(built_in_gguf(), kBuiltInName));
  std::error_code error;
  if (!fs::exists(path, error)) fail(ErrorKind::kNotFound, path.string(), "no such file or folder");
  std::unique_ptr<Tokenizer> tokenizer;
  if (!fs::is_directory(path)) {
    refuse_pointer_file(path);
    if (first_bytes(path, 4) != "GGUF") return load_tokenizer_file(path);
    tokenizer = gguf_tokenizer(GgufFile(path));
  } else {
    const fs::path folder = fs::is_directory(path / "snapshots") ? snapshot_of(path) : path;
    tokenizer = open_folder_tokenizer(folder);
    if (tokenizer == nullptr && !files_ending(folder, ".gguf").empty()) return open_tokenizer(find_in_folder(folder).path);
  }
  if (tokenizer == nullptr) {
    fail(ErrorKind::kUnsupported, path.string(),
         "no tokenizer here: expected tokenizer.json, tokenizer.model or a GGUF file with one");
  }
  return tokenizer;
}

void place_tensor(Checkpoint& checkpoint, const WeightSlot& slot, const Tensor& tensor, const std::string& where) {
  if (info(slot.role).per_layer && slot.layer >= checkpoint.config.layers) {
    fail(ErrorKind::kBadInput, where, "tensor {} belongs to layer {}, but the config has {} layers", tensor.name, slot.layer,
         checkpoint.config.layers);
  }
  Tensor& place = checkpoint.weights.at(slot.role, slot.layer);
  if (place) fail(ErrorKind::kBadInput, where, "tensor {} is there twice: once as {}", tensor.name, place.name);
  place = tensor;
}

void refuse_tensor(const std::string& name, const std::string& where) {
  const char* what = "";
  if (name.ends_with(".bias")) what = " (a bias)";
  if (name.find("expert") != std::string::npos || name.find("_exps") != std::string::npos) what = " (an expert)";
  if (name.find("lora") != std::string::npos) what = " (an adapter: merge it into the model first)";
  fail(ErrorKind::kUnsupported, where, "tensor {}{} is no part of a Llama network, and leaving it out would change the result",
       name, what);
}

void finish_checkpoint(Checkpoint& checkpoint, NameColumn names, const std::string& template_source) {
  ModelWeights& weights = checkpoint.weights;
  // Some writers store a tied matrix as two names for the same bytes.
  if (weights.output && weights.output.bytes.data() == weights.token_embedding.bytes.data())
    checkpoint.config.tied_embeddings = true;
  if (checkpoint.config.tied_embeddings) weights.output = weights.token_embedding;
  check_weights(checkpoint.config, weights, checkpoint.where, names);
  checkpoint.weight_bytes = count_bytes(checkpoint);
  if (!checkpoint.chat_template.empty()) {
    checkpoint.prompt_format = recognise_template(checkpoint.chat_template);
    if (checkpoint.prompt_format) checkpoint.prompt_format->source = template_source;
  } else if (checkpoint.tokenizer != nullptr) {
    checkpoint.prompt_format = format_of_family(*checkpoint.tokenizer);
  }
}

std::unique_ptr<Tokenizer> open_folder_tokenizer(const fs::path& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    if (fs::exists(folder / name)) refuse_pointer_file(folder / name);
  }
  return load_tokenizer_folder(folder);
}

std::string read_text_file(const fs::path& path) {
  constexpr std::uintmax_t kLimit = 64'000'000;
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) fail(ErrorKind::kNotFound, path.string(), "cannot be read: {}", error.message());
  if (size > kLimit) fail(ErrorKind::kBadInput, path.string(), "{} bytes, expected a text file of at most {}", size, kLimit);
  refuse_pointer_file(path);
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (text.size() != size) fail(ErrorKind::kNotFound, path.string(), "cannot be read: {} of {} bytes came", text.size(), size);
  return text;
}

void refuse_pointer_file(const fs::path& path) {
  static constexpr std::string_view kMark = "version https://git-lfs";
  if (first_bytes(path, kMark.size()) != kMark) return;
  fail(ErrorKind::kBadInput, path.filename().string(),
       "a Git LFS pointer stands here instead of the file: run git lfs pull in the repository, or puna pull");
}

std::string folder_name(const fs::path& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  for (const fs::path& part : path) {
    const std::string name = part.string();
    if (!name.starts_with("models--")) continue;
    const std::string repository = name.substr(8);
    const std::size_t cut = repository.find("--");
    return cut == std::string::npos ? repository : repository.substr(0, cut) + "/" + repository.substr(cut + 2);
  }
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

}  // namespace puna
