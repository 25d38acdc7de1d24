// SPDX-License-Identifier: Apache-2.0
#include "train/model_files.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "model/adapters.h"
#include "quant/hugging_face_export.h"
#include "quant/weight_encoder.h"
#include "tensor/arena.h"
#include "tensor/atomic_file.h"
#include "tensor/safetensors.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr const char *kAdapterWeights = "adapter_model.safetensors", *kAdapterConfig = "adapter_config.json";
const std::string kSavedHead = std::string("base_model.model.") + kRewardHead;
constexpr std::string_view kPeftPrefix = "base_model.model.", kA = ".lora_A.weight", kB = ".lora_B.weight";

bool is_rotary(WeightRole role) { return role == WeightRole::kQuery || role == WeightRole::kKey; }

// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" -> its matrix, with `suffix` for the side.
std::optional<WeightSlot> adapted_slot(std::string_view name, std::string_view suffix) {
  if (!name.starts_with(kPeftPrefix) || !name.ends_with(suffix)) return std::nullopt;
  name.remove_prefix(kPeftPrefix.size());
  name.remove_suffix(suffix.size());
  return find_weight(std::string(name) + ".weight", &WeightRoleInfo::hugging_face);
}

void write_parameters(const fs::path& path, const std::vector<const Parameter*>& parameters,
                      const std::function<std::span<const float>(const Parameter&)>& values) {
  std::vector<SafetensorsEntry> entries;
  for (const Parameter* each : parameters) {
    const bool head = each->name == kRewardHead;  // among the adapters it is what PEFT calls a module to save
    entries.push_back({head ? kSavedHead : each->name, Format::kF32, each->shape});
  }
  write_safetensors(path, entries, {{"format", "pt"}},
                    [&](std::size_t index) { return std::as_bytes(values(*parameters[index])); });
}

// PEFT's name of a projection: "q_proj".
std::string target_name(WeightRole role) {
  std::string name = weight_name(role, &WeightRoleInfo::hugging_face);
  name.resize(name.rfind('.'));
  return name.substr(name.rfind('.') + 1);
}

Json read_adapter_config(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  if (!file)
    fail(ErrorKind::kNotFound, path.string(), "cannot be read: an adapter is a folder with {} and {}", kAdapterConfig,
         kAdapterWeights);
  return parse_json(text, path.string());
}

void refuse_more_than_lora(const Json& config, const std::string& where) {
  if (json_or<std::string>(config, "peft_type", "LORA", where) != "LORA")
    fail(ErrorKind::kUnsupported, where, "is of type {}, only LORA can be merged", config["peft_type"].get<std::string>());
  if (json_or<bool>(config, "use_dora", false, where))
    fail(ErrorKind::kUnsupported, where, "is DoRA, only plain LoRA can be merged");
  if (json_or<std::string>(config, "bias", "none", where) != "none")
    fail(ErrorKind::kUnsupported, where, "trains biases, Llama has none");
}

}  // namespace

void write_trained_model(const fs::path& folder, ThreadPool& pool, const Parameters& parameters, const Checkpoint& start) {
  const std::shared_ptr<Checkpoint> view = parameters.view();
  view->tokenizer = start.tokenizer;
  view->chat_template = start.chat_template;
  view->prompt_format = start.prompt_format;
  const std::vector<WeightPlan> plan =
      plan_weights(*view, [](const Tensor& tensor, WeightRole, std::int64_t) { return tensor.format; });
  WeightEncoder encoder(pool, *view, RopePairing::kHalves, "checkpoint");
  std::vector<std::string> notes;
  write_hugging_face_checkpoint(folder, *view, plan, encoder, notes);
}

void write_adapter(const fs::path& folder, const Parameters& parameters, const LoraChoice& choice, const std::string& base) {
  std::vector<const Parameter*> matrices;
  for (const Parameter& each : parameters.all()) {
    if (each.name.starts_with(kPeftPrefix) || each.name == kRewardHead) matrices.push_back(&each);
  }
  const ModelConfig& config = parameters.config();
  std::vector<float> reordered;
  write_parameters(folder / kAdapterWeights, matrices, [&](const Parameter& each) -> std::span<const float> {
    const std::optional<WeightSlot> slot = adapted_slot(each.name, kB);
    if (!slot || !is_rotary(slot->role) || config.rope_pairing == RopePairing::kHalves) return each.value;
    const std::int64_t rank = each.shape[1];
    reordered.resize(each.value.size());
    for (std::int64_t n = 0; n < each.shape[0]; ++n) {
      const std::int64_t source = paired_row(n, config.head_width, config.rope_pairing, RopePairing::kHalves);
      std::copy_n(each.value.data() + source * rank, rank, reordered.data() + n * rank);
    }
    return reordered;
  });
  const bool scores = !matrices.empty() && std::ranges::count(matrices, kRewardHead, &Parameter::name) > 0;
  Json targets = Json::array();
  for (const WeightRole role : choice.roles) targets.push_back(target_name(role));
  const Json json = {{"base_model_name_or_path", base},
                     {"bias", "none"},
                     {"inference_mode", true},
                     {"lora_alpha", choice.alpha},
                     {"lora_dropout", 0.0},
                     {"peft_type", "LORA"},
                     {"r", choice.rank},
                     {"target_modules", targets},
                     {"task_type", scores ? "SEQ_CLS" : "CAUSAL_LM"}};
  AtomicFile file(folder / kAdapterConfig);
  file.write(json.dump(2) + "\n");
  file.commit();
}

AdapterFile read_adapter(const fs::path& folder) {
  const std::string where = (folder / kAdapterConfig).string();
  const Json config = read_adapter_config(folder / kAdapterConfig);
  refuse_more_than_lora(config, where);
  AdapterFile adapter{
      .base = json_or<std::string>(config, "base_model_name_or_path", "", where), .matrices = {}, .reward_head = {}, .owners = {}};
  const double alpha = json_at<double>(config, "lora_alpha", where);
  const bool rank_stabilised = json_or<bool>(config, "use_rslora", false, where);
  const auto file = std::make_shared<SafetensorsFile>(folder / kAdapterWeights);
  adapter.owners.push_back(file);
  std::map<std::pair<WeightRole, std::int64_t>, AdapterFile::Matrix> matrices;
  for (const Tensor& tensor : file->tensors()) {
    if (tensor.name == kSavedHead) {
      adapter.reward_head = tensor;
      continue;
    }
    const std::optional<WeightSlot> a = adapted_slot(tensor.name, kA), b = adapted_slot(tensor.name, kB);
    const std::optional<WeightSlot> slot = a ? a : b;
    if (!slot || tensor.shape.rank() != 2)
      fail(ErrorKind::kUnsupported, file->where(), "tensor {} is no LoRA matrix of a Llama block", tensor.name);
    AdapterFile::Matrix& matrix = matrices[{slot->role, slot->layer}];
    matrix.slot = *slot;
    (a ? matrix.a : matrix.b) = tensor;
  }
  for (auto& [key, matrix] : matrices) {
    if (!matrix.a || !matrix.b || matrix.a.shape[0] != matrix.b.shape[1])
      fail(ErrorKind::kBadInput, file->where(), "lora_A and lora_B of {} do not fit each other",
           weight_name(matrix.slot.role, &WeightRoleInfo::hugging_face, matrix.slot.layer));
    const auto rank = static_cast<double>(matrix.a.shape[0]);
    matrix.scale = alpha / (rank_stabilised ? std::sqrt(rank) : rank);
    adapter.matrices.push_back(matrix);
  }
  if (adapter.matrices.empty()) fail(ErrorKind::kBadInput, file->where(), "holds no adapters");
  return adapter;
}

}  // namespace puna
