// SPDX-License-Identifier: Apache-2.0
// Whole quantizations: bytes against llama.cpp's and NumPy's (tools/golden/make_quantized.py), the report, and what is refused.
#include "quant/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/interrupted.h"
#include "base/json.h"
#include "base/sha256.h"
#include "model/tiny_checkpoint.h"
#include "shared_data.h"
#include "temp_folder.h"
#include "tensor/gguf.h"
#include "tensor/half.h"

namespace puna {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// The formula of make_quantized.py.
float formula_value(std::uint32_t tensor, std::uint32_t index) {
  std::uint32_t h = (tensor << 20) + index;
  h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
  h = (h ^ (h >> 13)) * 0xC2B2AE35u;
  h ^= h >> 16;
  const float u = static_cast<float>(h >> 8) * 0x1p-24f - 0.5f;
  const float square = u * u;
  return square * u;
}

// The model whose tensors, in the order of the golden file, have the formula's values; row 3 of feed-forward matrices may be zero.
std::shared_ptr<Checkpoint> formula_model(const ModelConfig& config, const Json& order, bool zero_row) {
  std::shared_ptr<Checkpoint> model = random_checkpoint(config, Format::kF16, 1);
  for (std::uint32_t number = 0; number < order.size(); ++number) {
    const auto slot = find_weight(order[number].get<std::string>(), &WeightRoleInfo::gguf);
    Tensor& tensor = model->weights.at(slot->role, slot->layer);
    if (tensor.shape.rank() == 1) continue;
    const auto width = static_cast<std::uint32_t>(tensor.shape.row_length());
    auto values = std::make_shared<std::vector<std::uint16_t>>();
    for (std::uint32_t i = 0; i < tensor.shape.count(); ++i) {
      const bool zero = zero_row && tensor.name.find("ffn") != std::string::npos && i / width == 3;
      values->push_back(zero ? 0 : f16_from_f32(formula_value(number, i)));
    }
    tensor.bytes = std::as_bytes(std::span(*values));
    model->owners.push_back(values);
  }
  if (config.tied_embeddings) model->weights.output = model->weights.token_embedding;
  return model;
}

std::string digest(std::span<const std::byte> bytes) {
  Sha256 sha;
  sha.update(bytes);
  return sha.finish().substr(0, 16);
}

Json golden_hashes() { return parse_json(read_text(golden("quant/quantized.json")), "quantized.json"); }

void expect_llama_cpp_bytes(const ModelConfig& config, const Json& model, const TempFolder& folder) {
  const auto source = formula_model(config, model["order"], false);
  ThreadPool pool(2);
  for (const auto& [name, hashes] : model["types"].items()) {
    quantize_checkpoint(pool, *source, folder / "out.gguf", quant_type(name), true);
    const GgufFile file(folder / "out.gguf");
    int compared = 0;
    for (const Tensor& tensor : file.tensors()) {
      if (tensor.name == "rope_freqs.weight") continue;
      EXPECT_EQ(digest(tensor.bytes), hashes.at(tensor.name).get<std::string>()) << name << " " << tensor.name;
      ++compared;
    }
    EXPECT_EQ(compared, static_cast<int>(hashes.size()));
  }
}

TEST(Quantize, EveryTensorHasLlamaCppsBytes) {
  const TempFolder folder;
  expect_llama_cpp_bytes(small_config(), golden_hashes()["narrow"], folder);
}

TEST(Quantize, SuperBlocksHaveLlamaCppsBytes) {
  ModelConfig config = small_config();
  config.layers = 2;
  config.width = 256;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_width = 128;
  config.feed_forward = 512;
  config.vocabulary = 24;
  config.tied_embeddings = true;
  const TempFolder folder;
  expect_llama_cpp_bytes(config, golden_hashes()["wide"], folder);
}

TEST(Quantize, Fp8CodesAndScalesAreNumPys) {
  const Json model = golden_hashes()["narrow"];
  const auto source = formula_model(small_config(), model["order"], true);
  const TempFolder folder;
  ThreadPool pool(2);
  quantize_checkpoint(pool, *source, folder / "out", quant_type("fp8"), false);
  const auto out = open_checkpoint(folder / "out");
  int compared = 0;
  for (const auto& [name, hashes] : model["fp8"].items()) {
    const auto slot = find_weight(name, &WeightRoleInfo::gguf);
    const Tensor& tensor = out->weights.at(slot->role, slot->layer);
    ASSERT_EQ(tensor.format, Format::kF8E4M3) << name;
    EXPECT_EQ(digest(tensor.bytes), hashes[0].get<std::string>()) << name;
    EXPECT_EQ(digest(tensor.row_scales), hashes[1].get<std::string>()) << name;
    EXPECT_EQ(tensor.row_scale(3), 1.0f);
    ++compared;
  }
  EXPECT_EQ(compared, 3);
  for (const std::int64_t layer : {0, 2}) {
    for (const WeightRole role : {WeightRole::kGate, WeightRole::kUp, WeightRole::kDown}) {
      EXPECT_EQ(out->weights.at(role, layer).format, Format::kBF16);
    }
  }
  EXPECT_EQ(out->weights.at(WeightRole::kQuery, 1).format, Format::kBF16);
}

TEST(Quantize, Fp8ConfigNamesTheMethodAndWhatIsKept) {
  const auto source = random_checkpoint(small_config(), Format::kBF16, 7);
  const TempFolder folder;
  ThreadPool pool(1);
  quantize_checkpoint(pool, *source, folder / "out", quant_type("fp8"), false);
  const Json config = parse_json(read_text(folder / "out" / "config.json"), "config.json");
  const Json& quantization = config["quantization_config"];
  EXPECT_EQ(quantization["quant_method"], "fbgemm_fp8");
  EXPECT_EQ(quantization["activation_scale_ub"], 1200.0);
  std::vector<std::string> kept;
  for (const Json& name : quantization["modules_to_not_convert"]) kept.push_back(name);
  EXPECT_THAT(kept, ::testing::IsSupersetOf({"lm_head", "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj",
                                             "model.layers.2.mlp.down_proj"}));
  EXPECT_THAT(kept, ::testing::Not(::testing::Contains("model.layers.1.mlp.up_proj")));
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
}

TEST(Quantize, TheReportCountsBytesBitsAndTensors) {
  const ModelConfig config = small_config();
  const auto source = random_checkpoint(config, Format::kF32, 3);
  const TempFolder folder;
  ThreadPool pool(2);
  const QuantizeReport report = quantize_checkpoint(pool, *source, folder / "out.gguf", quant_type("q8_0"), false);
  EXPECT_EQ(report.bytes_in, 4 * config.parameters());
  const std::int64_t norms = config.width * (2 * config.layers + 1);
  EXPECT_EQ(report.bytes_out, 4 * norms + (config.parameters() - norms) / 32 * 34);
  EXPECT_DOUBLE_EQ(report.bits_per_weight, 8.0 * static_cast<double>(report.bytes_out) / static_cast<double>(config.parameters()));
  const std::vector<std::pair<Format, std::int64_t>> expected = {{Format::kF32, 7}, {Format::kQ8_0, 23}};
  EXPECT_EQ(report.tensors, expected);
}

TEST(Quantize, TheReportSaysWhereAScoreWasLeftOut) {
  const auto source = random_checkpoint(small_config(), Format::kF32, 3);
  const std::vector<float> head(static_cast<std::size_t>(source->config.width), 0.5f);
  const TempFolder folder;
  ThreadPool pool(2);
  EXPECT_THAT(quantize_checkpoint(pool, *source, folder / "a.gguf", quant_type("q8_0"), false).notes, ::testing::IsEmpty());
  source->reward_head = {kRewardHead, Format::kF32, Shape{1, source->config.width}, std::as_bytes(std::span(head)), {}};
  EXPECT_THAT(quantize_checkpoint(pool, *source, folder / "b.gguf", quant_type("q8_0"), false).notes,
              ::testing::ElementsAre(HasSubstr("the score of this reward model was left out")));
  EXPECT_THAT(quantize_checkpoint(pool, *source, folder / "c", quant_type("fp8"), false).notes, ::testing::IsEmpty());
  EXPECT_TRUE(open_checkpoint(folder / "c")->reward_head);
}

// The error again, straight from the two checkpoints.
double error_between(const Checkpoint& a, const Checkpoint& b) {
  double error = 0, size = 0;
  for (const WeightRoleInfo& row : weight_roles()) {
    for (std::int64_t layer = 0; layer < (row.per_layer ? a.config.layers : 1); ++layer) {
      const Tensor &x = a.weights.at(row.role, layer), &y = b.weights.at(row.role, layer);
      if (x.shape.rank() < 2) continue;
      std::vector<float> left(static_cast<std::size_t>(x.shape.row_length())), right(left.size());
      for (std::int64_t n = 0; n < x.shape.rows(); ++n) {
        decode_row(x, n, left.data());
        decode_row(y, n, right.data());
        for (std::size_t i = 0; i < left.size(); ++i) {
          error += std::pow(static_cast<double>(right[i]) - left[i], 2);
          size += std::pow(static_cast<double>(left[i]), 2);
        }
      }
    }
  }
  return std::sqrt(error / size);
}

TEST(Quantize, TheErrorIsThatOfTheWrittenFile) {
  const auto source = random_checkpoint(small_config(), Format::kF32, 3);
  const TempFolder folder;
  ThreadPool pool(2);
  double last = 0;
  for (const char* name : {"f16", "q8_0", "q5_1", "q4_0"}) {
    const QuantizeReport report = quantize_checkpoint(pool, *source, folder / "out.gguf", quant_type(name), true);
    const auto out = open_checkpoint(folder / "out.gguf");
    EXPECT_NEAR(report.relative_error, error_between(*source, *out), 1e-9 * report.relative_error) << name;
    EXPECT_GT(report.relative_error, last) << name;
    last = report.relative_error;
  }
  EXPECT_LT(last, 0.1);
}

TEST(Quantize, TheFileIsTheSameForAnyNumberOfThreads) {
  const auto source = random_checkpoint(small_config(), Format::kBF16, 11);
  const TempFolder folder;
  ThreadPool one(1), three(3);
  const QuantizeReport a = quantize_checkpoint(one, *source, folder / "a.gguf", quant_type("q4_k_m"), false);
  const QuantizeReport b = quantize_checkpoint(three, *source, folder / "b.gguf", quant_type("q4_k_m"), false);
  EXPECT_EQ(read_text(folder / "a.gguf"), read_text(folder / "b.gguf"));
  EXPECT_EQ(a.relative_error, b.relative_error);
}

TEST(Quantize, WhatHasTheFormatAlreadyIsCopied) {
  const auto source = random_checkpoint(small_config(), Format::kQ4_0, 5);
  const TempFolder folder;
  ThreadPool pool(2);
  const QuantizeReport report = quantize_checkpoint(pool, *source, folder / "out.gguf", quant_type("q4_0"), false);
  const auto out = open_checkpoint(folder / "out.gguf");
  const Tensor &a = source->weights.at(WeightRole::kDown, 1), &b = out->weights.at(WeightRole::kDown, 1);
  EXPECT_EQ(digest(a.bytes), digest(b.bytes));
  EXPECT_EQ(out->weights.output.format, Format::kQ8_0);  // 64 columns are no super-block
  EXPECT_GT(report.relative_error, 0);                   // of the output matrix alone
}

TEST(Quantize, MetadataSaysTypeShapeAndScaling) {
  const auto source = random_checkpoint(small_config(), Format::kF32, 3);
  const TempFolder folder;
  ThreadPool pool(1);
  quantize_checkpoint(pool, *source, folder / "out.gguf", quant_type("q5_k_s"), false);
  const GgufFile file(folder / "out.gguf");
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("general.file_type"), 16);
  EXPECT_EQ(file.integer("general.quantization_version"), 2);
  EXPECT_EQ(file.integer("llama.attention.key_length"), 16);
  EXPECT_EQ(file.string("tokenizer.ggml.model"), "none");
  const auto out = open_checkpoint(folder / "out.gguf");
  const std::vector<double> expected = rope_frequencies(source->config), found = rope_frequencies(out->config);
  ASSERT_EQ(expected.size(), found.size());
  for (std::size_t p = 0; p < expected.size(); ++p) EXPECT_NEAR(found[p] / expected[p], 1, 1e-6);
}

template <typename Call>
void expect_error(ErrorKind kind, const std::string& message, Call&& call) {
  try {
    call();
    ADD_FAILURE() << "expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

TEST(Quantize, AnInterruptLeavesNothing) {
  const auto source = random_checkpoint(small_config(), Format::kF32, 3);
  const TempFolder folder;
  ThreadPool pool(2);
  const std::atomic<bool> interrupted = true;
  EXPECT_THROW(quantize_checkpoint(pool, *source, folder / "a.gguf", quant_type("q8_0"), false, &interrupted), Interrupted);
  EXPECT_THROW(quantize_checkpoint(pool, *source, folder / "a", quant_type("fp8"), false, &interrupted), Interrupted);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(QuantizeRefuses, NamesThatWouldOverwriteOrCannotBe) {
  const auto memory = random_checkpoint(small_config(), Format::kF32, 3);
  const TempFolder folder;
  ThreadPool pool(1);
  const QuantType& type = quant_type("q8_0");
  quantize_checkpoint(pool, *memory, folder / "a.gguf", type, false);
  expect_error(ErrorKind::kUsage, "already exists: give another name, or --force",
               [&] { quantize_checkpoint(pool, *memory, folder / "a.gguf", type, false); });
  expect_error(ErrorKind::kNotFound, "is not there: create it first",
               [&] { quantize_checkpoint(pool, *memory, folder / "absent" / "a.gguf", type, false); });
  expect_error(ErrorKind::kUsage, "a folder, where a file is to be written",
               [&] { quantize_checkpoint(pool, *memory, folder.path(), type, true); });
  expect_error(ErrorKind::kUsage, "does not end in .gguf",
               [&] { quantize_checkpoint(pool, *memory, folder / "b.gguf", quant_type("fp8"), false); });
  const auto file = open_checkpoint(folder / "a.gguf");
  expect_error(ErrorKind::kUsage, "this is the model that is read",
               [&] { quantize_checkpoint(pool, *file, folder / "a.gguf", type, true); });
}

TEST(QuantizeRefuses, FoldersOfOtherThings) {
  const auto memory = random_checkpoint(small_config(), Format::kF32, 3);
  const TempFolder folder;
  ThreadPool pool(1);
  fs::create_directory(folder / "photos");
  std::ofstream(folder / "photos" / "one.jpg") << "x";
  expect_error(ErrorKind::kUsage, "a folder that holds no checkpoint is not overwritten",
               [&] { quantize_checkpoint(pool, *memory, folder / "photos", quant_type("fp8"), true); });
  EXPECT_TRUE(fs::exists(folder / "photos" / "one.jpg"));
}

TEST(QuantizeRefuses, ValuesThatAreNotNumbersOrDoNotFit) {
  const TempFolder folder;
  ThreadPool pool(1);
  const auto source = random_checkpoint(small_config(), Format::kF32, 3);
  std::vector<float> values(64 * 64, 0.5f);
  values[64 * 2 + 5] = 1e6f;
  source->weights.layers[1].query.bytes = std::as_bytes(std::span(values));
  expect_error(ErrorKind::kUnsupported, "row 2 of tensor blk.1.attn_q.weight has values beyond the range of f16",
               [&] { quantize_checkpoint(pool, *source, folder / "a.gguf", quant_type("f16"), false); });
  values[64 * 2 + 5] = std::numeric_limits<float>::quiet_NaN();
  expect_error(ErrorKind::kBadInput, "tensor blk.1.attn_q.weight holds NaN or infinity in row 2",
               [&] { quantize_checkpoint(pool, *source, folder / "a.gguf", quant_type("q8_0"), false); });
  EXPECT_TRUE(fs::is_empty(folder.path())) << "a failed run leaves nothing behind";
}

}  // namespace
}  // namespace puna
