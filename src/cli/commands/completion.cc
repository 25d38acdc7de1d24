// SPDX-License-Identifier: Apache-2.0
// `puna completion bash|zsh|fish`.
#include "cli/completion.h"

#include <memory>
#include <string>

#include "cli/output.h"
#include "cli/verb.h"

namespace puna {

VerbAction declare_completion(Command& command) {
  const auto shell = std::make_shared<std::string>();
  Flag& positional = command.positional("SHELL", shell.get(), "the shell to complete in");
  positional.value = "bash|zsh|fish";
  positional.required = true;
  return [shell] { write_out(completion_script(declare_verbs(), *shell)); };
}

}  // namespace puna
