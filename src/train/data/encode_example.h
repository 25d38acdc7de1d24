// SPDX-License-Identifier: Apache-2.0
// Rows become tokens. What is trained is known from the structure of the conversation (PromptPiece::author), never searched for in
// the text: an assistant's content, calls and end of turn; of plain text everything behind the first token.
// Plain text begins with the tokenizer's beginning token, where its file says that texts do, and ends with its end-of-text token.
#pragma once

#include <optional>

#include "text/chat.h"
#include "text/tokenizer.h"
#include "train/data/data_options.h"
#include "train/data/example.h"
#include "train/data/row.h"
#include "train/data/teacher_shard.h"

namespace puna {

class ExampleEncoder {
 public:
  ExampleEncoder(const Tokenizer& tokenizer, PromptFormat format, const DataOptions& options);

  // Throws kUnsupported where the tokenizer lacks the tokens that rows of this kind need.
  void check(DataKind kind) const;

  // Throws RowError.
  Example encode(const Row& row) const;
  Example encode_document(std::vector<Token> tokens) const;  // of a token shard
  Example encode_taught(const TeacherShard& shard, std::int64_t document) const;

  // Brings the example within the lengths, or throws RowError (kOverLong, or what cutting leads to). True where it was cut.
  bool fit(Example& example, std::int64_t sequence_length, std::int64_t batch_tokens) const;

 private:
  Example encode_text(const Row& row) const;
  Example encode_conversation(const Row& row) const;
  Example encode_answers(const Row& row) const;
  Example encode_text_answers(const Row& row) const;
  void check_ids(const std::vector<Token>& tokens) const;
  AuthoredTokens render(const Row& row, std::span<const Message> messages) const;

  const Tokenizer& tokenizer_;
  PromptFormat format_;
  bool last_turn_only_, count_format_tokens_, plain_strings_, splits_text_, truncates_, brings_teacher_;
  std::string date_;
  std::optional<Token> begin_, end_;  // of a plain text
};

}  // namespace puna
