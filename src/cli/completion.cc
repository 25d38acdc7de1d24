// SPDX-License-Identifier: Apache-2.0
#include "cli/completion.h"

#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "base/nearest.h"

namespace puna {
namespace {

std::string joined(const std::vector<std::string>& words, std::string_view between) {
  return fmt::format("{}", fmt::join(words, between));
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}

bool takes_model(const Flag& flag) { return flag.value == "MODEL" || (flag.positional && flag.names.back() == "MODEL"); }
bool takes_cached_name(const Command& verb, const Flag& flag) {
  return takes_model(flag) || (verb.name == "rm" && flag.positional);
}
bool takes_verb(const Flag& flag) { return flag.positional && flag.names.back() == "VERB"; }

// --- bash: one function; a case per verb gives its flags, a case per flag its values ---

std::string bash_values(const Command& verb, const Flag& flag) {
  std::string words = joined(flag.choices(), " ");
  if (takes_verb(flag)) words = "$verbs";
  if (takes_cached_name(verb, flag)) words = "$(puna list --names 2>/dev/null)";
  std::string code;
  if (!words.empty()) code += fmt::format("COMPREPLY+=($(compgen -W \"{}\" -- \"$word\")); ", words);
  if (flag.takes_file()) code += "COMPREPLY+=($(compgen -f -- \"$word\")); compopt -o filenames; ";
  return code;
}

std::string bash_verb(const Command& verb) {
  std::string flags, by_flag, positional;
  for (const Flag& flag : verb.flags) {
    if (flag.positional) {
      positional += bash_values(verb, flag);
      continue;
    }
    flags += (flags.empty() ? "" : " ") + joined(flag.names, " ");
    if (flag.takes_value()) by_flag += fmt::format("        {}) {}return ;;\n", joined(flag.names, "|"), bash_values(verb, flag));
  }
  std::string text = fmt::format("    {})\n", verb.name);
  if (!by_flag.empty()) text += "      case \"$before\" in\n" + by_flag + "      esac\n";
  text += fmt::format("      if [[ $word == -* ]]; then COMPREPLY=($(compgen -W \"{}\" -- \"$word\")); return; fi\n", flags);
  if (!positional.empty()) text += "      " + positional + "\n";
  return text + "      ;;\n";
}

std::string bash_script(std::span<const Command> verbs) {
  std::string names, cases;
  for (const Command& verb : verbs) {
    names += (names.empty() ? "" : " ") + verb.name;
    cases += bash_verb(verb);
  }
  return "# bash completion for puna: puna completion bash > ~/.local/share/bash-completion/completions/puna\n"
         "_puna() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verbs=\"" +
         names +
         "\"\n"
         "  COMPREPLY=()\n"
         "  if [[ $COMP_CWORD -eq 1 ]]; then COMPREPLY=($(compgen -W \"$verbs --help --version\" -- \"$word\")); return; fi\n"
         "  case \"${COMP_WORDS[1]}\" in\n" +
         cases + "  esac\n}\ncomplete -F _puna puna\n";
}

// --- zsh: _arguments per verb ---

std::string zsh_quoted(const std::string& text) {
  return replaced(replaced(replaced(replaced(text, "'", "'\\''"), ":", "\\:"), "[", "\\["), "]", "\\]");
}

std::string zsh_values(const Command& verb, const Flag& flag) {
  if (takes_cached_name(verb, flag)) return "_puna_models";
  if (takes_verb(flag)) return "_puna_verbs";
  if (const auto choices = flag.choices(); !choices.empty()) return "(" + joined(choices, " ") + ")";
  return flag.takes_file() ? "_files" : "";
}

std::string zsh_verb(const Command& verb) {
  std::string text = fmt::format("    {})\n      _arguments \\\n", verb.name);
  for (const Flag& flag : verb.flags) {
    const std::string label = zsh_quoted(flag.value.empty() ? flag.names.back() : "value"), values = zsh_values(verb, flag);
    if (flag.positional) {
      text += fmt::format("        '::{}:{}' \\\n", label, values);
      continue;
    }
    for (const std::string& name : flag.names) {
      text += fmt::format("        '*{}[{}]{}' \\\n", name, zsh_quoted(flag.about),
                          flag.takes_value() ? ":" + label + ":" + values : "");
    }
  }
  return text + "        && return 0\n      ;;\n";
}

std::string zsh_script(std::span<const Command> verbs) {
  std::string names, cases;
  for (const Command& verb : verbs) {
    names += fmt::format("    '{}:{}'\n", verb.name, zsh_quoted(verb.about));
    cases += zsh_verb(verb);
  }
  return "#compdef puna\n"
         "# zsh completion for puna: puna completion zsh > a folder of $fpath, as _puna\n"
         "_puna_verbs() {\n  local -a verbs\n  verbs=(\n" +
         names +
         "  )\n  _describe verb verbs\n}\n"
         "_puna_models() {\n  local -a models\n  models=(${(f)\"$(puna list --names 2>/dev/null)\"})\n"
         "  _alternative 'models:model:compadd -a models' 'files:file:_files'\n}\n"
         "_puna() {\n  if (( CURRENT == 2 )); then _puna_verbs; return; fi\n"
         "  local verb=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $verb in\n" +
         cases +
         "  esac\n}\n"
         "if [[ $funcstack[1] == _puna ]]; then _puna \"$@\"; else compdef _puna puna; fi\n";
}

// --- fish: one complete line per flag ---

std::string fish_quoted(const std::string& text) { return "'" + replaced(replaced(text, "\\", "\\\\"), "'", "\\'") + "'"; }

std::string fish_values(const Command& verb, const Flag& flag) {
  if (takes_cached_name(verb, flag)) return " -a '(puna list --names 2>/dev/null)'";
  const auto choices = flag.choices();
  return choices.empty() ? "" : " -a " + fish_quoted(joined(choices, " "));
}

std::string fish_verb(const Command& verb) {
  const std::string when = fmt::format("complete -c puna -n '__fish_seen_subcommand_from {}'", verb.name);
  std::string text;
  for (const Flag& flag : verb.flags) {
    if (flag.positional) {
      const std::string values = fish_values(verb, flag);
      if (!values.empty()) text += when + values + "\n";
      continue;
    }
    text += when;
    for (const std::string& name : flag.names) text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    if (flag.takes_value()) text += (flag.takes_file() ? " -r -F" : " -x") + fish_values(verb, flag);
    text += " -d " + fish_quoted(flag.about) + "\n";
  }
  return text;
}

std::string fish_script(std::span<const Command> verbs) {
  std::string names, text = "# fish completion for puna: puna completion fish > ~/.config/fish/completions/puna.fish\n";
  for (const Command& verb : verbs) {
    names += (names.empty() ? "" : " ") + verb.name;
    text += fmt::format("complete -c puna -n __fish_use_subcommand -f -a {} -d {}\n", verb.name, fish_quoted(verb.about));
  }
  for (const Command& verb : verbs) text += fish_verb(verb);
  return text + "complete -c puna -n '__fish_seen_subcommand_from help' -f -a " + fish_quoted(names) + "\n";
}

}  // namespace

std::string completion_script(std::span<const Command> verbs, const std::string& shell) {
  if (shell == "bash") return bash_script(verbs);
  if (shell == "zsh") return zsh_script(verbs);
  if (shell == "fish") return fish_script(verbs);
  const std::vector<std::string> names = {"bash", "zsh", "fish"};
  fail(ErrorKind::kUsage, "completion", "'{}' is not one of bash, zsh and fish{}", shell, did_you_mean(shell, names));
}

}  // namespace puna
