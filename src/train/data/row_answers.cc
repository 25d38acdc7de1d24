// SPDX-License-Identifier: Apache-2.0
#include "train/data/row_answers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "text/conversation.h"
#include "text/unicode.h"
#include "train/data/row_fields.h"

namespace puna {
namespace {

using Conversation = std::vector<Message>;

struct Speaker {
  std::string_view label;
  Role role;
};
constexpr std::array<Speaker, 2> kSpeakers = {{{"\n\nHuman:", Role::kUser}, {"\n\nAssistant:", Role::kAssistant}}};

const Speaker* speaker_at(std::string_view text) {
  for (const Speaker& speaker : kSpeakers) {
    if (text.starts_with(speaker.label)) return &speaker;
  }
  return nullptr;
}

// An answer as a text or as messages of the assistant (and of tools between them).
Conversation answer_messages(const Json& value, const char* key) {
  if (value.is_string()) return {text_message(Role::kAssistant, value.get<std::string>())};
  return messages_field(Json{{key, value}}, key);
}

bool equal(const Message& a, const Message& b) { return message_to_json(a) == message_to_json(b); }

void check_answer(const Conversation& answer, std::size_t number) {
  if (!answer.empty() && answer.front().role == Role::kAssistant && answer.back().role == Role::kAssistant) return;
  throw RowError(DropReason::kConversation,
                 answer.empty() ? fmt::format("answer {} has no message of its own behind the prompt", number)
                                : fmt::format("answer {} does not begin and end with the assistant's message", number));
}

Row with_answers(Conversation prompt, std::vector<Conversation> answers) {
  for (std::size_t i = 0; i < answers.size(); ++i) check_answer(answers[i], i + 1);
  Row row;
  row.messages = std::move(prompt);
  row.trained.assign(row.messages.size(), false);
  row.answers = std::move(answers);
  return row;
}

// What both begin with is the prompt. A conversation that stops there has no answer, which check_answer() refuses.
Row split_conversations(Conversation chosen, Conversation rejected) {
  std::size_t common = 0;
  while (common < chosen.size() && common < rejected.size() && equal(chosen[common], rejected[common])) ++common;
  if (common == chosen.size() && common == rejected.size()) {
    throw RowError(DropReason::kEqualAnswers, "\"chosen\" and \"rejected\" are the same conversation");
  }
  if (common == 0) throw RowError(DropReason::kConversation, "\"chosen\" and \"rejected\" do not begin with the same message");
  const auto from = static_cast<std::ptrdiff_t>(common);
  Conversation prompt(chosen.begin(), chosen.begin() + from);
  return with_answers(std::move(prompt),
                      {Conversation(chosen.begin() + from, chosen.end()), Conversation(rejected.begin() + from, rejected.end())});
}

// Plain texts part at the last white space that they have in common, which goes to the answers, as most tokens carry it in front.
Row split_texts(const std::string& chosen, const std::string& rejected) {
  const auto [end, other] = std::mismatch(chosen.begin(), chosen.end(), rejected.begin(), rejected.end());
  if (end == chosen.end() && other == rejected.end()) {
    throw RowError(DropReason::kEqualAnswers, "\"chosen\" and \"rejected\" are the same text");
  }
  const std::string common(chosen.begin(), end);
  const std::size_t cut = common.find_last_of(" \n");
  if (cut == std::string::npos || cut == 0) {
    throw RowError(DropReason::kConversation,
                   "\"chosen\" and \"rejected\" have no beginning in common, which would be their prompt");
  }
  Row row;
  row.parts = {{common.substr(0, cut), false}};
  row.text_answers = {chosen.substr(cut), rejected.substr(cut)};
  return row;
}

Row without_prompt(const Json& row) {
  if (!row.at("chosen").is_string() || !row.at("rejected").is_string()) {
    return split_conversations(messages_field(row, "chosen"), messages_field(row, "rejected"));
  }
  const std::string chosen = text_field(row, "chosen"), rejected = text_field(row, "rejected");
  auto chosen_turns = read_human_assistant(chosen), rejected_turns = read_human_assistant(rejected);
  if (chosen_turns && rejected_turns) return split_conversations(std::move(*chosen_turns), std::move(*rejected_turns));
  return split_texts(chosen, rejected);
}

Conversation prompt_messages(const Json& row) {
  const Json& prompt = field(row, "prompt");
  if (prompt.is_string()) {
    if (auto turns = read_human_assistant(prompt.get_ref<const std::string&>())) {
      if (turns->back().role == Role::kAssistant && turns->back().content.empty()) turns->pop_back();  // "…\n\nAssistant:"
      return std::move(*turns);
    }
    return {text_message(Role::kUser, text_field(row, "prompt"))};
  }
  return messages_field(row, "prompt");
}

// A whole conversation under "chosen", although there is a prompt: some sets repeat it there.
bool is_whole(const Json& answer) {
  if (!answer.is_array() || answer.empty() || !answer.front().is_object() || !answer.front().contains("role")) return false;
  return answer.front().at("role") != "assistant";
}

}  // namespace

std::optional<std::vector<Message>> read_human_assistant(std::string_view text) {
  if (speaker_at(text) == nullptr) return std::nullopt;
  Conversation messages;
  while (!text.empty()) {
    const Speaker* speaker = speaker_at(text);
    text.remove_prefix(speaker->label.size());
    std::size_t end = std::string_view::npos;
    for (const Speaker& next : kSpeakers) end = std::min(end, text.find(next.label));
    const std::string_view said = text.substr(0, end);
    messages.push_back(text_message(speaker->role, std::string(strip_space(said))));
    text.remove_prefix(said.size());
  }
  return messages;
}

Row read_preference(const Json& row, bool plain_strings) {
  const Json& chosen = field(row, "chosen");
  const Json& rejected = field(row, "rejected");
  if (!has_field(row, "prompt") || (is_whole(chosen) && is_whole(rejected))) return without_prompt(row);
  if (plain_strings && row.at("prompt").is_string() && chosen.is_string() && rejected.is_string()) {
    Row plain;
    plain.parts = {{text_field(row, "prompt"), false}};
    plain.text_answers = {text_field(row, "chosen"), text_field(row, "rejected")};
    return plain;
  }
  return with_answers(prompt_messages(row), {answer_messages(chosen, "chosen"), answer_messages(rejected, "rejected")});
}

Row read_ranked(const Json& row, bool plain_strings) {
  const Json& answers = field(row, "answers");
  if (!answers.is_array() || answers.size() < 2) {
    throw RowError(DropReason::kWrongType, "\"answers\" is not a list of two or more answers, best first");
  }
  const bool are_texts = std::all_of(answers.begin(), answers.end(), [](const Json& answer) { return answer.is_string(); });
  if (plain_strings && are_texts && field(row, "prompt").is_string()) {
    Row plain;
    plain.parts = {{text_field(row, "prompt"), false}};
    for (const Json& answer : answers) plain.text_answers.push_back(answer.get<std::string>());
    return plain;
  }
  std::vector<Conversation> conversations;
  for (const Json& answer : answers) conversations.push_back(answer_messages(answer, "answers"));
  return with_answers(prompt_messages(row), std::move(conversations));
}

}  // namespace puna
