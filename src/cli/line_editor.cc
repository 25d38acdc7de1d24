// SPDX-License-Identifier: Apache-2.0
#include "cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cwchar>
#include <system_error>
#include <utility>

#include "base/environment.h"
#include "cli/interrupt.h"

namespace puna {

namespace fs = std::filesystem;

struct LineEditor::State {
  EditLine* editor = nullptr;
  History* history = nullptr;
  fs::path path;
  std::string prompt;
};

namespace {

constexpr int kHistoryLines = 1000;

char* prompt_of(EditLine* editor) {
  std::string* prompt = nullptr;
  ::el_get(editor, EL_CLIENTDATA, &prompt);
  return prompt->data();
}

// Waits for a byte on standard input; false when Ctrl-C or SIGTERM came first. The signals are let in only while ppoll() sleeps, so
// that one that comes between the look at the flag and the sleep is not lost.
bool wait_for_byte() {
  sigset_t interrupts, outside;
  sigemptyset(&interrupts);
  sigaddset(&interrupts, SIGINT);
  sigaddset(&interrupts, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &interrupts, &outside);
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  while (!interrupt_flag() && ::ppoll(&input, 1, nullptr, &outside) < 0 && errno == EINTR) {
  }
  ::pthread_sigmask(SIG_SETMASK, &outside, nullptr);
  return !interrupt_flag();
}

// libedit's own reader swallows the first Ctrl-C; this one ends the line, and puts whole characters together from bytes.
int read_character(EditLine*, wchar_t* character) {
  std::mbstate_t state{};
  while (true) {
    char byte = 0;
    if (!wait_for_byte()) return -1;
    const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
    if (got == 0) return 0;
    if (got < 0 && errno != EINTR) return -1;
    if (got < 0) continue;
    const std::size_t length = std::mbrtowc(character, &byte, 1, &state);
    if (length == static_cast<std::size_t>(-2)) continue;  // the character goes on in the next byte
    if (length != static_cast<std::size_t>(-1)) return 1;
    state = {};  // not a character of this locale: leave it out
  }
}

void use_a_unicode_locale() {
  std::setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

LineEditor::LineEditor(fs::path history) : state_(std::make_unique<State>()) {
  use_a_unicode_locale();
  State& state = *state_;
  state.path = std::move(history);
  state.editor = ::el_init("puna", stdin, stdout, stderr);
  state.history = ::history_init();
  HistEvent event;
  ::history(state.history, &event, H_SETSIZE, kHistoryLines);
  ::history(state.history, &event, H_SETUNIQUE, 1);
  if (!state.path.empty()) {
    std::error_code error;
    fs::create_directories(state.path.parent_path(), error);
    ::history(state.history, &event, H_LOAD, state.path.c_str());
  }
  ::el_set(state.editor, EL_EDITOR, "emacs");
  ::el_set(state.editor, EL_SIGNAL, 0);
  ::el_set(state.editor, EL_CLIENTDATA, &state.prompt);
  ::el_set(state.editor, EL_PROMPT, prompt_of);
  ::el_set(state.editor, EL_HIST, ::history, state.history);
  ::el_set(state.editor, EL_GETCFN, read_character);
  ::el_set(state.editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  ::el_source(state.editor, nullptr);
}

LineEditor::~LineEditor() {
  ::history_end(state_->history);
  ::el_end(state_->editor);
}

LineEditor::Result LineEditor::read(const std::string& prompt, std::string& line) {
  line.clear();
  state_->prompt = prompt;
  ::el_resize(state_->editor);
  int count = 0;
  const char* text = ::el_gets(state_->editor, &count);
  if (interrupt_flag().exchange(false)) {
    const LineInfo* typed = ::el_line(state_->editor);
    line.assign(typed->buffer, typed->lastchar);
    std::fputs(is_terminated() ? "\n" : "^C\n", stdout);
    std::fflush(stdout);
    ::el_reset(state_->editor);
    return Result::kInterrupted;
  }
  if (text == nullptr || count <= 0) return Result::kEnd;
  line.assign(text, static_cast<std::size_t>(count));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  return Result::kLine;
}

void LineEditor::remember(const std::string& text) {
  HistEvent event;
  ::history(state_->history, &event, H_ENTER, text.c_str());
  if (!state_->path.empty()) ::history(state_->history, &event, H_SAVE, state_->path.c_str());
}

fs::path history_path() {
  if (const std::string state = environment("XDG_STATE_HOME"); !state.empty()) return fs::path(state) / "puna" / "history";
  const std::string home = environment("HOME");
  return home.empty() ? fs::path() : fs::path(home) / ".local" / "state" / "puna" / "history";
}

}  // namespace puna
