// SPDX-License-Identifier: Apache-2.0
// `puna prompt-format`: how a conversation is written for a model, and why so. Special tokens stand between « and »: the same
// letters inside a message are only letters.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/prompt_choice.h"
#include "cli/verb.h"
#include "text/conversation.h"

namespace puna {
namespace {

struct PromptFormatFlags {
  std::string model, format, messages, tools, date;
  bool json = false;
};

std::vector<Message> example() {
  const auto message = [](Role role, std::string text) {
    return Message{.role = role, .content = std::move(text), .tool_calls = {}, .tool_call_id = {}};
  };
  return {message(Role::kSystem, "You are a helpful assistant."), message(Role::kUser, "What is the capital of France?"),
          message(Role::kAssistant, "Paris."), message(Role::kUser, "And of Peru?")};
}

void show_prompt(const PromptFormatFlags& flags) {
  std::shared_ptr<Checkpoint> checkpoint;  // with --format a tokenizer alone is enough
  std::unique_ptr<Tokenizer> tokenizer;
  PromptFormat format;
  if (flags.format.empty()) {
    checkpoint = open_model(flags.model);
    format = choose_prompt_format(*checkpoint, "");
  } else {
    format = named_prompt_format(flags.format);
    tokenizer = open_model_tokenizer(flags.model);
  }
  const Tokenizer& used = checkpoint ? checkpoint->need_tokenizer() : *tokenizer;
  PromptOptions options;
  options.date = flags.date.empty() ? today() : flags.date;
  if (!flags.tools.empty()) options.tools = tools_from_json(read_json_file(flags.tools), flags.tools);
  const auto messages = flags.messages.empty() ? example() : messages_from_json(read_json_file(flags.messages), flags.messages);
  const std::vector<PromptPiece> pieces = render_prompt(format, messages, options);
  const std::vector<Token> tokens = encode_prompt(used, pieces);
  const std::string source = flags.format.empty() ? format.source : "--format " + flags.format;
  if (!flags.json) {
    std::string text = "format: " + describe(format) + "\nfrom:   " + source + fmt::format("\ntokens: {}\n\n", tokens.size());
    for (const PromptPiece& piece : pieces) text += piece.special ? "«" + piece.text + "»" : piece.text;
    return write_text(text + "\n");
  }
  Json list = Json::array();
  for (const PromptPiece& piece : pieces) list.push_back({{"special", piece.special}, {"text", piece.text}});
  write_json({{"format", format.name},
              {"description", describe(format)},
              {"source", source},
              {"pieces", list},
              {"text", prompt_text(pieces)},
              {"tokens", tokens_to_json(tokens)}});
}

}  // namespace

VerbAction declare_prompt_format(Command& command) {
  const auto flags = std::make_shared<PromptFormatFlags>();
  command.positional("MODEL", &flags->model, "a model; with --format also a tokenizer file alone").required = true;
  command.flag("--format", prompt_format_choices(), &flags->format, "this format, instead of the model's own");
  command.flag("--messages", "FILE", &flags->messages, "JSON file with the conversation (default: a short example)");
  command.flag("--tools", "FILE", &flags->tools, "JSON file with the tools that the model may call");
  command.flag("--date", "DATE", &flags->date, "the date that the format mentions (default: today's, as 26 Jul 2024)");
  add_json(command, flags->json);
  return [flags] { show_prompt(*flags); };
}

}  // namespace puna
