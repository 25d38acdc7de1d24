// SPDX-License-Identifier: Apache-2.0
// Trains a byte-level BPE tokenizer of Llama 3's kind on text: its split pattern, its order of ids (256 bytes, merges, special
// tokens last) and its beginning of text. The result depends on the text and the options alone, not on the number of threads or on
// the sizes of the parts the text arrives in. bpe_learner.h states which pair becomes the next token, word_stream.h what is held in
// memory and what happens to bytes that are not UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "text/tokenizer.h"
#include "text/word_stream.h"

namespace puna {

// The special tokens of Llama 3.1 in the order of its file: eight that have a use, and those of its <|reserved_special_token_N|>
// (N from 0 to 247) whose N is below `reserved`. With 248 they are all 256 in their places.
std::vector<std::string> llama31_special_tokens(int reserved);

struct BpeTrainerOptions {
  std::size_t vocabulary_size = 32000;  // with the bytes and the special tokens; it is smaller where no pair is left to join
  std::vector<std::string> specials = llama31_special_tokens(0);
  std::uint64_t min_frequency = 2;                                     // pairs that occur less often are not joined
  std::uint64_t word_memory = std::uint64_t{2} << 30;                  // bytes, see word_cost()
  std::function<void(std::size_t made, std::size_t wanted)> progress;  // of the merges, now and then
};

struct BpeTrainingReport {
  std::uint64_t bytes = 0;            // of text
  std::uint64_t words = 0;            // different ones of two bytes or more
  std::uint64_t forgotten_words = 0;  // not among them for want of memory; then rare tokens may differ from those of all words
  std::size_t merges = 0;
};

class BpeTrainer {
 public:
  // Throws kUsage for a vocabulary that has no room for the bytes and the special tokens or is above a million tokens, and for
  // special tokens that are empty, given twice, or a single byte's token.
  BpeTrainer(BpeTrainerOptions options, ThreadPool& pool);

  void add(std::string_view text) { stream_.add(text); }
  void end_document() { stream_.end_document(); }  // no token reaches over it

  // Once, after all text. A text that spells a special token's name is never joined to that name. The special token
  // <|begin_of_text|>, else <s>, is put in front of every text.
  std::unique_ptr<Tokenizer> train();
  const BpeTrainingReport& report() const { return report_; }

 private:
  BpeTrainerOptions options_;
  WordStream stream_;
  BpeTrainingReport report_;
};

}  // namespace puna
