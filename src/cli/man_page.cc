// SPDX-License-Identifier: Apache-2.0
#include "cli/man_page.h"

#include <fmt/format.h>

#include <string_view>

#include "cli/verb.h"

namespace puna {
namespace {

// Plain text as roff: dashes that can be copied, lists of choices that can be broken, no line that begins like a request.
std::string roff(std::string_view text) {
  std::string result;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) result += "\\&";
    line_start = c == '\n';
    result += c == '\\' ? "\\e" : c == '-' ? "\\-" : c == '|' ? "|\\:" : std::string(1, c);
  }
  return result;
}

std::string flag_entry(const Flag& flag) {
  std::string names;
  for (const std::string& name : flag.names) names += (names.empty() ? "" : ", ") + ("\\fB" + roff(name) + "\\fR");
  const std::string value = flag.value.empty() ? "" : " \\fI" + roff(flag.value) + "\\fR";
  return ".TP\n" + names + value + "\n" + roff(flag.about) + "\n";
}

std::string synopsis(const Command& verb) {
  std::string text = fmt::format(".B puna {}\n", roff(verb.name));
  text += "[\\fIflags\\fR]";
  for (const Flag& flag : verb.flags) {
    if (flag.positional)
      text += flag.required ? " \\fI" + roff(flag.names.back()) + "\\fR" : " [\\fI" + roff(flag.names.back()) + "\\fR]";
  }
  return text + "\n.br\n";
}

constexpr std::string_view kEnd = R"(.SH EXIT STATUS
0 success; 1 a defect in puna; 2 a wrong flag or argument; 3 a malformed file; 4 something that is not there;
5 no room in memory, in the context or on the disk; 6 the network; 7 something that nothing here can run;
130 interrupted; 141 the reader of standard output has gone.
.SH ENVIRONMENT
.TP
\fBHF_HOME\fR, \fBHF_HUB_CACHE\fR
where models are kept (default ~/.cache/huggingface/hub)
.TP
\fBHF_TOKEN\fR, \fBHF_TOKEN_PATH\fR
the token for gated and private models
.TP
\fBHF_ENDPOINT\fR
another hub than https://huggingface.co
.TP
\fBHF_HUB_OFFLINE\fR
1: nothing is downloaded
.TP
\fBXDG_STATE_HOME\fR
the history of a chat is in its puna/history
)";

}  // namespace

std::string man_page(std::span<const Command> verbs) {
  std::string text =
      ".TH PUNA 1 \"\" \"puna " PUNA_VERSION "\" \"User Commands\"\n.SH NAME\npuna \\- " + roff(kProgramAbout) + "\n.SH SYNOPSIS\n";
  for (const Command& verb : verbs) text += synopsis(verb);
  text += ".SH VERBS\n";
  for (const Command& verb : verbs) {
    text += fmt::format(".SS {}\n{}\n", roff(verb.name), roff(verb.about));
    for (const Flag& flag : verb.flags) text += flag_entry(flag);
    if (!verb.notes.empty()) text += ".PP\n.nf\n" + roff(verb.notes) + (verb.notes.ends_with('\n') ? "" : "\n") + ".fi\n";
  }
  return text + std::string(kEnd);
}

}  // namespace puna
