// SPDX-License-Identifier: Apache-2.0
// The same weights in another container: Hugging Face folder, Meta folder or GGUF file. Lossless where the target can hold the
// format: query and key rows are reordered between the rotary pairings (whole rows, so quantized rows survive), names, config and
// tokenizer are rewritten.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/checkpoint.h"

namespace puna {

struct ConvertReport {
  std::int64_t bytes_out = 0;
  double seconds = 0;
  std::vector<std::string> notes;  // what could not be carried over, and why
  bool lossless = true;
};

// The target's kind: kGguf for a path ending in .gguf, else what `kind` says. Where `interrupted` comes true before all is written,
// throws Interrupted and leaves nothing.
ConvertReport convert_checkpoint(ThreadPool& pool, const Checkpoint& in, const std::filesystem::path& out, CheckpointKind kind,
                                 bool overwrite, const std::atomic<bool>* interrupted = nullptr);

}  // namespace puna
