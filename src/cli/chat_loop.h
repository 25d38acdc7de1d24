// SPDX-License-Identifier: Apache-2.0
// A conversation on a terminal. Ctrl-C stops the answer and not the program; a message that cannot be answered (it does not fit the
// context, say) is reported and taken back, and the conversation goes on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/line_editor.h"
#include "infer/generate.h"
#include "text/chat.h"

namespace puna {

struct ChatSetup {
  PromptFormat format;
  PromptOptions prompt;
  GenerateOptions generate;
  std::string system;  // or empty
  bool stats = false;  // a line on speed after each answer
};

class ChatLoop {
 public:
  ChatLoop(Engine& engine, ChatSetup setup);
  // Until /quit, Ctrl-D, or Ctrl-C twice on an empty line; SIGTERM stops an answer and throws Terminated.
  void run();

 private:
  struct Command {
    std::string_view name, argument, about;
    void (ChatLoop::*run)(const std::string& argument);
  };
  static const std::vector<Command>& commands();

  struct Input {
    std::string text;
    bool quoted = false;  // between """: never a command
  };
  LineEditor::Result read_message(Input& input);
  void command(const std::string& line);
  void answer(const std::string& text);
  Generation generate();
  std::vector<Message> conversation() const;

  void help(const std::string& argument);
  void clear(const std::string& argument);
  void system(const std::string& argument);
  void save(const std::string& argument);
  void load(const std::string& argument);
  void set(const std::string& argument);
  void stats(const std::string& argument);
  void quit(const std::string& argument);

  Engine& engine_;
  ChatSetup setup_;
  Session session_;
  LineEditor editor_;
  std::vector<Message> messages_;  // without the system message
  std::string last_stats_;
  bool done_ = false;
};

}  // namespace puna
