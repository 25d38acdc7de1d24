// SPDX-License-Identifier: Apache-2.0
// --draft, --lookup and --draft-tokens: who proposes tokens while an answer is written (infer/drafter.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cli/flags.h"
#include "infer/drafter.h"
#include "infer/generation.h"

namespace puna {

struct DraftFlags {
  std::string model;
  std::int64_t tokens = 4;
  bool lookup = false;
  bool given() const { return lookup || !model.empty(); }
  // Rows of logits that one answer can use.
  std::int64_t logit_rows() const { return given() ? tokens + 1 : 1; }
};
void add_draft_flags(Command& command, DraftFlags& flags);

// Opens the draft model, where one is asked for, with room for so many answers at once.
class DraftSource {
 public:
  // Throws kUsage where both ways are asked for, or the draft's vocabulary is another.
  DraftSource(const DraftFlags& flags, const Checkpoint& target, const EngineFlags& engine, int answers);
  // Gives an answer a drafter of its own; nothing where none was asked for.
  void give(GenerateOptions& options) const;

 private:
  DraftFlags flags_;
  std::shared_ptr<Engine> draft_;
};

}  // namespace puna
