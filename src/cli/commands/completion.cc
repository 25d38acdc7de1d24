// SPDX-License-Identifier: Apache-2.0
// `puna completion bash|zsh|fish`.
#include "cli/completion.h"

#include <memory>
#include <string>

#include "cli/output.h"
#include "cli/verb.h"

namespace puna {

VerbAction declare_completion(CLI::App& app) {
  const auto shell = std::make_shared<std::string>();
  app.add_option("SHELL", *shell, "the shell to complete in")->required()->type_name("bash|zsh|fish");
  return [shell] {
    VerbAction unused;
    write_out(completion_script(*make_app(unused), *shell));
  };
}

}  // namespace puna
