// SPDX-License-Identifier: Apache-2.0
// What kv_store and attention_forward both ask of their arguments.
#pragma once

#include <span>

#include "kernels/attention.h"

namespace puna {

// Throws kInternal for a format or shape that has no kernel, and for positions that have no page.
void check_kv(const KvLayer& layer, std::span<const BatchSequence> sequences, const char* where);

}  // namespace puna
