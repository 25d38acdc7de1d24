// SPDX-License-Identifier: Apache-2.0
// `puna run`: a prompt of ids, a raw text to continue, one chat message, or a chat on the terminal. Only the answer goes to
// standard output.
#include <charconv>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "cli/answer.h"
#include "cli/chat_loop.h"
#include "cli/draft_flags.h"
#include "cli/flags.h"
#include "cli/grammar_flags.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/prompt_choice.h"
#include "cli/verb.h"
#include "model/adapter_file.h"
#include "model/built_in.h"
#include "text/conversation.h"

namespace puna {
namespace {

struct RunFlags {
  std::string model = kBuiltInName, adapter, tokens, system, tools, format, date;
  TextSource prompt;
  std::vector<std::string> stop, stop_tokens;
  std::int64_t max_tokens = -1;
  int logprobs = -1;
  bool raw = false, json = false, stats = false, ignore_eos = false, special = false;
  GrammarFlags grammar;
  EngineFlags engine;
  SamplerFlags sampler;
  DraftFlags draft;
};

void check_combinations(const RunFlags& flags) {
  const bool prompt = flags.prompt.given || !flags.prompt.file.empty();
  if (!flags.tokens.empty() && prompt) fail(ErrorKind::kUsage, "--tokens", "tokens and a prompt were both given: give one of them");
  if (!flags.tokens.empty() && flags.raw) fail(ErrorKind::kUsage, "--tokens", "token ids are taken as they are: leave --raw out");
  const bool plain = flags.raw || !flags.tokens.empty();
  const auto only_chat = [&](const std::string& value, const char* flag) {
    if (plain && !value.empty()) fail(ErrorKind::kUsage, flag, "is for a chat: leave it out, or leave --raw and --tokens out");
  };
  only_chat(flags.system, "--system");
  only_chat(flags.tools, "--tools");
  only_chat(flags.format, "--format");
  if (flags.special && !flags.raw)
    fail(ErrorKind::kUsage, "--special", "is for --raw: in a chat only the format writes special tokens");
  if (flags.grammar.given() && !flags.tools.empty())
    fail(ErrorKind::kUsage, "--tools", "a call of a tool would not follow the grammar: leave --tools or the grammar out");
  if (flags.grammar.given() && flags.ignore_eos)
    fail(ErrorKind::kUsage, "--ignore-eos", "an answer ends where its grammar does: leave this or the grammar out");
  if (flags.logprobs >= 0 && !flags.json) fail(ErrorKind::kUsage, "--logprobs", "are printed as JSON: give --json too");
}

// An id, or the name of a special token.
Token stop_token(const std::string& text, const Tokenizer* tokenizer) {
  std::int32_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= 0) return static_cast<Token>(number);
  const auto token = tokenizer != nullptr ? tokenizer->special(text) : std::nullopt;
  if (!token) fail(ErrorKind::kUsage, "--stop-token", "'{}' is neither an id nor the name of a special token of this model", text);
  return *token;
}

GenerateOptions generate_options(const RunFlags& flags, const Checkpoint& checkpoint) {
  GenerateOptions options;
  options.sampler = sampler_options(flags.sampler);
  options.max_tokens = flags.max_tokens;
  options.stop = flags.stop;
  for (const std::string& text : flags.stop_tokens) options.stop_tokens.push_back(stop_token(text, checkpoint.tokenizer.get()));
  options.ignore_end = flags.ignore_eos;
  options.with_specials = !flags.tools.empty();  // a call may begin with <|python_tag|>
  options.top_logprobs = flags.logprobs;
  if (flags.grammar.given())
    options.constraint = std::make_shared<Constraint>(std::make_shared<const Grammar>(grammar_of(flags.grammar)),
                                                      std::make_shared<const VocabularyIndex>(checkpoint.need_tokenizer()));
  return options;
}

std::vector<Token> raw_tokens(const Checkpoint& checkpoint, const RunFlags& flags) {
  const Tokenizer& tokenizer = checkpoint.need_tokenizer();
  const std::string text = read_text_source(flags.prompt);
  std::vector<Token> tokens = flags.special ? tokenizer.encode_with_specials(text) : tokenizer.encode(text);
  const bool begins = tokenizer.bos() && !tokens.empty() && tokens.front() == *tokenizer.bos();
  if (tokenizer.adds_bos() && tokenizer.bos() && !begins) tokens.insert(tokens.begin(), *tokenizer.bos());
  if (tokens.empty())
    fail(ErrorKind::kUsage, "--prompt", "the prompt is empty, and this model has no beginning-of-text token: give a text");
  return tokens;
}

// The generation's options with what must be opened for them: adapters, a draft model.
class Helpers {
 public:
  Helpers(const Checkpoint& checkpoint, const RunFlags& flags) : flags_(flags), drafts_(flags.draft, checkpoint, flags.engine, 1) {
    if (!flags.adapter.empty()) adapters_ = load_adapters(read_adapter(flags.adapter), checkpoint, flags.adapter);
  }
  EngineOptions engine() const {
    EngineOptions options = engine_options(flags_.engine);
    options.logit_rows = flags_.draft.logit_rows();
    if (adapters_) options.adapters = {adapters_};
    return options;
  }
  void give(GenerateOptions& options) const {
    options.adapters = adapters_;
    drafts_.give(options);
  }

 private:
  const RunFlags& flags_;
  DraftSource drafts_;
  std::shared_ptr<const AdapterSet> adapters_;
};

ChatSetup chat_setup(const Checkpoint& checkpoint, const RunFlags& flags) {
  ChatSetup setup;
  setup.format = choose_prompt_format(checkpoint, flags.format);
  setup.prompt.date = flags.date.empty() ? today() : flags.date;
  if (!flags.tools.empty()) setup.prompt.tools = tools_from_json(read_json_file(flags.tools), flags.tools);
  setup.generate = generate_options(flags, checkpoint);
  setup.system = flags.system;
  setup.stats = flags.stats;
  return setup;
}

std::vector<Token> chat_tokens(const Checkpoint& checkpoint, const ChatSetup& setup, const RunFlags& flags) {
  std::vector<Message> messages;
  if (!setup.system.empty())
    messages.push_back({.role = Role::kSystem, .content = setup.system, .tool_calls = {}, .tool_call_id = {}});
  messages.push_back({.role = Role::kUser, .content = read_text_source(flags.prompt), .tool_calls = {}, .tool_call_id = {}});
  return encode_prompt(checkpoint.need_tokenizer(), render_prompt(setup.format, messages, setup.prompt));
}

// The end of a one-shot answer: what was not streamed, then statistics.
void finish(const Generation& generation, const std::optional<ChatSetup>& chat, const RunFlags& flags,
            const Checkpoint& checkpoint) {
  std::optional<Message> message;
  if (chat && (flags.grammar.given() || chat->prompt.tools.empty())) {
    message = Message{.role = Role::kAssistant, .content = generation.text, .tool_calls = {}, .tool_call_id = {}};
  } else if (chat) {
    message = parse_assistant(chat->format, generation.text, chat->prompt.tools);
  }
  if (flags.json) {
    Json value = generation_to_json(generation, checkpoint.tokenizer.get());
    if (message) value["message"] = message_to_json(*message);
    write_json(value);
  } else if (!flags.tools.empty()) {
    if (!message->content.empty()) write_text(message->content + "\n");
    if (!message->tool_calls.empty()) write_json({{"tool_calls", tool_calls_to_json(message->tool_calls)}});
  } else if (checkpoint.tokenizer == nullptr) {
    write_json(tokens_to_json(generation.tokens));
  } else if (chat || output_is_terminal()) {
    write_text("\n");
  }
  if (flags.stats) write_note(stats_line(generation));
}

void run(const RunFlags& flags) {
  check_combinations(flags);
  const std::shared_ptr<const Checkpoint> checkpoint = open_model(flags.model);
  const Helpers helpers(*checkpoint, flags);
  const bool plain = flags.raw || !flags.tokens.empty();
  std::optional<ChatSetup> chat;
  if (!plain) chat = chat_setup(*checkpoint, flags);
  const bool asked = flags.prompt.given || !flags.prompt.file.empty() || flags.json;
  if (chat && !asked && input_is_terminal() && output_is_terminal()) {
    helpers.give(chat->generate);
    Engine engine(checkpoint, helpers.engine());
    return ChatLoop(engine, std::move(*chat)).run();
  }
  const std::vector<Token> prompt = chat                   ? chat_tokens(*checkpoint, *chat, flags)
                                    : flags.tokens.empty() ? raw_tokens(*checkpoint, flags)
                                                           : tokens_from_json(read_json_file(flags.tokens), flags.tokens);
  GenerateOptions options = chat ? chat->generate : generate_options(flags, *checkpoint);
  helpers.give(options);
  Engine engine(checkpoint, helpers.engine());
  Session session(engine);
  const bool stream = !flags.json && flags.tools.empty();
  const auto show = [&](std::string_view piece) {
    if (stream) write_text(piece);
  };
  const InterruptScope scope(SecondPress::kEndsProcess);
  const Generation generation = session.generate(prompt, options, show, &interrupt_flag());
  finish(generation, chat, flags, *checkpoint);
  if (generation.reason == FinishReason::kInterrupted) throw Interrupted();
}

void declare_stops(Command& command, RunFlags& flags) {
  command.flag("-n,--max-tokens", "N", &flags.max_tokens,
               "tokens to write at most; -1: until the model ends or the context is full");
  command.flag("--stop", "TEXT", &flags.stop, "end before this text; may be repeated");
  command.flag("--stop-token", "TOKEN", &flags.stop_tokens,
               "end at this token, an id or the name of a special one; may be repeated");
  command.flag("--ignore-eos", &flags.ignore_eos, "go on past the model's end tokens");
}

}  // namespace

VerbAction declare_run(Command& command) {
  const auto flags = std::make_shared<RunFlags>();
  add_model(command, flags->model);
  Flag& prompt =
      command.flag("-p,--prompt", "TEXT", &flags->prompt.text, "the prompt; without it standard input, or on a terminal a chat");
  prompt.given = &flags->prompt.given;
  prompt.may_be_empty = true;
  command.flag("-f,--file", "FILE", &flags->prompt.file, "read the prompt from a file");
  command.flag("--raw", &flags->raw, "continue the text as it is, without the chat format");
  command.flag("--special", &flags->special, "with --raw: the names of special tokens in the prompt become those tokens");
  command.flag("--tokens", "FILE", &flags->tokens, "the prompt as token ids: a JSON file, [1, 2] or {\"tokens\": [1, 2]}");
  command.flag("-s,--system", "TEXT", &flags->system, "the system message").may_be_empty = true;
  command.flag("--tools", "FILE", &flags->tools, "JSON file with the tools that the model may call; calls are printed as JSON");
  command.flag("--format", prompt_format_choices(), &flags->format, "the chat format, instead of the model's own");
  command.flag("--date", "DATE", &flags->date, "the date that the chat format mentions (default: today's, as 26 Jul 2024)");
  add_grammar_flags(command, flags->grammar);
  declare_stops(command, *flags);
  add_sampler_flags(command, flags->sampler);
  command.flag("--logprobs", "N", &flags->logprobs, "with --json: log-probabilities, and the N likeliest tokens at each step")
      .range = {0, 100};
  command.flag("--stats", &flags->stats, "a line on speed on standard error");
  add_json(command, flags->json);
  command.flag("--adapter", "FOLDER", &flags->adapter, "answer with these adapters: a folder with adapter_model.safetensors");
  add_draft_flags(command, flags->draft);
  add_engine_flags(command, flags->engine);
  return [flags] { run(*flags); };
}

}  // namespace puna
