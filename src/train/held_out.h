// SPDX-License-Identifier: Apache-2.0
// What a run is held against while it learns: the objective's loss on held-out data, and whether a needle in a long row is found.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "train/data/loader.h"
#include "train/metrics.h"
#include "train/train_ranks.h"

namespace puna {

struct HeldOut {
  double loss = 0;
  Figures figures;
  std::int64_t tokens = 0;
};

// Brings what an objective needs besides the batch: log-probabilities of the reference.
using PrepareBatches = std::function<void(StepBatches&)>;

// The first `tokens` rows of the validation data, always the same ones: losses are means over trained tokens, or over groups of
// answers. `loader` is at its beginning afterwards.
HeldOut measure_held_out(Loader& loader, TrainRanks& ranks, std::int64_t tokens, const PrepareBatches& prepare);

inline constexpr std::int64_t kNeedle = 16, kShortestHaystack = 4 * kNeedle;  // tokens; of a needle, of a row that hides one

// Needle in a haystack on tokens alone, so that it needs no chat: rows of `length` tokens of held-out text in which, at ten depths
// from the beginning to the end, a needle of kNeedle random tokens stands, and whose end repeats its first half. Found: each of the
// others has a probability above one half. Returns the share of the depths at which it was found. Throws kBadInput where `loader`
// has no text; it is where it was afterwards.
double find_needles(Loader& loader, TrainRanks& ranks, std::int64_t length, std::uint64_t seed);

}  // namespace puna
