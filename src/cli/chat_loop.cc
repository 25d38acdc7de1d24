// SPDX-License-Identifier: Apache-2.0
#include "cli/chat_loop.h"

#include <fstream>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/answer.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "text/conversation.h"

namespace puna {
namespace {

constexpr std::string_view kQuotes = "\"\"\"";

std::string trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

std::string need_argument(const std::string& argument, std::string_view command, std::string_view what) {
  if (argument.empty()) fail(ErrorKind::kUsage, std::string(command), "{} is missing", what);
  return argument;
}

}  // namespace

const std::vector<ChatLoop::Command>& ChatLoop::commands() {
  static const std::vector<Command> rows = {
      {"/help", "", "this list", &ChatLoop::help},
      {"/clear", "", "forget the conversation; the system message stays", &ChatLoop::clear},
      {"/system", "TEXT", "set the system message; without TEXT show it", &ChatLoop::system},
      {"/save", "FILE", "write the conversation as JSON", &ChatLoop::save},
      {"/load", "FILE", "go on from a saved conversation", &ChatLoop::load},
      {"/set", "NAME VALUE", "change a sampling setting, /set temp 0.2; without NAME list them", &ChatLoop::set},
      {"/stats", "", "speed of the last answer, and how full the context is", &ChatLoop::stats},
      {"/quit", "", "end (also Ctrl-D)", &ChatLoop::quit},
  };
  return rows;
}

ChatLoop::ChatLoop(Engine& engine, ChatSetup setup)
    : engine_(engine), setup_(std::move(setup)), session_(engine), editor_(history_path()) {}

void ChatLoop::run() {
  const InterruptScope scope(SecondPress::kIgnored);
  write_note(fmt::format("{}, context {}. /help lists the commands; \"\"\" begins and ends a message of several lines.",
                         engine_.config().name.empty() ? engine_.checkpoint().where : engine_.config().name, engine_.context()));
  int interrupts = 0;
  while (!done_) {
    Input input;
    const LineEditor::Result result = read_message(input);
    stop_if_terminated();
    if (result == LineEditor::Result::kEnd) return write_out("\n");
    if (result == LineEditor::Result::kInterrupted) {
      const bool is_empty = input.text.empty() && !input.quoted;
      interrupts = is_empty ? interrupts + 1 : 0;  // what was typed is cleared, and that is all
      if (interrupts == 2) return;
      if (interrupts == 1) write_note("(Ctrl-C once more, Ctrl-D or /quit ends)");
      continue;
    }
    interrupts = 0;
    if (trimmed(input.text).empty()) continue;
    editor_.remember(input.text);
    try {
      if (!input.quoted && input.text.front() == '/')
        command(trimmed(input.text));
      else
        answer(input.text);
    } catch (const Error& error) {
      write_error(error.what());
    }
    stop_if_terminated();  // which came while the answer did
  }
}

// A line, or the lines between two """.
LineEditor::Result ChatLoop::read_message(Input& input) {
  std::string& text = input.text;
  LineEditor::Result result = editor_.read(">>> ", text);
  input.quoted = text.starts_with(kQuotes);
  if (result != LineEditor::Result::kLine || !input.quoted) return result;
  text.erase(0, kQuotes.size());
  while (!trimmed(text).ends_with(kQuotes)) {
    std::string line;
    result = editor_.read("... ", line);
    if (result != LineEditor::Result::kLine) return result;
    text += (text.empty() ? "" : "\n") + line;
  }
  text = trimmed(text);
  text.erase(text.size() - kQuotes.size());
  return result;
}

void ChatLoop::command(const std::string& line) {
  const std::size_t space = line.find(' ');
  const std::string word = line.substr(0, space);
  const std::string argument = space == std::string::npos ? "" : trimmed(std::string_view(line).substr(space));
  std::vector<std::string> names;
  for (const Command& row : commands()) {
    if (row.name == word) return (this->*row.run)(argument);
    names.emplace_back(row.name);
  }
  fail(ErrorKind::kUsage, word, "there is no such command{} (see /help)", did_you_mean(word, names));
}

std::vector<Message> ChatLoop::conversation() const {
  std::vector<Message> all;
  if (!setup_.system.empty())
    all.push_back({.role = Role::kSystem, .content = setup_.system, .tool_calls = {}, .tool_call_id = {}});
  all.insert(all.end(), messages_.begin(), messages_.end());
  return all;
}

Generation ChatLoop::generate() {
  const auto pieces = render_prompt(setup_.format, conversation(), setup_.prompt);
  const std::vector<Token> tokens = encode_prompt(engine_.checkpoint().need_tokenizer(), pieces);
  // A call is shown as a call once it is whole; plain answers are shown as they come.
  const bool stream = setup_.prompt.tools.empty();
  const auto show = [&](std::string_view piece) {
    if (stream) write_text(piece);
  };
  return session_.generate(tokens, setup_.generate, show, &interrupt_flag());
}

void ChatLoop::answer(const std::string& text) {
  messages_.push_back({.role = Role::kUser, .content = text, .tool_calls = {}, .tool_call_id = {}});
  try {
    const Generation generation = generate();
    interrupt_flag() = false;
    Message message{.role = Role::kAssistant, .content = generation.text, .tool_calls = {}, .tool_call_id = {}};
    if (!setup_.prompt.tools.empty()) {
      message = parse_assistant(setup_.format, generation.text, setup_.prompt.tools);
      write_text(message.content);
      if (!message.tool_calls.empty()) write_text(dump_json(tool_calls_to_json(message.tool_calls)));
    }
    write_out("\n");
    messages_.push_back(std::move(message));
    last_stats_ = stats_line(generation);
    if (generation.reason == FinishReason::kInterrupted) write_note("(stopped)");
    if (generation.reason == FinishReason::kContextFull)
      write_note("(the context is full: /clear, or start with a larger --context)");
    if (setup_.stats) write_note(last_stats_);
  } catch (const Error&) {
    messages_.pop_back();
    throw;
  }
}

void ChatLoop::help(const std::string&) {
  std::string text;
  for (const Command& row : commands()) text += fmt::format("{:<8} {:<10} {}\n", row.name, row.argument, row.about);
  write_text(text + "\"\"\" begins and ends a message of several lines. Ctrl-C stops an answer.\n");
}

void ChatLoop::clear(const std::string&) {
  messages_.clear();
  write_note("(the conversation is forgotten)");
}

void ChatLoop::system(const std::string& argument) {
  if (argument.empty()) return write_text((setup_.system.empty() ? "(none)" : setup_.system) + "\n");
  setup_.system = argument;
}

void ChatLoop::save(const std::string& argument) {
  const std::string path = need_argument(argument, "/save", "the file's name");
  std::ofstream file(path, std::ios::binary);
  file << Json{{"messages", messages_to_json(conversation())}}.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  if (!file.flush()) fail(ErrorKind::kBadInput, path, "cannot be written");
  write_note(fmt::format("({} messages in {})", conversation().size(), path));
}

void ChatLoop::load(const std::string& argument) {
  const std::string path = need_argument(argument, "/load", "the file's name");
  std::vector<Message> loaded = messages_from_json(read_json_file(path), path);
  std::string system_text;
  if (!loaded.empty() && loaded.front().role == Role::kSystem) {
    system_text = loaded.front().content;
    loaded.erase(loaded.begin());
  }
  setup_.system = system_text;
  messages_ = std::move(loaded);
  write_note(fmt::format("({} messages from {})", conversation().size(), path));
}

void ChatLoop::set(const std::string& argument) {
  SamplerOptions& options = setup_.generate.sampler;
  const std::size_t space = argument.find(' ');
  if (!argument.empty()) {
    need_argument(space == std::string::npos ? "" : argument, "/set", "the value");
    return set_sampler_option(options, argument.substr(0, space), trimmed(std::string_view(argument).substr(space)));
  }
  std::string text;
  for (const SamplerRow& row : sampler_rows()) {
    const std::string value = std::visit([&](auto field) { return fmt::format("{}", options.*field); }, row.field);
    text += fmt::format("{:<18} {:<10} {}\n", row.name, value, row.about);
  }
  write_text(text);
}

void ChatLoop::stats(const std::string&) {
  write_text((last_stats_.empty() ? "no answer yet" : last_stats_) +
             fmt::format("\ncontext: {} of {} positions used\n", session_.tokens().size(), engine_.context()));
}

void ChatLoop::quit(const std::string&) { done_ = true; }

}  // namespace puna
