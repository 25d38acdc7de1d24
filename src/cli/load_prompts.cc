// SPDX-License-Identifier: Apache-2.0
#include "cli/load_prompts.h"

#include <array>
#include <string_view>

#include "base/error.h"
#include "base/random.h"
#include "cli/input.h"

namespace puna {
namespace {

constexpr std::array<std::string_view, 64> kWords = {
    "time",   "year",    "people", "way",     "day",      "man",     "thing",      "woman",  "life",  "child", "world",
    "school", "state",   "family", "student", "group",    "country", "problem",    "hand",   "part",  "place", "case",
    "week",   "company", "system", "program", "question", "work",    "government", "number", "night", "point", "home",
    "water",  "room",    "mother", "area",    "money",    "story",   "fact",       "month",  "lot",   "right", "study",
    "book",   "eye",     "job",    "word",    "business", "issue",   "side",       "kind",   "head",  "house", "service",
    "friend", "father",  "power",  "hour",    "game",     "line",    "end",        "member", "law"};
constexpr std::uint64_t kSharedStream = 0;  // request i has stream i + 1

std::string words(const LoadPrompts& prompts, std::int64_t index) {
  std::string text;
  for (std::int64_t i = 0; i < prompts.prompt_tokens; ++i) {
    const auto stream = i < prompts.shared_prefix ? kSharedStream : static_cast<std::uint64_t>(index) + 1;
    const std::uint64_t bits = random_bits(prompts.seed, stream, static_cast<std::uint64_t>(i));
    text += (i == 0 ? "" : " ") + std::string(kWords[bits % kWords.size()]);
  }
  return text;
}

Json user_message(const std::string& text) { return Json::array({{{"role", "user"}, {"content", text}}}); }

}  // namespace

std::vector<Json> read_conversations(const std::string& path) {
  const std::string text = read_file(path);
  std::vector<Json> conversations;
  for (const TextLine& line : text_lines(text)) {
    const std::string where = path + ":" + std::to_string(line.number);
    const Json value = parse_json(line.text, where);
    const Json& body = value.is_object() && value.contains("body") ? value.at("body") : value;
    if (body.is_object() && body.contains("messages") && body.at("messages").is_array()) {
      conversations.push_back(body.at("messages"));
    } else if (body.is_object() && body.contains("prompt") && body.at("prompt").is_string()) {
      conversations.push_back(user_message(body.at("prompt").get<std::string>()));
    } else {
      fail(ErrorKind::kBadInput, where, "there is neither a list \"messages\" nor a text \"prompt\" in this line");
    }
  }
  if (conversations.empty()) fail(ErrorKind::kBadInput, path, "there is no prompt in it");
  return conversations;
}

Json load_body(const LoadPrompts& prompts, std::int64_t index) {
  const auto& given = prompts.conversations;
  Json body = {
      {"model", prompts.model},
      {"messages", given.empty() ? user_message(words(prompts, index)) : given[static_cast<std::size_t>(index) % given.size()]},
      {"max_tokens", prompts.max_tokens},
      {"stream", prompts.stream}};
  if (prompts.stream) body["stream_options"] = {{"include_usage", true}};
  if (prompts.ignore_end) body["ignore_eos"] = true;
  return body;
}

}  // namespace puna
