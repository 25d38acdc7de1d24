// SPDX-License-Identifier: Apache-2.0
// Round trips between the containers, byte for byte, and what each conversion has to say.
#include "quant/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <fstream>

#include "base/error.h"
#include "base/interrupted.h"
#include "base/json.h"
#include "model/built_in.h"
#include "model/tiny_checkpoint.h"
#include "quant/hugging_face_export.h"
#include "quant/meta_export.h"
#include "quant/quantize.h"
#include "quant/rope_export.h"
#include "shared_data.h"
#include "temp_folder.h"
#include "tensor/gguf.h"

namespace puna {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr CheckpointKind kHf = CheckpointKind::kHuggingFace, kGguf = CheckpointKind::kGguf, kMeta = CheckpointKind::kMeta;

// A Hugging Face folder with weights in one format, norms too.
std::shared_ptr<Checkpoint> hugging_face(const TempFolder& folder, const ModelConfig& config, Format format) {
  ThreadPool pool(2);
  ModelConfig halves = config;
  halves.rope_pairing = RopePairing::kHalves;
  const auto memory = random_checkpoint(halves, format, 5, &pool);
  const ConvertReport report = convert_checkpoint(pool, *memory, folder / "hf", kHf, false);
  EXPECT_TRUE(report.lossless);
  return open_checkpoint(folder / "hf");
}

class RoundTrip : public ::testing::TestWithParam<Format> {};

TEST_P(RoundTrip, HuggingFaceSurvivesGgufAndMeta) {
  const TempFolder folder;
  ThreadPool pool(2);
  const auto source = hugging_face(folder, small_config(), GetParam());
  EXPECT_EQ(source->weights.layers[0].query.format, GetParam());
  EXPECT_EQ(source->weights.output_norm.format, GetParam());
  EXPECT_EQ(source->config.rope_scaling, small_config().rope_scaling);

  EXPECT_TRUE(convert_checkpoint(pool, *source, folder / "a.gguf", kGguf, false).lossless);
  const auto gguf = open_checkpoint(folder / "a.gguf");
  EXPECT_EQ(gguf->weights.output_norm.format, Format::kF32);
  EXPECT_TRUE(convert_checkpoint(pool, *gguf, folder / "back", kHf, false).lossless);
  const auto back = open_checkpoint(folder / "back");
  EXPECT_EQ(first_difference(*source, *back), "");
  EXPECT_EQ(read_text(folder / "hf" / "model.safetensors"), read_text(folder / "back" / "model.safetensors"));
  EXPECT_EQ(read_text(folder / "hf" / "config.json"), read_text(folder / "back" / "config.json"));

  EXPECT_TRUE(convert_checkpoint(pool, *gguf, folder / "meta", kMeta, false).lossless);
  const auto meta = open_checkpoint(folder / "meta");
  EXPECT_EQ(meta->kind, kMeta);
  EXPECT_TRUE(convert_checkpoint(pool, *meta, folder / "again", kHf, false).lossless);
  EXPECT_EQ(first_difference(*source, *open_checkpoint(folder / "again")), "");
  EXPECT_TRUE(convert_checkpoint(pool, *meta, folder / "b.gguf", kGguf, false).lossless);
  EXPECT_EQ(first_difference(*gguf, *open_checkpoint(folder / "b.gguf")), "");
}

INSTANTIATE_TEST_SUITE_P(Formats, RoundTrip, ::testing::Values(Format::kF32, Format::kF16, Format::kBF16),
                         [](const auto& tested) { return std::string(puna::info(tested.param).name); });

TEST(Convert, QueriesAndKeysChangeTheirPairingAndNothingElse) {
  const TempFolder folder;
  ThreadPool pool(2);
  const auto source = hugging_face(folder, small_config(), Format::kBF16);
  convert_checkpoint(pool, *source, folder / "a.gguf", kGguf, false);
  const auto gguf = open_checkpoint(folder / "a.gguf");
  const auto row = [](const Tensor& tensor, std::int64_t n) {
    return std::string(reinterpret_cast<const char*>(tensor.row(n)), static_cast<std::size_t>(tensor.row_bytes()));
  };
  const LayerWeights &from = source->weights.layers[1], &to = gguf->weights.layers[1];
  for (std::int64_t head = 0; head < 4; ++head) {
    for (std::int64_t pair = 0; pair < 8; ++pair) {  // (p, p + E / 2) of halves are the neighbours (2p, 2p + 1)
      EXPECT_EQ(row(to.query, head * 16 + 2 * pair), row(from.query, head * 16 + pair));
      EXPECT_EQ(row(to.query, head * 16 + 2 * pair + 1), row(from.query, head * 16 + pair + 8));
    }
  }
  EXPECT_EQ(row(to.key, 1), row(from.key, 8));
  EXPECT_EQ(row(to.value, 1), row(from.value, 1));
}

TEST(Convert, QuantizedRowsSurviveReordering) {
  ModelConfig halves = small_config();
  halves.rope_pairing = RopePairing::kHalves;
  const auto source = random_checkpoint(halves, Format::kQ4_0, 5);
  const TempFolder folder;
  ThreadPool pool(2);
  const ConvertReport report = convert_checkpoint(pool, *source, folder / "a.gguf", kGguf, false);
  EXPECT_TRUE(report.lossless);
  const auto out = open_checkpoint(folder / "a.gguf");
  EXPECT_EQ(out->weights.layers[0].key.format, Format::kQ4_0);
  EXPECT_EQ(std::memcmp(out->weights.layers[0].key.row(1), source->weights.layers[0].key.row(8), 36), 0);
}

TEST(Convert, QuantizedMatricesBecomeHalfPrecisionInFoldersAndItIsSaid) {
  const auto source = random_checkpoint(small_config(), Format::kQ8_0, 5);
  const TempFolder folder;
  ThreadPool pool(2);
  for (const CheckpointKind kind : {kHf, kMeta}) {
    const ConvertReport report = convert_checkpoint(pool, *source, folder / "out", kind, true);
    EXPECT_FALSE(report.lossless);
    EXPECT_THAT(report.notes, ::testing::Contains(HasSubstr("23 matrices were decoded from q8_0 and rounded to f16")));
    EXPECT_EQ(open_checkpoint(folder / "out")->weights.layers[0].down.format, Format::kF16);
    fs::remove_all(folder / "out");
  }
}

TEST(Convert, Fp8SurvivesFoldersAndIsRoundedInGguf) {
  const TempFolder folder;
  ThreadPool pool(2);
  const auto memory = random_checkpoint(small_config(), Format::kBF16, 5);
  quantize_checkpoint(pool, *memory, folder / "fp8", quant_type("fp8"), false);
  const auto source = open_checkpoint(folder / "fp8");
  EXPECT_TRUE(convert_checkpoint(pool, *source, folder / "meta", kMeta, false).lossless);
  const auto meta = open_checkpoint(folder / "meta");
  EXPECT_EQ(meta->weights.layers[1].gate.format, Format::kF8E4M3);
  EXPECT_TRUE(convert_checkpoint(pool, *meta, folder / "back", kHf, false).lossless);
  EXPECT_EQ(first_difference(*source, *open_checkpoint(folder / "back")), "");
  const ConvertReport report = convert_checkpoint(pool, *source, folder / "a.gguf", kGguf, false);
  EXPECT_FALSE(report.lossless);
  EXPECT_THAT(report.notes, ::testing::ElementsAre(HasSubstr("3 matrices were decoded from ")));
}

TEST(Convert, TiedEmbeddingsStayTied) {
  ModelConfig config = small_config();
  config.tied_embeddings = true;
  const TempFolder folder;
  ThreadPool pool(2);
  const auto source = hugging_face(folder, config, Format::kBF16);
  const ConvertReport report = convert_checkpoint(pool, *source, folder / "meta", kMeta, false);
  EXPECT_THAT(report.notes, ::testing::Contains(HasSubstr("output.weight was left out")));
  const auto meta = open_checkpoint(folder / "meta");
  convert_checkpoint(pool, *meta, folder / "a.gguf", kGguf, false);
  EXPECT_TRUE(open_checkpoint(folder / "a.gguf")->config.tied_embeddings);
}

TEST(Convert, LargeModelsAreCutIntoShardsWithAnIndex) {
  const TempFolder folder;
  ThreadPool pool(2);
  const auto source = hugging_face(folder, small_config(), Format::kBF16);
  const std::vector<WeightPlan> plan =
      plan_weights(*source, [](const Tensor& tensor, WeightRole, std::int64_t) { return tensor.format; });
  WeightEncoder encoder(pool, *source, RopePairing::kHalves, "convert");
  std::vector<std::string> notes;
  fs::create_directory(folder / "shards");
  write_hugging_face_checkpoint(folder / "shards", *source, plan, encoder, notes, 60'000);
  EXPECT_TRUE(fs::exists(folder / "shards" / "model-00001-of-00004.safetensors"));
  for (const auto& entry : fs::directory_iterator(folder / "shards")) EXPECT_LE(entry.file_size(), 64'000u) << entry.path();
  const Json index = parse_json(read_text(folder / "shards" / "model.safetensors.index.json"), "index");
  EXPECT_EQ(index["metadata"]["total_size"], source->weight_bytes);
  EXPECT_EQ(first_difference(*source, *open_checkpoint(folder / "shards")), "");
}

TEST(Convert, ConfigHasTheFiguresThatTransformersReads) {
  const TempFolder folder;
  hugging_face(folder, small_config(), Format::kF16);
  const Json config = parse_json(read_text(folder / "hf" / "config.json"), "config.json");
  EXPECT_EQ(config["architectures"][0], "LlamaForCausalLM");
  EXPECT_EQ(config["rms_norm_eps"], 1e-5);
  EXPECT_EQ(config["rope_theta"], 500000.0);
  EXPECT_EQ(config["torch_dtype"], "float16");
  EXPECT_EQ(config["rope_scaling"]["rope_type"], "llama3");
  EXPECT_EQ(config["rope_scaling"]["original_max_position_embeddings"], 8192);
  EXPECT_EQ(config["num_key_value_heads"], 2);
}

// It lies in no file, so there is none to take its metadata from.
TEST(Convert, TheModelInsideTheProgramSurvives) {
  const TempFolder folder;
  ThreadPool pool(2);
  const auto source = open_checkpoint(kBuiltInPath);
  EXPECT_TRUE(convert_checkpoint(pool, *source, folder / "nano.gguf", kGguf, false).lossless);
  const auto copy = open_checkpoint(folder / "nano.gguf");
  EXPECT_EQ(copy->chat_template, source->chat_template);
  EXPECT_EQ(copy->need_tokenizer().encode("What is the capital of France?"),
            source->need_tokenizer().encode("What is the capital of France?"));
  EXPECT_TRUE(std::ranges::equal(copy->weights.output_norm.bytes, source->weights.output_norm.bytes));
  EXPECT_TRUE(std::ranges::equal(copy->weights.layers[0].query.bytes, source->weights.layers[0].query.bytes));
  convert_checkpoint(pool, *source, folder / "hf", kHf, false);
  EXPECT_EQ(open_checkpoint(folder / "hf")->config.layers, source->config.layers);
}

TEST(Convert, AnInterruptLeavesNothing) {
  const TempFolder folder;
  ThreadPool pool(2);
  const auto source = random_checkpoint(small_config(), Format::kBF16, 3);
  const std::atomic<bool> interrupted = true;
  EXPECT_THROW(convert_checkpoint(pool, *source, folder / "a.gguf", kGguf, false, &interrupted), Interrupted);
  for (const CheckpointKind kind : {kHf, kMeta}) {
    EXPECT_THROW(convert_checkpoint(pool, *source, folder / "a", kind, false, &interrupted), Interrupted);
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Convert, OverwritingAFolderReplacesItsWeightsAndKeepsTheRest) {
  const TempFolder folder;
  ThreadPool pool(1);
  const auto memory = random_checkpoint(small_config(), Format::kBF16, 5);
  convert_checkpoint(pool, *memory, folder / "hf", kHf, false);
  std::ofstream(folder / "hf" / "model-00001-of-00002.safetensors") << "of another model";
  std::ofstream(folder / "hf" / "notes.txt") << "mine";
  EXPECT_THROW(convert_checkpoint(pool, *memory, folder / "hf", kHf, false), Error);
  convert_checkpoint(pool, *memory, folder / "hf", kHf, true);
  EXPECT_FALSE(fs::exists(folder / "hf" / "model-00001-of-00002.safetensors"));
  EXPECT_EQ(read_text(folder / "hf" / "notes.txt"), "mine");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1) << "the draft is gone";
}

TEST(Convert, OverwritingAFolderLeavesNothingOfItsTokenizer) {
  const TempFolder folder;
  ThreadPool pool(2);
  const auto model = open_checkpoint(kBuiltInPath);
  convert_checkpoint(pool, *model, folder / "hf", kHf, false);
  const std::vector<std::string> stale{"chat_template.jinja", "added_tokens.json", "special_tokens_map.json", "params.json",
                                       "tokenizer.model"};
  for (const std::string& name : stale) std::ofstream(folder / "hf" / name) << "{{ another model's }}";
  std::ofstream(folder / "hf" / "notes.txt") << "the user's own";
  convert_checkpoint(pool, *model, folder / "hf", kHf, true);
  EXPECT_EQ(open_checkpoint(folder / "hf")->prompt_format.has_value(), true);
  for (const std::string& name : stale) EXPECT_FALSE(fs::exists(folder / "hf" / name)) << name;
  EXPECT_EQ(read_text(folder / "hf" / "notes.txt"), "the user's own");
}

TEST(Convert, ThePublishedFeedForwardFiguresAreFoundAndOthersAreExact) {
  const auto expect = [](std::int64_t width, std::int64_t feed_forward, double multiplier, std::int64_t multiple) {
    const FeedForwardFigures figures = feed_forward_figures(width, feed_forward);
    EXPECT_EQ(figures.multiplier, multiplier);
    EXPECT_EQ(figures.multiple, multiple);
  };
  expect(4096, 14336, 1.3, 1024);
  expect(8192, 28672, 1.3, 4096);
  expect(16384, 53248, 1.2, 4096);
  expect(2048, 8192, 1.5, 256);
  expect(3072, 8192, 1, 256);
  expect(4096, 11008, 1, 256);
  TempFolder folder;
  ThreadPool pool(1);
  for (const std::int64_t odd : {33, 96, 255, 1000, 1024}) {
    ModelConfig config = small_config();
    config.feed_forward = odd;
    const auto memory = random_checkpoint(config, Format::kBF16, 5);
    std::vector<std::string> notes;
    const Json params = parse_json(meta_params_text(*memory, notes), "params.json");
    const std::int64_t multiple = params["multiple_of"];
    const auto hidden = static_cast<std::int64_t>(params["ffn_dim_multiplier"].get<double>() * 170);  // int(8 * 64 / 3)
    EXPECT_EQ((hidden + multiple - 1) / multiple * multiple, odd);
  }
}

TEST(Convert, ScalingOfAnotherFormStaysInGguf) {
  ModelConfig config = small_config();
  config.rope_scaling.reset();
  config.rope_divisors = {1, 1, 1, 1.5f, 2, 3, 4, 5};
  const auto memory = random_checkpoint(config, Format::kBF16, 5);
  TempFolder folder;
  ThreadPool pool(1);
  try {
    convert_checkpoint(pool, *memory, folder / "hf", kHf, false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
    EXPECT_THAT(error.what(), HasSubstr("rope_freqs.weight is not Llama 3.1's scaling"));
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  convert_checkpoint(pool, *memory, folder / "a.gguf", kGguf, false);
  EXPECT_EQ(open_checkpoint(folder / "a.gguf")->config.rope_divisors, config.rope_divisors);
}

TEST(Convert, SentencePieceGoesOnRemovingSpacesInGguf) {
  GgufVocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.tokens = {"<unk>", "\u2581", "a", "b"};
  vocabulary.scores = {0, -1, -2, -3};
  vocabulary.types = {2, 1, 1, 1};
  vocabulary.remove_extra_whitespaces = true;
  ModelConfig config = small_config();
  config.vocabulary = 4;
  const TempFolder folder;
  ThreadPool pool(2);
  const auto memory = random_checkpoint(config, Format::kF32, 5);
  memory->tokenizer = tokenizer_from_gguf(vocabulary, "test");
  convert_checkpoint(pool, *memory, folder / "a.gguf", kGguf, false);
  const auto gguf = open_checkpoint(folder / "a.gguf");
  EXPECT_EQ(GgufFile(folder / "a.gguf").find_bool("tokenizer.ggml.remove_extra_whitespaces"), true);
  EXPECT_EQ(gguf->tokenizer->encode("  a  b "), memory->tokenizer->encode("a b"));
}

TEST(Convert, TheTokenizerOfLlama3SurvivesEveryContainer) {
  PUNA_NEEDS_SHARED("llama3_tokenizer/tokenizer.model");
  ModelConfig config = small_config();
  config.layers = 1;
  config.vocabulary = 128256;
  const TempFolder folder;
  ThreadPool pool(2);
  const auto memory = random_checkpoint(config, Format::kBF16, 5);
  convert_checkpoint(pool, *memory, folder / "meta", kMeta, false);
  fs::copy_file(shared_data("llama3_tokenizer/tokenizer.model"), folder / "meta" / "tokenizer.model");
  const auto meta = open_checkpoint(folder / "meta");
  meta->chat_template = "{{ bos_token }}{{ messages }}\n";
  convert_checkpoint(pool, *meta, folder / "a.gguf", kGguf, false);
  const auto gguf = open_checkpoint(folder / "a.gguf");
  EXPECT_EQ(gguf->chat_template, meta->chat_template);
  EXPECT_EQ(GgufFile(folder / "a.gguf").integer("tokenizer.ggml.eos_token_id"), 128009) << "a chat model ends with its turn";
  convert_checkpoint(pool, *gguf, folder / "hf", kHf, false);
  const auto hf = open_checkpoint(folder / "hf");
  EXPECT_EQ(hf->chat_template, meta->chat_template);
  const ConvertReport report = convert_checkpoint(pool, *hf, folder / "again", kMeta, false);
  EXPECT_THAT(report.notes, ::testing::Contains(HasSubstr("the chat template was left out")));
  EXPECT_EQ(read_text(folder / "again" / "tokenizer.model"), read_text(folder / "meta" / "tokenizer.model"));
  convert_checkpoint(pool, *gguf, folder / "copy.gguf", kGguf, false);
  EXPECT_EQ(read_text(folder / "copy.gguf").size(), read_text(folder / "a.gguf").size());
  const std::string text = "Hello, world! Ünïcödé 1234567 \n\n  don't 中文 <|eot_id|> \xF0\x9F\xA6\x99";
  const std::vector<Token> expected = meta->tokenizer->encode(text);
  for (const auto& other : {gguf, hf, open_checkpoint(folder / "copy.gguf"), open_checkpoint(folder / "again")}) {
    EXPECT_EQ(other->tokenizer->encode(text), expected) << other->where;
    EXPECT_EQ(other->tokenizer->bos(), meta->tokenizer->bos());
    EXPECT_EQ(other->tokenizer->end_tokens(), meta->tokenizer->end_tokens());
    EXPECT_TRUE(other->tokenizer->adds_bos());
  }
}

}  // namespace
}  // namespace puna
