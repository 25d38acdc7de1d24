// SPDX-License-Identifier: Apache-2.0
#include "train/data/encode_example.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

namespace puna {
namespace {

std::optional<Token> end_of_text(const Tokenizer& tokenizer) {
  for (const std::string_view name : {"<|end_of_text|>", "</s>", "<|endoftext|>"}) {
    if (const auto token = tokenizer.special(name)) return token;
  }
  return tokenizer.end_tokens().empty() ? std::nullopt : std::optional(tokenizer.end_tokens().front());
}

bool is_end(const Tokenizer& tokenizer, Token token) {
  const auto& ends = tokenizer.end_tokens();
  return std::find(ends.begin(), ends.end(), token) != ends.end();
}

void append(std::vector<Token>& to, const std::vector<Token>& tokens) { to.insert(to.end(), tokens.begin(), tokens.end()); }

// The first token is never predicted; what follows the last trained token changes nothing.
void check_trained(Example& example) {
  if (!example.trained.empty()) example.trained.front() = false;
  while (!example.trained.empty() && !example.trained.back()) {
    example.trained.pop_back();
    example.tokens.pop_back();
  }
  if (example.trained.empty()) throw RowError(DropReason::kNothingTrained, "no token of it is trained");
}

// Answers that are equal, or have become so by being cut, are not better than each other: all have the best one's rank.
void settle_answers(Example& example) {
  auto& answers = example.answers;
  for (AnswerTokens& answer : answers) {
    for (const AnswerTokens& other : answers) {
      if (other.rank < answer.rank && other.tokens == answer.tokens) answer.rank = other.rank;
    }
  }
  const bool differ = std::any_of(answers.begin() + 1, answers.end(),
                                  [&](const AnswerTokens& answer) { return answer.tokens != answers.front().tokens; });
  if (!differ) throw RowError(DropReason::kEqualAnswers, "all answers are the same");
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (std::none_of(answers[i].counted.begin(), answers[i].counted.end(), [](bool counted) { return counted; })) {
      throw RowError(DropReason::kNothingTrained, fmt::format("answer {} has no token that counts", i + 1));
    }
  }
}

// The longest that answers may be so that all of them together have `room` tokens: shorter ones leave theirs to the others.
std::size_t common_length(const std::vector<AnswerTokens>& answers, std::size_t room) {
  std::vector<std::size_t> lengths;
  for (const AnswerTokens& answer : answers) lengths.push_back(answer.tokens.size());
  std::sort(lengths.begin(), lengths.end());
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::size_t share = room / (lengths.size() - i);
    if (lengths[i] > share) return share;
    room -= lengths[i];
  }
  return lengths.back();
}

}  // namespace

ExampleEncoder::ExampleEncoder(const Tokenizer& tokenizer, PromptFormat format, const DataOptions& options)
    : tokenizer_(tokenizer),
      format_(std::move(format)),
      last_turn_only_(options.last_turn_only),
      count_format_tokens_(options.count_format_tokens),
      plain_strings_(options.plain_strings),
      splits_text_(!options.whole_documents),
      truncates_(options.over_long == OverLong::kTruncate),
      brings_teacher_(options.teacher_vocabulary > 0),
      date_(options.date),
      begin_(tokenizer.adds_bos() ? tokenizer.bos() : std::nullopt),
      end_(end_of_text(tokenizer)) {}

void ExampleEncoder::check(DataKind kind) const {
  if (kind == DataKind::kTokens || kind == DataKind::kTeacherTokens) return;
  const bool is_text = kind == DataKind::kText || kind == DataKind::kTextRows;
  const bool may_be_text = kind == DataKind::kCompletion || kind == DataKind::kPreference || kind == DataKind::kRanked;
  if ((is_text || plain_strings_) && !end_) {
    fail(ErrorKind::kUnsupported, "tokenizer", "it has no token that ends a text, so a model could not learn to stop");
  }
  if (is_text || (plain_strings_ && may_be_text)) return;
  const std::vector<Message> smallest = {{Role::kUser, "a", {}, {}}, {Role::kAssistant, "b", {}, {}}};
  encode_authors(tokenizer_, render_prompt(format_, smallest, {}));
}

Example ExampleEncoder::encode(const Row& row) const {
  if (!row.answers.empty()) return encode_answers(row);
  if (!row.text_answers.empty()) return encode_text_answers(row);
  return row.messages.empty() ? encode_text(row) : encode_conversation(row);
}

void ExampleEncoder::check_ids(const std::vector<Token>& tokens) const {
  for (const Token token : tokens) {
    if (tokenizer_.contains(token)) continue;
    fail(ErrorKind::kBadInput, "token shard",
         "id {} is outside the tokenizer's vocabulary of {}: the shard was made with another one", id(token), tokenizer_.size());
  }
}

// As the teacher saw it: its parts are not split again.
Example ExampleEncoder::encode_taught(const TeacherShard& shard, std::int64_t document) const {
  TeacherShard::Document taught = shard.document(document);
  check_ids(taught.tokens);
  Example example;
  example.tokens = std::move(taught.tokens);
  example.trained = std::move(taught.trained);
  if (brings_teacher_) {
    example.teacher = &shard;
    example.teacher_offset = taught.offset;
  }
  check_trained(example);
  return example;
}

Example ExampleEncoder::encode_document(std::vector<Token> tokens) const {
  check_ids(tokens);
  Example example;
  example.trained.assign(tokens.size(), true);
  example.tokens = std::move(tokens);
  example.splittable = splits_text_;
  check_trained(example);
  return example;
}

Example ExampleEncoder::encode_text(const Row& row) const {
  Example example;
  if (begin_ && row.begins) example.tokens.push_back(*begin_);
  bool empty = true;
  std::string before = row.begins ? "" : "\n";  // long files are cut behind a line
  for (const TextPart& part : row.parts) {
    empty = empty && (!part.trained || part.text.empty());
    append(example.tokens, tokenizer_.encode_continuation(before, part.text));
    before += part.text;
    example.trained.resize(example.tokens.size(), part.trained);
  }
  if (empty) throw RowError(DropReason::kNothingTrained, "the text is empty");
  if (end_ && row.ends) {
    example.tokens.push_back(*end_);
    example.trained.push_back(true);
  }
  example.splittable = splits_text_ && row.parts.size() == 1;
  check_trained(example);
  return example;
}

AuthoredTokens ExampleEncoder::render(const Row& row, std::span<const Message> messages) const {
  PromptOptions options{row.tools, row.builtin_tools, row.today.empty() ? date_ : row.today, false};
  std::vector<PromptPiece> pieces;
  try {
    pieces = render_prompt(format_, messages, options);
  } catch (const Error& error) {
    throw RowError(DropReason::kConversation, error.what());
  }
  return encode_authors(tokenizer_, pieces);
}

Example ExampleEncoder::encode_conversation(const Row& row) const {
  std::vector<bool> wanted = row.trained;
  std::size_t last = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (row.messages[i].role == Role::kAssistant) last = i;
  }
  for (std::size_t i = 0; last_turn_only_ && i < last; ++i) wanted[i] = false;
  AuthoredTokens all = render(row, row.messages);
  Example example;
  example.tokens = std::move(all.tokens);
  for (const int author : all.authors) example.trained.push_back(author >= 0 && wanted[static_cast<std::size_t>(author)]);
  check_trained(example);
  return example;
}

// Each answer is rendered behind the prompt. Where its first own token stands, the header before it included in the prompt, the
// prompt ends: the same place for all answers.
Example ExampleEncoder::encode_answers(const Row& row) const {
  Example example;
  const int prompt_messages = static_cast<int>(row.messages.size());
  for (const std::vector<Message>& answer : row.answers) {
    std::vector<Message> messages = row.messages;
    messages.insert(messages.end(), answer.begin(), answer.end());
    const AuthoredTokens all = render(row, messages);
    const auto first = std::find_if(all.authors.begin(), all.authors.end(), [&](int author) { return author >= prompt_messages; });
    const auto prompt_size = first - all.authors.begin();
    const std::vector<Token> prompt(all.tokens.begin(), all.tokens.begin() + prompt_size);
    if (example.answers.empty()) example.tokens = prompt;
    if (prompt.empty() || prompt != example.tokens) {
      throw RowError(DropReason::kConversation, "the answers do not continue the same prompt in this prompt format");
    }
    AnswerTokens tokens;
    tokens.tokens.assign(all.tokens.begin() + prompt_size, all.tokens.end());
    for (std::size_t t = 0; t < tokens.tokens.size(); ++t) {
      const bool own = all.authors[static_cast<std::size_t>(prompt_size) + t] >= prompt_messages;
      tokens.counted.push_back(own && (count_format_tokens_ || !is_end(tokenizer_, tokens.tokens[t])));
    }
    tokens.rank = static_cast<int>(example.answers.size());
    example.answers.push_back(std::move(tokens));
  }
  settle_answers(example);
  return example;
}

Example ExampleEncoder::encode_text_answers(const Row& row) const {
  Example example;
  if (begin_) example.tokens.push_back(*begin_);
  std::string prompt;
  for (const TextPart& part : row.parts) {
    append(example.tokens, tokenizer_.encode_continuation(prompt, part.text));
    prompt += part.text;
  }
  if (example.tokens.empty()) throw RowError(DropReason::kNothingTrained, "the prompt is empty");
  for (const std::string& text : row.text_answers) {
    AnswerTokens answer;
    answer.tokens = tokenizer_.encode_continuation(prompt, text);
    answer.counted.assign(answer.tokens.size(), true);
    if (end_) {
      answer.tokens.push_back(*end_);
      answer.counted.push_back(count_format_tokens_);
    }
    answer.rank = static_cast<int>(example.answers.size());
    example.answers.push_back(std::move(answer));
  }
  settle_answers(example);
  return example;
}

bool ExampleEncoder::fit(Example& example, std::int64_t sequence_length, std::int64_t batch_tokens) const {
  bool cut = false;
  const auto refuse = [](std::int64_t rows, std::string_view of, std::int64_t limit, std::string_view name) {
    throw RowError(DropReason::kOverLong, fmt::format("{} tokens{}, more than the {} of {}", rows, of, name, limit));
  };
  if (!example.splittable && example.longest() > sequence_length) {
    const std::int64_t prompt = static_cast<std::int64_t>(example.tokens.size());
    if (!truncates_) refuse(example.longest(), "", sequence_length, "sequence length");
    if (example.answers.empty()) {
      example.tokens.resize(static_cast<std::size_t>(sequence_length + 1));
      example.trained.resize(example.tokens.size());
      check_trained(example);
    } else {
      if (prompt >= sequence_length) refuse(prompt, " of prompt alone", sequence_length, "sequence length");
      const auto room = static_cast<std::size_t>(sequence_length - prompt);
      const std::size_t most = example.one_row ? common_length(example.answers, room) : room;
      if (most == 0) refuse(example.longest(), " of prompt and answers", sequence_length, "sequence length");
      for (AnswerTokens& answer : example.answers) {
        answer.tokens.resize(std::min(answer.tokens.size(), most));
        answer.counted.resize(answer.tokens.size());
      }
      settle_answers(example);
    }
    cut = true;
  }
  if (!example.splittable && example.rows() > batch_tokens)
    refuse(example.rows(), " in all answers together", batch_tokens, "batch");
  return cut;
}

}  // namespace puna
