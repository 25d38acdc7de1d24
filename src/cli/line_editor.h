// SPDX-License-Identifier: Apache-2.0
// Lines typed on a terminal, with editing and a history kept in a file (libedit; ~/.editrc is respected). Ctrl-C, and
// SIGTERM, come back as a value: it needs an InterruptScope around.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace puna {

class LineEditor {
 public:
  enum class Result { kLine, kEnd, kInterrupted };

  // A history that cannot be read or written is done without. The file is readable by its owner alone.
  explicit LineEditor(std::filesystem::path history);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // kLine: `line` without its newline. kEnd: Ctrl-D on an empty line, or the terminal is gone. kInterrupted: what was typed of it.
  Result read(const std::string& prompt, std::string& line);
  void remember(const std::string& text);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// $XDG_STATE_HOME/puna/history, else ~/.local/state/puna/history; empty where neither is set.
std::filesystem::path history_path();

}  // namespace puna
