// SPDX-License-Identifier: Apache-2.0
// One model out of several, in memory: adapters folded into their base, and weighted averages of checkpoints of one shape. Its
// files are those of all that it is made of.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "model/adapter_file.h"
#include "model/checkpoint.h"

namespace puna {

// W + (alpha / r) B A for every adapted matrix, summed in F32 from the decoded W and stored as `format`, or without one as it was:
// F32, F16 and BF16 stay, fewer bits become BF16. All other weights as they lie. Throws as check_adapter().
std::shared_ptr<Checkpoint> merge_adapter(std::shared_ptr<const Checkpoint> base, const AdapterFile& adapter,
                                          std::optional<Format> format, ThreadPool& pool);

// sum_i share_i W_i of every weight, shares divided by their sum, summed in F64 and stored as `format`, or without one as the first
// has it, under the same rule (Polyak averages over the end of a run; "soups" over recipes, Wortsman et al., 2022); of reward
// models their heads too. Tokenizer, template and name are the first's. Throws kUsage where a share is negative or no number or all
// are 0, kBadInput where the shapes, rotary frequencies or norm_eps differ, or only some are reward models.
struct AverageShare {
  std::shared_ptr<const Checkpoint> checkpoint;
  double share;
};
std::shared_ptr<Checkpoint> average_checkpoints(const std::vector<AverageShare>& shares, std::optional<Format> format,
                                                ThreadPool& pool);

}  // namespace puna
