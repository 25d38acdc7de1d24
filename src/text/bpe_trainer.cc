// SPDX-License-Identifier: Apache-2.0
#include "text/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "text/bpe_learner.h"
#include "text/byte_bpe.h"
#include "text/unicode.h"

namespace puna {
namespace {

constexpr int kMetaReserved = 248;

// The bytes that a special token's name would be as an ordinary token of tokenizer.json, where bytes are written as characters:
// two tokens of one name cannot stand in that file. Empty where it can be none.
std::string as_ordinary_token(const std::string& name) {
  std::string bytes;
  return append_alphabet_bytes(name, bytes) ? bytes : std::string();
}

BpeTrainerOptions checked(BpeTrainerOptions options) {
  const std::size_t least = BpeLearner::kFirstMerged + options.specials.size();
  if (options.vocabulary_size < least || options.vocabulary_size > BpeMerges::kMaxIds) {
    fail(ErrorKind::kUsage, "train-tokenizer", "a vocabulary of {} tokens, expected {} (256 bytes and {} special tokens) to {}",
         options.vocabulary_size, least, options.specials.size(), BpeMerges::kMaxIds);
  }
  std::unordered_set<std::string_view> seen;
  for (const std::string& name : options.specials) {
    if (name.empty() || valid_utf8_prefix(name) != name.size()) {
      fail(ErrorKind::kUsage, "train-tokenizer", "a special token is empty or not UTF-8: give it a name such as <|tool|>");
    }
    if (as_ordinary_token(name).size() == 1) {
      fail(ErrorKind::kUsage, "train-tokenizer", "the special token \"{}\" is the name of a byte: give it a longer one", name);
    }
    if (!seen.insert(name).second) fail(ErrorKind::kUsage, "train-tokenizer", "the special token {} is given twice", name);
  }
  options.min_frequency = std::max<std::uint64_t>(options.min_frequency, 1);
  return options;
}

std::unique_ptr<Tokenizer> build_tokenizer(const std::vector<BpeRule>& rules, const std::vector<std::string>& specials) {
  ByteBpeVocabulary vocabulary;
  vocabulary.pieces = PieceTable(BpeLearner::kFirstMerged + rules.size() + specials.size());
  std::vector<std::string> bytes;  // [ids] of the ordinary tokens
  for (const unsigned char byte : BpeLearner::byte_of_id()) bytes.emplace_back(1, static_cast<char>(byte));
  for (const BpeRule& rule : rules) bytes.push_back(bytes[rule.left] + bytes[rule.right]);
  std::uint32_t id = 0;
  for (const std::string& piece : bytes) {
    PUNA_CHECK(vocabulary.pieces.add(id++, piece), "train-tokenizer", "two merges made the same token");
  }
  for (const std::string& name : specials) {
    vocabulary.specials.emplace_back(name, static_cast<Token>(id));
    vocabulary.pieces.add(id++, name, false);
  }
  auto tokenizer = std::make_unique<ByteBpe>(std::move(vocabulary), rules, "train-tokenizer");
  tokenizer->set_bos(tokenizer->bos(), tokenizer->bos().has_value());
  return tokenizer;
}

}  // namespace

std::vector<std::string> llama31_special_tokens(int reserved) {
  constexpr std::array<std::string_view, 11> kFirst = {"<|begin_of_text|>",  // empty: the next reserved one
                                                       "<|end_of_text|>",
                                                       "",
                                                       "",
                                                       "<|finetune_right_pad_id|>",
                                                       "",
                                                       "<|start_header_id|>",
                                                       "<|end_header_id|>",
                                                       "<|eom_id|>",
                                                       "<|eot_id|>",
                                                       "<|python_tag|>"};
  if (reserved < 0 || reserved > kMetaReserved) {
    fail(ErrorKind::kUsage, "train-tokenizer", "{} reserved tokens, expected 0 to {}", reserved, kMetaReserved);
  }
  std::vector<std::string> names;
  int number = 0;
  const auto add_reserved = [&] {
    if (number < reserved) names.push_back(fmt::format("<|reserved_special_token_{}|>", number));
    ++number;
  };
  for (const std::string_view name : kFirst) {
    if (name.empty()) {
      add_reserved();
    } else {
      names.emplace_back(name);
    }
  }
  while (number < reserved) add_reserved();
  return names;
}

BpeTrainer::BpeTrainer(BpeTrainerOptions options, ThreadPool& pool)
    : options_(checked(std::move(options))), stream_(pool, options_.word_memory) {}

std::unique_ptr<Tokenizer> BpeTrainer::train() {
  const ShardedWordCounts words = stream_.finish();
  report_.bytes = stream_.bytes();
  report_.words = words.size();
  report_.forgotten_words = stream_.forgotten_words();
  LearnOptions learn;
  learn.merges = options_.vocabulary_size - BpeLearner::kFirstMerged - options_.specials.size();
  learn.min_frequency = options_.min_frequency;
  for (const std::string& name : options_.specials) learn.never.insert(as_ordinary_token(name));
  if (options_.progress) {
    learn.on_merges = [&](std::size_t made) { options_.progress(made, learn.merges); };
  }
  const std::vector<BpeRule> rules = BpeLearner(words, learn).learn();
  report_.merges = rules.size();
  return build_tokenizer(rules, options_.specials);
}

}  // namespace puna
