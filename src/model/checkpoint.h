// SPDX-License-Identifier: Apache-2.0
// A checkpoint recognised from its path alone: a GGUF file (also the first of a split set), a Hugging Face folder, a Meta folder.
// Files are memory-mapped and stay open as long as the checkpoint lives; only Meta's model-parallel shards are joined into memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/adapters.h"
#include "model/config.h"
#include "model/weights.h"
#include "tensor/gguf.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace puna {

// The scalar head of a reward model, as Hugging Face's LlamaForSequenceClassification names it.
constexpr const char* kRewardHead = "score.weight";

enum class CheckpointKind { kGguf, kHuggingFace, kMeta, kMemory };

class Checkpoint {
 public:
  ModelConfig config;
  ModelWeights weights;
  Tensor reward_head;                   // [1, D] of a reward model, or none
  std::vector<LayerAdapters> adapters;  // [L] low-rank ones beside the weights, or none
  CheckpointKind kind = CheckpointKind::kMemory;
  std::string where;                           // the file's or folder's name, for messages
  std::shared_ptr<const Tokenizer> tokenizer;  // may be null
  std::string chat_template;                   // the file's own Jinja text, or empty
  std::optional<PromptFormat> prompt_format;   // recognised from the template or the family; nullopt: unknown template
  std::vector<std::filesystem::path> files;    // of weights
  std::int64_t weight_bytes = 0;
  std::int64_t resident_bytes =
      0;  // of them, those that lie in memory already, not in a mapped file: joined from shards, or random

  // The tokenizer, or kUnsupported: "this checkpoint has no tokenizer: give token ids with --tokens".
  const Tokenizer& need_tokenizer() const;
  // Tokens that there are: a vocabulary may be padded, to a round number of rows, with ids that are no token, whose logits are not
  // looked at.
  std::int64_t known_tokens() const;
  // The prompt format, or kUnsupported naming the template: "… use --raw or --format NAME".
  const PromptFormat& need_prompt_format() const;

  std::vector<std::shared_ptr<void>> owners;  // mappings and arenas that the tensors point into
};

// kBuiltInPath (built_in.h) is the model inside the program. Throws kNotFound, kBadInput, kUnsupported (another architecture: names
// it and says what runs).
std::shared_ptr<Checkpoint> open_checkpoint(const std::filesystem::path& path);
CheckpointKind recognise_checkpoint(const std::filesystem::path& path);

// The file that a checkpoint of kind kGguf was read from, the first of a split set, opened again.
GgufFile gguf_file_of(const Checkpoint& checkpoint);

// Only what `tokenize` and `prompt-format` need: also takes a bare tokenizer file.
std::unique_ptr<Tokenizer> open_tokenizer(const std::filesystem::path& path);

// Random weights in memory, the same for a seed whatever the pool: for benchmarks and tests. Norms are F32 ones. Float formats are
// drawn from normal(0, 0.02); quantized ones have uniformly random codes under scales that give the same spread, which takes a
// tenth of the time and nothing but the weights' own memory. `pool` nullptr: one thread.
std::shared_ptr<Checkpoint> random_checkpoint(const ModelConfig& config, Format format, std::uint64_t seed,
                                              ThreadPool* pool = nullptr);

}  // namespace puna
