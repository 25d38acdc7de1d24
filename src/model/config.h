// SPDX-License-Identifier: Apache-2.0
// What a Llama-family network looks like, whichever file said so. Readers of each format are in model/checkpoint_*.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/rope.h"

namespace puna {

// Llama 3.1's scaling of rotary frequencies (llama-models, model.py `apply_scaling`):
// wavelengths shorter than old/high keep their frequency, longer than old/low are divided by factor, between: interpolated.
struct RopeScaling {
  double factor = 8, low_frequency_factor = 1, high_frequency_factor = 4;
  std::int64_t original_context = 8192;
  bool operator==(const RopeScaling&) const = default;
};

struct ModelConfig {
  std::string name;               // for people: "Llama 3.1 8B Instruct", or the file's
  std::int64_t layers = 0;        // L
  std::int64_t width = 0;         // D
  std::int64_t heads = 0;         // H query heads
  std::int64_t kv_heads = 0;      // G key/value heads; divides H
  std::int64_t head_width = 0;    // E, even
  std::int64_t feed_forward = 0;  // F
  std::int64_t vocabulary = 0;    // V
  std::int64_t context = 0;       // positions the model was made for
  double norm_eps = 1e-5;
  double rope_theta = 10000;
  RopePairing rope_pairing = RopePairing::kNeighbours;
  std::optional<RopeScaling> rope_scaling;
  std::vector<float> rope_divisors;  // [E / 2] from GGUF's rope_freqs: frequency p is divided by it; empty: rope_scaling rules
  double rope_linear_factor = 1;     // "linear" scaling: positions are divided by it
  bool tied_embeddings = false;      // the output matrix is the token embedding

  std::int64_t parameters() const;  // of the weights as stored (tied matrices counted once)
};

// Throws kBadInput naming the field for figures no network can have (zero, negative, heads not a multiple of kv heads, …),
// kUnsupported above the sizes that indices can hold.
void check_config(const ModelConfig& config, const std::string& where);

// frequencies [E / 2] in radians per position, scaling applied.
std::vector<double> rope_frequencies(const ModelConfig& config);

// The row of the source that becomes row n, where heads of `head_width` rows go from one pairing to another: the pair p of a head
// is the rows 2p, 2p + 1 as neighbours and p, E / 2 + p as halves.
std::int64_t paired_row(std::int64_t n, std::int64_t head_width, RopePairing from, RopePairing to);

// Llama shapes by name: "1b", "3b", "8b", "70b", "405b" (3.1/3.2 figures); nullopt for another name.
std::optional<ModelConfig> known_shape(std::string_view name);

}  // namespace puna
