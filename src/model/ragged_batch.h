// SPDX-License-Identifier: Apache-2.0
// What the network is asked at once: tokens of one or more sequences, and which of their rows' logits are wanted.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/shortlist.h"
#include "model/adapters.h"
#include "text/token.h"

namespace puna {

// Tokens of one or more sequences, one after the other; sequence i continues at its length in the cache.
struct Batch {
  struct Part {
    int sequence;       // of the cache
    std::int64_t rows;  // how many of the tokens are its own
    const AdapterSet* adapters = nullptr;
  };
  std::span<const Token> tokens;             // [T]
  std::span<const Part> parts;               // rows sum to T
  std::span<const std::int32_t> logit_rows;  // ascending rows of the batch whose logits are wanted; may be empty
  bool all_states = false;                   // instead: the states of all rows, and no logits; logit_rows is empty
  bool likeliest_only = false;               // of the wanted rows Llama::likeliest(), and no logits
  std::span<const RowDraw> draws =
      {};                         // [logit_rows] or none; the wanted rows stay where they are: Llama::shortlists(), row_logits()
  std::int64_t known_tokens = 0;  // the first ids, which may be in a shortlist; the same in every batch
};

}  // namespace puna
