// SPDX-License-Identifier: Apache-2.0
#include "model/adapter_file.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/json.h"
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

void write_parameters(const fs::path& path, const RankedParameters& parameters,
                      const std::function<std::span<const float>(std::size_t)>& values) {
  std::vector<SafetensorsEntry> entries;
  for (const ParameterEntry& each : parameters.entries()) {
    const bool head = each.name == kRewardHead;  // among the adapters it is what PEFT calls a module to save
    entries.push_back({head ? kSavedHead : each.name, Format::kF32, each.whole});
  }
  write_safetensors(path, entries, {{"format", "pt"}}, [&](std::size_t index) { return std::as_bytes(values(index)); });
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

// PEFT subtracts what such matrices started with from the base when it loads them: beside the base as it is they are wrong.
void refuse_changed_base(const Json& config, const std::string& where) {
  if (!config.contains("init_lora_weights") || !config["init_lora_weights"].is_string()) return;  // true, false: plain LoRA
  const auto start = config["init_lora_weights"].get<std::string>();
  for (const std::string_view changes : {"pissa", "olora", "corda"}) {
    if (!start.starts_with(changes)) continue;
    fail(ErrorKind::kUnsupported, where,
         "starts from a part that PEFT takes out of the base (init_lora_weights: {}): save it again with "
         "path_initial_model_for_weight_conversion",
         start);
  }
}

void refuse_more_than_lora(const Json& config, const std::string& where) {
  if (json_or<std::string>(config, "peft_type", "LORA", where) != "LORA")
    fail(ErrorKind::kUnsupported, where, "is of type {}, only LORA can be merged", config["peft_type"].get<std::string>());
  if (json_or<bool>(config, "use_dora", false, where))
    fail(ErrorKind::kUnsupported, where, "is DoRA, only plain LoRA can be merged");
  if (json_or<std::string>(config, "bias", "none", where) != "none")
    fail(ErrorKind::kUnsupported, where, "trains biases, Llama has none");
  if (json_or<bool>(config, "fan_in_fan_out", false, where))
    fail(ErrorKind::kUnsupported, where, "has transposed matrices (fan_in_fan_out), Llama's are not");
  if (config.contains("layer_replication") && !config["layer_replication"].is_null())
    fail(ErrorKind::kUnsupported, where, "repeats layers of its base (layer_replication), only the base's own can be adapted");
  refuse_changed_base(config, where);
}

// PEFT's exceptions from lora_alpha: {"q_proj": 32}, each for the modules whose names end so.
class AlphaPattern {
 public:
  AlphaPattern(const Json& config, const std::string& where) : alpha_(json_at<double>(config, "lora_alpha", where)) {
    if (!config.contains("alpha_pattern") || config["alpha_pattern"].is_null()) return;
    const Json& pattern = config["alpha_pattern"];
    if (!pattern.is_object()) fail(ErrorKind::kBadInput, where, "\"alpha_pattern\" is no object of names and numbers");
    for (const auto& [name, alpha] : pattern.items()) {
      constexpr std::string_view kOfNames = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
      if (!alpha.is_number() || name.empty() || name.find_first_not_of(kOfNames) != std::string::npos)
        fail(ErrorKind::kUnsupported, where, "\"alpha_pattern\" has '{}': only names of modules with a number are understood",
             name);
      exceptions_.emplace_back(name, alpha.get<double>());
    }
  }

  // module: "model.layers.0.self_attn.q_proj". The first that fits, as PEFT has it.
  double of(std::string_view module) const {
    for (const auto& [name, alpha] : exceptions_) {
      if (module == name || module.ends_with("." + name)) return alpha;
    }
    return alpha_;
  }

 private:
  double alpha_;
  std::vector<std::pair<std::string, double>> exceptions_;
};

// a [r, K] and b [N, r] decoded into `memory`, rows of query and key in the base's order.
LowRank decoded(const AdapterFile::Matrix& matrix, const ModelConfig& config, std::span<float> memory) {
  const std::int64_t rank = matrix.a.shape[0], inputs = matrix.a.shape[1], outputs = matrix.b.shape[0];
  float* const a = memory.data();
  float* const b = a + rank * inputs;
  for (std::int64_t r = 0; r < rank; ++r) decode_row(matrix.a, r, a + r * inputs);
  for (std::int64_t n = 0; n < outputs; ++n) decode_row(matrix.b, file_row(matrix.slot.role, config, n), b + n * rank);
  const auto tensor = [](const Tensor& file, std::span<const float> values) {
    return Tensor{.name = file.name, .format = Format::kF32, .shape = file.shape, .bytes = std::as_bytes(values), .row_scales = {}};
  };
  return {.a = tensor(matrix.a, memory.first(static_cast<std::size_t>(rank * inputs))),
          .b = tensor(matrix.b, memory.subspan(static_cast<std::size_t>(rank * inputs))),
          .scale = static_cast<float>(matrix.scale)};
}

std::size_t floats(const AdapterFile::Matrix& matrix) {
  return static_cast<std::size_t>(matrix.a.shape.count() + matrix.b.shape.count());
}

}  // namespace

std::int64_t file_row(WeightRole role, const ModelConfig& config, std::int64_t row) {
  const bool reorders = is_rotary(role) && config.rope_pairing == RopePairing::kNeighbours;
  return reorders ? paired_row(row, config.head_width, RopePairing::kHalves, RopePairing::kNeighbours) : row;
}

void write_adapter(const fs::path& folder, const RankedParameters& parameters, const LoraChoice& choice, const std::string& base) {
  const ModelConfig& config = parameters.checkpoint().config;
  std::vector<float> copied, reordered;
  write_parameters(folder / kAdapterWeights, parameters, [&](std::size_t index) -> std::span<const float> {
    const ParameterEntry& each = parameters.entries()[index];
    const std::span<const float> values = parameters.on_host(index, copied);
    const bool turns = each.kind == ParameterEntry::Kind::kAdapterB && is_rotary(each.role);
    if (!turns || config.rope_pairing == RopePairing::kHalves) return values;
    const std::int64_t rank = each.whole[1];
    reordered.resize(values.size());
    for (std::int64_t n = 0; n < each.whole[0]; ++n) {
      const std::int64_t source = paired_row(n, config.head_width, config.rope_pairing, RopePairing::kHalves);
      std::copy_n(values.data() + source * rank, rank, reordered.data() + n * rank);
    }
    return reordered;
  });
  const bool scores = std::ranges::count(parameters.entries(), kRewardHead, &ParameterEntry::name) > 0;
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
  AdapterFile adapter{.base = json_or<std::string>(config, "base_model_name_or_path", "", where),
                      .file = folder / kAdapterWeights,
                      .matrices = {},
                      .reward_head = {},
                      .owners = {}};
  const AlphaPattern alphas(config, where);
  const bool rank_stabilised = json_or<bool>(config, "use_rslora", false, where);
  const auto file = std::make_shared<SafetensorsFile>(adapter.file);
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
    std::string_view module = matrix.a.name;  // base_model.model. … .lora_A.weight
    module.remove_prefix(kPeftPrefix.size());
    module.remove_suffix(kA.size());
    matrix.scale = alphas.of(module) / (rank_stabilised ? std::sqrt(rank) : rank);
    adapter.matrices.push_back(matrix);
  }
  if (adapter.matrices.empty()) fail(ErrorKind::kBadInput, file->where(), "holds no adapters");
  return adapter;
}

void check_adapter(const AdapterFile& adapter, const Checkpoint& base) {
  for (const AdapterFile::Matrix& matrix : adapter.matrices) {
    if (matrix.slot.layer >= base.config.layers)
      fail(ErrorKind::kBadInput, "adapter", "is for layer {}, the base has {}", matrix.slot.layer, base.config.layers);
    const Tensor& weight = base.weights.at(matrix.slot.role, matrix.slot.layer);
    if (matrix.b.shape[0] != weight.shape[0] || matrix.a.shape[1] != weight.shape[1])
      fail(ErrorKind::kBadInput, "adapter", "{} is {} × {}, the base has {}: it was made for another model", matrix.b.name,
           matrix.b.shape.text(), matrix.a.shape.text(), weight.shape.text());
  }
  if (adapter.reward_head && adapter.reward_head.shape != Shape{1, base.config.width})
    fail(ErrorKind::kUnsupported, "adapter", "tensor {} is {}, expected 1 × {}: only a reward's single score can be computed",
         adapter.reward_head.name, adapter.reward_head.shape.text(), base.config.width);
}

std::shared_ptr<const AdapterSet> load_adapters(const AdapterFile& adapter, const Checkpoint& base, const std::string& name) {
  if (adapter.reward_head) fail(ErrorKind::kUnsupported, name, "is of a reward model, which writes no answers: use puna reward");
  check_adapter(adapter, base);
  const auto set = std::make_shared<AdapterSet>();
  set->name = name;
  set->layers.resize(static_cast<std::size_t>(base.config.layers));
  for (const AdapterFile::Matrix& matrix : adapter.matrices)
    set->bytes += static_cast<std::int64_t>(Arena::padded(floats(matrix) * sizeof(float)));
  const auto arena = std::make_shared<Arena>(static_cast<std::size_t>(set->bytes), "the adapters");
  for (const AdapterFile::Matrix& matrix : adapter.matrices) {
    LowRank& place = set->layers[static_cast<std::size_t>(matrix.slot.layer)].at(matrix.slot.role);
    place = decoded(matrix, base.config, arena->take<float>(floats(matrix)));
  }
  set->rank = largest_rank(set->layers);
  set->owner = arena;
  return set;
}

}  // namespace puna
