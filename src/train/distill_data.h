// SPDX-License-Identifier: Apache-2.0
// A teacher reads a recipe's data once, and what it says is written down (data/teacher_shard.h): students of any number of runs
// then learn from the file, and the teacher is in memory no longer.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "train/recipe.h"
#include "train/run_start.h"

namespace puna {

struct DistillDataOptions {
  std::int64_t top_k = 64;
  std::filesystem::path out;  // a folder, which is made
  bool overwrite = false;
  std::function<void(std::int64_t done, std::int64_t all)> progress = {};  // rows of all files
  const std::atomic<bool>* interrupted = nullptr;
};

struct DistillDataReport {
  std::vector<std::string> data, validation;  // the files: one for each entry of the recipe's lists
  std::int64_t documents = 0, tokens = 0, trained_tokens = 0;
  std::uint64_t bytes = 0;
  double rest = 0;   // the mean of what the teacher gives to tokens outside the k likeliest
  std::string rows;  // what could not be used, for people; empty where all could
};

// models.teacher over recipe.data and recipe.validation, on the recipe's device: in batches of batch_tokens as a student would see
// them, rows of at most sequence_length, every row of data once and in order. A prompt with several answers becomes a document for
// each. A file has its name once it is whole; those that were finished stay where the work is interrupted (Interrupted) or fails.
// Throws kUsage where the folder holds something and `overwrite` is false, or for a k that is not in the vocabulary; kNoRoom where
// teacher or file do not fit; kUnsupported where there is no such GPU as the recipe names; kBadInput for a teacher whose logits are
// no numbers; and what the loader throws.
DistillDataReport write_distill_data(const Recipe& recipe, const RunModels& models, ThreadPool& pool,
                                     const DistillDataOptions& options);

}  // namespace puna
