// SPDX-License-Identifier: Apache-2.0
#include "cli/draft_flags.h"

#include <algorithm>

#include "base/error.h"

namespace puna {

void add_draft_flags(Command& command, DraftFlags& flags) {
  command.flag("--draft", "MODEL", &flags.model,
               "a smaller model with the same vocabulary proposes tokens: the same answer, sooner where it is often right");
  command.flag("--lookup", &flags.lookup, "what followed the same words before is proposed: for answers that repeat the prompt");
  command.flag("--draft-tokens", "N", &flags.tokens, "how many at once (default 4)").range = {1, kMostDraftTokens};
}

DraftSource::DraftSource(const DraftFlags& flags, const Checkpoint& target, const EngineFlags& engine, int answers)
    : flags_(flags) {
  if (flags.lookup && !flags.model.empty())
    fail(ErrorKind::kUsage, "--lookup", "a draft model was given too: leave one of them out");
  if (flags.model.empty()) return;
  const std::shared_ptr<const Checkpoint> draft = open_model(flags.model);
  check_draft(target, *draft);
  EngineOptions options = engine_options(engine);
  options.context = std::min(options.context, draft->config.context);
  options.sequences = answers;
  draft_ = std::make_shared<Engine>(draft, options);
}

void DraftSource::give(GenerateOptions& options) const {
  if (!flags_.given()) return;
  options.drafter = flags_.lookup ? lookup_drafter() : model_drafter(draft_);
  options.draft_tokens = flags_.tokens;
}

}  // namespace puna
