// SPDX-License-Identifier: Apache-2.0
// A Hugging Face folder: config.json and one or more safetensors files. Tensors stay where they are mapped; only FP8 scales that
// are not F32 per row are rewritten into memory of their own. Scales of activations are not read: activations stay F32.
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/checkpoint_reading.h"
#include "tensor/safetensors.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kScaleEnding = "_scale";  // of "….weight_scale"

struct ShardPlan {
  std::vector<std::string> files;
  std::map<std::string, std::string> place;  // tensor -> file, from the index; empty without one
};

ShardPlan read_index(const fs::path& folder) {
  const fs::path path = folder / "model.safetensors.index.json";
  const std::string where = path.filename().string();
  const Json index = parse_json(read_text_file(path), where);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    fail(ErrorKind::kBadInput, where, "the key \"weight_map\" is missing, or not an object: run puna pull again");
  }
  ShardPlan plan;
  std::set<std::string> files;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string())
      fail(ErrorKind::kBadInput, where, "the file of tensor {} is {}, expected a name", tensor, file.type_name());
    const std::string name = file.get<std::string>();
    if (name.empty() || fs::path(name).filename() != name) {
      fail(ErrorKind::kBadInput, where, "the file of tensor {} is \"{}\", expected a name in the same folder", tensor, name);
    }
    plan.place[tensor] = name;
    files.insert(name);
  }
  plan.files.assign(files.begin(), files.end());
  return plan;
}

ShardPlan plan_shards(const fs::path& folder) {
  if (fs::exists(folder / "model.safetensors.index.json")) return read_index(folder);
  if (fs::exists(folder / "model.safetensors")) return {{"model.safetensors"}, {}};
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") names.push_back(entry.path().filename().string());
  }
  if (names.size() == 1 && names.front().find("-of-") == std::string::npos) return {names, {}};
  fail(ErrorKind::kNotFound, folder.filename().string(),
       "model.safetensors.index.json is missing, which says what the {} safetensors files hold: run puna pull again", names.size());
}

// "lm_head" and the layers have the prefix "model." in full models; bare networks were saved without it.
std::string full_name(const std::string& name) {
  const bool bare = name.starts_with("layers.") || name.starts_with("embed_tokens.") || name.starts_with("norm.");
  return bare ? "model." + name : name;
}

bool is_extra_of_hugging_face(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".input_scale") || name.ends_with(".input_scale_ub");
}

// The scales of one matrix as F32 per row: in place where they lie so already, else in memory of the checkpoint's own.
std::span<const std::byte> row_scales(Checkpoint& checkpoint, const Tensor& scale, std::int64_t rows, const std::string& where) {
  const std::int64_t count = scale.shape.count();
  const bool column = scale.shape == Shape{rows} || scale.shape == Shape{rows, 1};
  if (!column && count != 1) {
    fail(ErrorKind::kUnsupported, where, "tensor {} is {}, expected one scale for each of {} rows, or one for all", scale.name,
         scale.shape.text(), rows);
  }
  if (column && scale.format == Format::kF32) return scale.bytes;
  auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(rows));  // [N]
  for (std::int64_t n = 0; n < rows; ++n) {
    info(scale.format)
        .decode(scale.bytes.data() + (column ? n : 0) * info(scale.format).block_bytes, &(*values)[static_cast<std::size_t>(n)], 1);
  }
  checkpoint.owners.push_back(values);
  return std::as_bytes(std::span(*values));
}

struct Reader {
  Checkpoint& checkpoint;
  bool fp8;
  std::vector<std::pair<Tensor, std::string>> scales;  // and the file each is in
  std::map<std::string, std::string> found;            // tensor -> file

  void take(const Tensor& tensor, const std::string& file) {
    found[tensor.name] = file;
    const std::string name = full_name(tensor.name);
    const auto slot = find_weight(name, &WeightRoleInfo::hugging_face);
    if (slot && slot->role == WeightRole::kOutput && checkpoint.config.tied_embeddings) return;  // the embedding rules
    if (slot) return place_tensor(checkpoint, *slot, tensor, file);
    if (name == kRewardHead) return take_reward_head(tensor, file);
    if (fp8 && name.ends_with(".weight_scale")) return scales.emplace_back(tensor, file), void();
    if (!is_extra_of_hugging_face(name)) refuse_tensor(tensor.name, file);
  }

  void take_reward_head(const Tensor& tensor, const std::string& file) {
    if (tensor.shape != Shape{1, checkpoint.config.width})
      fail(ErrorKind::kUnsupported, file, "tensor {} is {}, expected 1 × {}: only a reward's single score can be computed",
           tensor.name, tensor.shape.text(), checkpoint.config.width);
    checkpoint.reward_head = tensor;
  }

  void apply_scales() {
    for (const auto& [scale, file] : scales) {
      const std::string name = full_name(scale.name);
      const auto slot = find_weight(name.substr(0, name.size() - kScaleEnding.size()), &WeightRoleInfo::hugging_face);
      if (!slot || slot->layer >= checkpoint.config.layers) refuse_tensor(scale.name, file);
      Tensor& weight = checkpoint.weights.at(slot->role, slot->layer);
      if (!weight || weight.format != Format::kF8E4M3) {
        fail(ErrorKind::kBadInput, file, "tensor {} scales a matrix that is {}", scale.name,
             weight ? info(weight.format).name : std::string_view("missing"));
      }
      weight.row_scales = row_scales(checkpoint, scale, weight.shape.rows(), file);
    }
  }

  // E4M3 without a scale is a number of another size than was meant.
  void check_scaled() const {
    for (const WeightRoleInfo& row : weight_roles()) {
      for (std::int64_t layer = 0; layer < (row.per_layer ? checkpoint.config.layers : 1); ++layer) {
        const Tensor& weight = checkpoint.weights.at(row.role, layer);
        if (!weight || weight.format != Format::kF8E4M3 || !weight.row_scales.empty()) continue;
        fail(ErrorKind::kBadInput, checkpoint.where, "tensor {} is F8_E4M3, but {}_scale is missing", weight.name, weight.name);
      }
    }
  }
};

void read_shards(const fs::path& folder, Checkpoint& checkpoint, bool fp8) {
  const ShardPlan plan = plan_shards(folder);
  Reader reader{checkpoint, fp8, {}, {}};
  for (const std::string& name : plan.files) {
    const fs::path path = folder / name;
    if (!fs::exists(path)) {
      fail(ErrorKind::kNotFound, name, "is missing: model.safetensors.index.json names it; run puna pull again");
    }
    refuse_pointer_file(path);
    auto file = std::make_shared<SafetensorsFile>(path);
    for (const Tensor& tensor : file->tensors()) reader.take(tensor, name);
    checkpoint.owners.push_back(file);
    checkpoint.files.push_back(path);
  }
  for (const auto& [tensor, file] : plan.place) {
    const auto found = reader.found.find(tensor);
    if (found != reader.found.end() && found->second == file) continue;
    fail(ErrorKind::kBadInput, file, "tensor {} is missing, which model.safetensors.index.json says is here: run puna pull again",
         tensor);
  }
  reader.apply_scales();
  reader.check_scaled();
}

// The template of a folder and where it was found: chat_template.jinja, else the key of tokenizer_config.json.
std::pair<std::string, std::string> read_template(const fs::path& folder) {
  if (fs::exists(folder / "chat_template.jinja")) {
    return {read_text_file(folder / "chat_template.jinja"), "chat_template.jinja"};
  }
  const fs::path path = folder / "tokenizer_config.json";
  if (!fs::exists(path)) return {};
  const Json json = parse_json(read_text_file(path), "tokenizer_config.json");
  if (!json.is_object() || !json.contains("chat_template")) return {};
  const Json& value = json["chat_template"];
  const std::string source = "chat_template in tokenizer_config.json";
  if (value.is_string()) return {value.get<std::string>(), source};
  if (!value.is_array()) return {};
  for (const Json& entry : value) {
    if (!entry.is_object() || !entry.contains("name") || entry["name"] != "default") continue;
    return {json_at<std::string>(entry, "template", "tokenizer_config.json"), source};
  }
  return {};
}

}  // namespace

std::shared_ptr<Checkpoint> open_hugging_face_checkpoint(const fs::path& folder) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->kind = CheckpointKind::kHuggingFace;
  checkpoint->where = folder_name(folder);
  const HuggingFaceConfig config = parse_hugging_face_config(read_text_file(folder / "config.json"), "config.json");
  checkpoint->config = config.model;
  checkpoint->config.name = folder_name(folder);
  checkpoint->weights.layers.resize(static_cast<std::size_t>(checkpoint->config.layers));
  read_shards(folder, *checkpoint, config.fp8);
  if (checkpoint->reward_head && !checkpoint->weights.output) checkpoint->config.tied_embeddings = true;  // it has no other
  checkpoint->tokenizer = open_folder_tokenizer(folder);
  std::string source;
  std::tie(checkpoint->chat_template, source) = read_template(folder);
  finish_checkpoint(*checkpoint, &WeightRoleInfo::hugging_face, source);
  return checkpoint;
}

}  // namespace puna
