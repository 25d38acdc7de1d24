// SPDX-License-Identifier: Apache-2.0
// Meta folders: one file and several, and parts that do not belong together.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "checkpoint_fixture.h"
#include "model/checkpoint.h"
#include "tensor/pth.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

class MetaCheckpoint : public CheckpointTest {
 protected:
  void refuses(ErrorKind kind, const std::string& text, const fs::path& path) {
    expect_error(kind, text, [&] { open_checkpoint(path); });
    fs::remove_all(path);
  }
  template <typename Change>
  fs::path with_pth(const std::string& name, const std::string& file, Change&& change) {
    const fs::path target = copy(name);
    change_pth(golden("model/" + name) / file, target / file, change);
    return target;
  }
  template <typename Change>
  static void change_pth(const fs::path& from, const fs::path& to, Change&& change) {
    const PthFile original(from);
    std::vector<Tensor> tensors = original.tensors();
    change(tensors);
    std::vector<PthEntry> entries;
    for (const Tensor& tensor : tensors) entries.push_back({tensor.name, tensor.format, tensor.shape});
    fs::remove(to);
    write_pth(to, entries, [&](std::size_t i) { return tensors[i].bytes; });
  }
};

bool same_weights(const Checkpoint& a, const Checkpoint& b) {
  for (const WeightRoleInfo& row : weight_roles()) {
    for (std::int64_t layer = 0; layer < (row.per_layer ? a.config.layers : 1); ++layer) {
      const Tensor &x = a.weights.at(row.role, layer), &y = b.weights.at(row.role, layer);
      if (x.format != y.format || x.shape != y.shape || !std::ranges::equal(x.bytes, y.bytes)) return false;
    }
  }
  return true;
}

TEST_F(MetaCheckpoint, JoinedPartsAreTheWhole) {
  const auto one = open_checkpoint(golden("model/scaled/meta")), two = open_checkpoint(golden("model/scaled/meta_2"));
  EXPECT_EQ(two->files.size(), 2u);
  EXPECT_TRUE(same_weights(*one, *two));
  EXPECT_EQ(one->weight_bytes, two->weight_bytes);
  EXPECT_FALSE(one->config.tied_embeddings);
  EXPECT_EQ(one->config.rope_scaling, RopeScaling{});
}

// Meta's row order and GGUF's are the same, so the bytes are too; Llama 2's embedding is split by columns.
TEST_F(MetaCheckpoint, JoinedPartsAreTheGgufFilesBytes) {
  const auto meta = open_checkpoint(golden("model/llama2/meta_2")), gguf = open_checkpoint(golden("model/llama2/f32.gguf"));
  EXPECT_EQ(meta->config.vocabulary, 40);  // params.json says -1
  EXPECT_TRUE(same_weights(*meta, *gguf));
}

TEST_F(MetaCheckpoint, KeyValueHeadsStoredByTwoRanksEach) {
  // The first rank's keys and values once more as a third and fourth part: 2 heads on 4 ranks.
  const fs::path path = folder_ / "replicated";
  const auto whole = open_checkpoint(golden("model/scaled/meta"));
  fs::create_directories(path);
  fs::copy_file(golden("model/scaled/meta/params.json"), path / "params.json");
  for (int rank = 0; rank < 4; ++rank) {
    std::vector<std::vector<std::byte>> kept;
    change_pth(golden("model/scaled/meta/consolidated.00.pth"), path / fmt::format("consolidated.{:02}.pth", rank),
               [&](auto& tensors) {
                 for (Tensor& tensor : tensors) {
                   const auto slot = find_weight(tensor.name, &WeightRoleInfo::meta);
                   const bool kv = slot->role == WeightRole::kKey || slot->role == WeightRole::kValue;
                   const std::int64_t parts = kv ? 2 : 4, part = kv ? rank / 2 : rank;
                   const ShardAxis axis = info(slot->role).shard_axis;
                   if (axis == ShardAxis::kNone) continue;
                   std::vector<std::byte>& bytes = kept.emplace_back();
                   const std::int64_t rows = tensor.shape[0] / (axis == ShardAxis::kRows ? parts : 1);
                   const std::int64_t columns = tensor.shape[1] / (axis == ShardAxis::kColumns ? parts : 1);
                   for (std::int64_t n = 0; n < rows; ++n) {
                     const std::byte* row = tensor.row(axis == ShardAxis::kRows ? part * rows + n : n);
                     row += axis == ShardAxis::kColumns ? 2 * part * columns : 0;
                     bytes.insert(bytes.end(), row, row + 2 * columns);
                   }
                   tensor.shape = {rows, columns};
                   tensor.bytes = bytes;
                 }
               });
  }
  EXPECT_TRUE(same_weights(*open_checkpoint(path), *whole));
}

TEST_F(MetaCheckpoint, MissingParts) {
  fs::path path = copy("scaled/meta_2");
  fs::remove(path / "consolidated.00.pth");
  refuses(ErrorKind::kNotFound, "[consolidated.00.pth] is missing: 1 other parts are here", path);
  path = copy("scaled/meta_2");
  fs::remove(path / "consolidated.01.pth");
  refuses(ErrorKind::kBadInput, "tensor tok_embeddings.weight is [32, 32], expected [64, 32] from the config", path);
  path = copy("scaled/meta_2");
  fs::copy_file(path / "consolidated.01.pth", path / "consolidated.02.pth");
  refuses(ErrorKind::kBadInput, "tensor tok_embeddings.weight is [32, 32] in each of 3 files, which does not make up [64, 32]",
          path);
}

TEST_F(MetaCheckpoint, PartsThatDoNotBelongTogether) {
  const auto second = [&](auto&& change) { return with_pth("scaled/meta_2", "consolidated.01.pth", change); };
  std::vector<std::byte> other(64, std::byte{1});
  refuses(ErrorKind::kBadInput, "tensor norm.weight differs between the files: they are not parts of one model",
          second([&](auto& tensors) { named(tensors, "norm.weight").bytes = other; }));
  refuses(ErrorKind::kBadInput, "[consolidated.01.pth] tensor output.weight is missing, but other ranks have it",
          second([](auto& tensors) { std::erase_if(tensors, [](const Tensor& t) { return t.name == "output.weight"; }); }));
  refuses(ErrorKind::kBadInput, "is [16, 32] bf16 in one file and [8, 64] bf16 in another", second([](auto& tensors) {
            named(tensors, "layers.0.attention.wq.weight").shape = {8, 64};
          }));
  refuses(ErrorKind::kUnsupported, "tensor layers.0.attention.wq.bias (a bias)",
          second([](auto& tensors) { named(tensors, "layers.0.attention.wq.weight").name = "layers.0.attention.wq.bias"; }));
  refuses(ErrorKind::kBadInput, "tensor layers.9.attention.wq.weight belongs to layer 9, but params.json has 2 layers",
          second([](auto& tensors) { named(tensors, "layers.0.attention.wq.weight").name = "layers.9.attention.wq.weight"; }));
  refuses(ErrorKind::kBadInput, "tensor layers.1.feed_forward.w3.weight is missing",
          with_pth("scaled/meta", "consolidated.00.pth", [](auto& t) {
            std::erase_if(t, [](const Tensor& tensor) { return tensor.name == "layers.1.feed_forward.w3.weight"; });
          }));
}

TEST_F(MetaCheckpoint, ParamsOfAnotherModel) {
  const auto params = [&](const std::string& name, const char* key, Json value) {
    return with_json("scaled/" + name, "params.json", [&](Json& json) { json[key] = value; });
  };
  refuses(ErrorKind::kBadInput, "tensor layers.0.feed_forward.w1.weight is [64, 32], expected [96, 32] from the config",
          params("meta", "ffn_dim_multiplier", 1.0));
  refuses(ErrorKind::kBadInput,
          "tensor layers.0.feed_forward.w1.weight is [32, 32] in each of 2 files, which does not make up [96, 32]",
          params("meta_2", "ffn_dim_multiplier", 1.0));
  refuses(ErrorKind::kBadInput, "tensor layers.2.attention_norm.weight is missing", params("meta", "n_layers", 3));
  refuses(ErrorKind::kBadInput, "belongs to layer 1, but params.json has 1 layers", params("meta", "n_layers", 1));
  refuses(ErrorKind::kBadInput, "tensor layers.0.attention.wk.weight is [16, 32], expected [32, 32]",
          params("meta", "n_kv_heads", 4));
  refuses(ErrorKind::kBadInput, "tensor tok_embeddings.weight is [64, 32], expected [128256, 32]",
          params("meta", "vocab_size", 128256));
  const fs::path path = with_json("scaled/meta", "params.json", [](Json& json) { json.erase("multiple_of"); });
  EXPECT_EQ(open_checkpoint(path)->config.feed_forward, 64);  // without multiple_of the tensors say
}

TEST_F(MetaCheckpoint, Fp8StaysAsItIsUnlessColumnsWereScaledApart) {
  const auto one = open_checkpoint(golden("model/fp8/meta")), two = open_checkpoint(golden("model/fp8/meta_2"));
  EXPECT_EQ(one->weights.layers[1].down.format, Format::kF8E4M3);
  EXPECT_EQ(one->weights.layers[1].down.row_scales.size(), 32u * 4);
  EXPECT_EQ(two->weights.layers[1].up.format, Format::kF8E4M3);
  EXPECT_EQ(two->weights.layers[1].up.row_scales.size(), 64u * 4);
  EXPECT_EQ(two->weights.layers[1].down.format, Format::kF32);
  // Rows are quantized the same, whole or split; columns get finer scales when they are split.
  EXPECT_TRUE(std::ranges::equal(one->weights.layers[1].up.bytes, two->weights.layers[1].up.bytes));
  std::vector<float> whole(64), joined(64);
  decode_row(one->weights.layers[1].down, 5, whole.data());
  decode_row(two->weights.layers[1].down, 5, joined.data());
  for (std::size_t k = 0; k < 64; ++k) EXPECT_NEAR(whole[k], joined[k], 0.05) << k;
}

TEST_F(MetaCheckpoint, Fp8ScalesThatAreMissingOrDamaged) {
  fs::path path = copy("fp8/meta");
  fs::remove(path / "fp8_scales_0.pt");
  refuses(ErrorKind::kBadInput,
          "[fp8_scales_0.pt] 1_feed_forward.w1_0 is missing, which scales the FP8 tensor layers.1.feed_forward.w1.weight", path);
  path = copy("fp8/meta_2");
  fs::copy_file(path / "fp8_scales_0.pt", path / "fp8_scales_1.pt", fs::copy_options::overwrite_existing);
  refuses(ErrorKind::kBadInput, "[fp8_scales_1.pt] 1_feed_forward.w1_1 is missing", path);
  std::vector<float> scales(64, 1.0f);
  refuses(ErrorKind::kBadInput, "1_feed_forward.w3_0 is [32] f32, expected [64] f32",
          with_pth("fp8/meta", "fp8_scales_0.pt", [&](auto& t) {
            named(t, "1_feed_forward.w3_0").shape = {32};
            named(t, "1_feed_forward.w3_0").bytes = std::as_bytes(std::span(scales)).first(128);
          }));
  scales[63] = INFINITY;
  refuses(ErrorKind::kBadInput, "the scale of row 63 of tensor layers.1.feed_forward.w3.weight is inf",
          with_pth("fp8/meta", "fp8_scales_0.pt",
                   [&](auto& t) { named(t, "1_feed_forward.w3_0").bytes = std::as_bytes(std::span(scales)); }));
}

// Each of its rows would find a scale: that of the same row of w2.
TEST_F(MetaCheckpoint, Fp8OutsideTheFeedForwardIsRefused) {
  refuses(ErrorKind::kUnsupported, "[consolidated.00.pth] tensor layers.1.attention.wq.weight is FP8: Meta's files have scales for",
          with_pth("fp8/meta", "consolidated.00.pth", [](auto& tensors) {
            Tensor& query = named(tensors, "layers.1.attention.wq.weight");
            query.format = Format::kF8E4M3;
            query.bytes = query.bytes.first(static_cast<std::size_t>(query.shape.count()));
          }));
}

TEST_F(MetaCheckpoint, TruncatedFile) {
  const fs::path path = copy("scaled/meta");
  fs::resize_file(path / "consolidated.00.pth", 3000);
  refuses(ErrorKind::kBadInput, "[consolidated.00.pth]", path);
}

}  // namespace
}  // namespace puna
