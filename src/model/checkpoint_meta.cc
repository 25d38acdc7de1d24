// SPDX-License-Identifier: Apache-2.0
// A Meta folder: params.json and consolidated.NN.pth, one file per model-parallel rank. One file stays mapped; several are joined
// into one arena, each source page given back once it is copied. FP8 scales lie beside them in fp8_scales_N.pt.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/checkpoint_reading.h"
#include "model/memory_plan.h"
#include "model/shard_join.h"
#include "tensor/arena.h"
#include "tensor/pth.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

struct Shard {
  std::shared_ptr<PthFile> file, scale_file;
  std::map<std::string, const Tensor*, std::less<>> tensors;
};

std::vector<fs::path> list_shards(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("consolidated.") && name.ends_with(".pth")) paths.push_back(entry.path());
  }
  if (paths.empty()) fail(ErrorKind::kNotFound, folder.filename().string(), "no consolidated.*.pth beside params.json");
  std::sort(paths.begin(), paths.end());
  for (std::size_t rank = 0; rank < paths.size(); ++rank) {
    const std::string expected = fmt::format("consolidated.{:02}.pth", rank);
    if (paths[rank].filename() == expected) continue;
    fail(ErrorKind::kNotFound, expected, "is missing: {} other parts are here; the download is incomplete", paths.size());
  }
  return paths;
}

bool is_feed_forward(WeightRole role) { return role == WeightRole::kGate || role == WeightRole::kUp || role == WeightRole::kDown; }

// "3_feed_forward.w2_0": layer 3, matrix w2, rank 0.
std::string scale_key(const WeightSlot& slot, std::size_t rank) {
  const std::string_view matrix = slot.role == WeightRole::kGate ? "w1" : slot.role == WeightRole::kUp ? "w3" : "w2";
  return fmt::format("{}_feed_forward.{}_{}", slot.layer, matrix, rank);
}

const Tensor* find_tensor(const std::vector<Tensor>& tensors, std::string_view name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

Shard open_shard(const fs::path& path, std::size_t rank) {
  refuse_pointer_file(path);
  Shard shard;
  shard.file = std::make_shared<PthFile>(path);
  for (const Tensor& tensor : shard.file->tensors()) shard.tensors.emplace(tensor.name, &tensor);
  const fs::path scales = path.parent_path() / fmt::format("fp8_scales_{}.pt", rank);
  if (fs::exists(scales)) shard.scale_file = std::make_shared<PthFile>(scales);
  return shard;
}

// Gives an FP8 matrix of one rank its row scales.
void attach_scales(Tensor& tensor, const WeightSlot& slot, const Shard& shard, std::size_t rank) {
  if (tensor.format != Format::kF8E4M3) return;
  if (!is_feed_forward(slot.role))
    fail(ErrorKind::kUnsupported, shard.file->where(), "tensor {} is FP8: Meta's files have scales for feed-forward matrices only",
         tensor.name);
  const std::string file = fmt::format("fp8_scales_{}.pt", rank), key = scale_key(slot, rank);
  const Tensor* scales = shard.scale_file == nullptr ? nullptr : find_tensor(shard.scale_file->tensors(), key);
  if (scales == nullptr) {
    fail(ErrorKind::kBadInput, file, "{} is missing, which scales the FP8 tensor {}: the download is incomplete", key, tensor.name);
  }
  const std::int64_t rows = tensor.shape.rows();
  if (scales->format != Format::kF32 || scales->shape.count() != rows) {
    fail(ErrorKind::kBadInput, file, "{} is {} {}, expected [{}] f32 for tensor {}", key, scales->shape.text(),
         info(scales->format).name, rows, tensor.name);
  }
  tensor.row_scales = scales->bytes;
}

bool is_extra_of_meta(std::string_view name) {
  return name == "rope.freqs" || name == "freqs_cis" || name.ends_with("_extra_state");
}

// Every rank's piece of one weight, or nothing where no rank has it.
std::vector<Tensor> pieces_of(const std::vector<Shard>& shards, const WeightSlot& slot, const std::vector<fs::path>& paths) {
  const std::string name = weight_name(slot.role, &WeightRoleInfo::meta, slot.layer);
  std::vector<Tensor> pieces;
  for (std::size_t rank = 0; rank < shards.size(); ++rank) {
    const auto found = shards[rank].tensors.find(name);
    if (found == shards[rank].tensors.end()) continue;
    if (pieces.size() != rank)
      fail(ErrorKind::kBadInput, paths[0].filename().string(), "tensor {} is missing, but rank {} has it", name, rank);
    pieces.push_back(*found->second);
    attach_scales(pieces.back(), slot, shards[rank], rank);
  }
  if (!pieces.empty() && pieces.size() != shards.size()) {
    fail(ErrorKind::kBadInput, paths[pieces.size()].filename().string(), "tensor {} is missing, but other ranks have it", name);
  }
  return pieces;
}

// Fills in what params.json left to the tensors.
void complete_config(ModelConfig& config, const std::vector<Shard>& shards, const std::string& where) {
  const auto rows_of = [&](WeightRole role) -> std::int64_t {
    const auto found = shards[0].tensors.find(weight_name(role, &WeightRoleInfo::meta));
    if (found == shards[0].tensors.end()) return 0;
    const Shape& shape = found->second->shape;
    const bool by_columns = shape.row_length() != config.width;  // Llama 2 splits the embedding so
    return by_columns ? shape.rows() : shape.rows() * static_cast<std::int64_t>(shards.size());
  };
  if (config.vocabulary == 0) config.vocabulary = rows_of(WeightRole::kTokenEmbedding);
  if (config.feed_forward == 0) config.feed_forward = rows_of(WeightRole::kGate);
  config.tied_embeddings = !shards[0].tensors.contains(info(WeightRole::kOutput).meta);
  check_config(config, where);
}

std::vector<WeightSlot> all_slots(const ModelConfig& config) {
  std::vector<WeightSlot> slots;
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.role == WeightRole::kOutput && config.tied_embeddings) continue;
    for (std::int64_t layer = 0; layer < (row.per_layer ? config.layers : 1); ++layer) slots.push_back({row.role, layer});
  }
  return slots;
}

void refuse_extras(const std::vector<Shard>& shards, const ModelConfig& config, const std::vector<fs::path>& paths) {
  for (std::size_t rank = 0; rank < shards.size(); ++rank) {
    const std::string where = paths[rank].filename().string();
    for (const auto& [name, tensor] : shards[rank].tensors) {
      const auto slot = find_weight(name, &WeightRoleInfo::meta);
      if (!slot && !is_extra_of_meta(name)) refuse_tensor(name, where);
      if (slot && info(slot->role).per_layer && slot->layer >= config.layers) {
        fail(ErrorKind::kBadInput, where, "tensor {} belongs to layer {}, but params.json has {} layers", name, slot->layer,
             config.layers);
      }
    }
  }
}

// Joins all ranks. Shapes are checked for every weight before the arena is made, so that it is no larger than the files justify.
void join_shards(Checkpoint& checkpoint, const std::vector<Shard>& shards, const std::vector<fs::path>& paths) {
  std::vector<std::pair<WeightSlot, JoinPlan>> plans;
  std::size_t bytes = 0;
  for (const WeightSlot& slot : all_slots(checkpoint.config)) {
    std::vector<Tensor> pieces = pieces_of(shards, slot, paths);
    if (pieces.empty()) continue;  // check_weights names it
    plans.emplace_back(slot,
                       plan_join(std::move(pieces), info(slot.role), weight_shape(checkpoint.config, slot.role), checkpoint.where));
    bytes += Arena::padded(plans.back().second.bytes) + Arena::padded(plans.back().second.scale_bytes);
  }
  check_memory(static_cast<std::int64_t>(bytes), "the joined weights", checkpoint.where);
  auto arena = std::make_shared<Arena>(bytes, "the joined weights of " + checkpoint.where);
  for (auto& [slot, plan] : plans) {
    checkpoint.weights.at(slot.role, slot.layer) = join(plan, *arena);
    for (std::size_t rank = 0; rank < plan.pieces.size(); ++rank) {
      const MappedFile* mapping = shards[plan.ranks[rank]].file->mapping();
      const std::size_t offset = static_cast<std::size_t>(plan.pieces[rank].bytes.data() - mapping->bytes().data());
      mapping->release(offset, plan.pieces[rank].bytes.size());
    }
  }
  checkpoint.resident_bytes = static_cast<std::int64_t>(bytes);
  checkpoint.owners.push_back(arena);
}

void map_single(Checkpoint& checkpoint, const std::vector<Shard>& shards, const std::vector<fs::path>& paths) {
  for (const WeightSlot& slot : all_slots(checkpoint.config)) {
    const std::vector<Tensor> pieces = pieces_of(shards, slot, paths);
    if (!pieces.empty()) checkpoint.weights.at(slot.role, slot.layer) = pieces.front();
  }
  checkpoint.owners.push_back(shards.front().file);
  if (shards.front().scale_file != nullptr) checkpoint.owners.push_back(shards.front().scale_file);
}

}  // namespace

std::shared_ptr<Checkpoint> open_meta_checkpoint(const fs::path& folder) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->kind = CheckpointKind::kMeta;
  checkpoint->where = folder_name(folder);
  checkpoint->config = parse_meta_params(read_text_file(folder / "params.json"), "params.json");
  checkpoint->config.name = folder_name(folder);
  checkpoint->files = list_shards(folder);
  std::vector<Shard> shards;
  for (std::size_t rank = 0; rank < checkpoint->files.size(); ++rank) shards.push_back(open_shard(checkpoint->files[rank], rank));
  complete_config(checkpoint->config, shards, "params.json");
  refuse_extras(shards, checkpoint->config, checkpoint->files);
  checkpoint->weights.layers.resize(static_cast<std::size_t>(checkpoint->config.layers));
  if (shards.size() == 1) {
    map_single(*checkpoint, shards, checkpoint->files);
  } else {
    join_shards(*checkpoint, shards, checkpoint->files);
  }
  checkpoint->tokenizer = open_folder_tokenizer(folder);
  finish_checkpoint(*checkpoint, &WeightRoleInfo::meta, "");
  return checkpoint;
}

}  // namespace puna
