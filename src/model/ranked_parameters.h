// SPDX-License-Identifier: Apache-2.0
// What the ranks of a team train (model/parameters.h, each its part), seen as what one device would train. One device is one rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "model/parameters.h"
#include "model/ranked_bytes.h"

namespace puna {

class RankedParameters {
 public:
  // They must outlive it.
  RankedParameters(const Parameters& alone) : ranks_{&alone} {}
  explicit RankedParameters(std::vector<const Parameters*> ranks) : ranks_(std::move(ranks)) {}

  const Checkpoint& checkpoint() const { return ranks_.front()->checkpoint(); }
  std::span<const ParameterEntry> entries() const { return ranks_.front()->entries(); }
  std::int64_t count() const;  // of trained values
  // Values of an entry, in F32: rank after rank's part.
  RankedBytes values(std::size_t entry) const;
  // The same for the host to read: where they lie, or copied to `memory`.
  std::span<const float> on_host(std::size_t entry, std::vector<float>& memory) const;

  // What is trained as a checkpoint of the host's memory, to run (Llama) or to write, without a tokenizer. On one CPU it points
  // into the parameters and must not outlive them; Llama decodes norms when it is made: make a new one where norms have changed. On
  // GPUs and of several ranks it is a copy of what is trained.
  std::shared_ptr<Checkpoint> view() const;

 private:
  bool lies_on_host() const { return ranks_.size() == 1 && ranks_.front()->device().gpu == nullptr; }
  template <typename BytesOf>
  RankedBytes parts(std::size_t entry, BytesOf&& bytes_of) const;

  std::vector<const Parameters*> ranks_;  // [N]
};

}  // namespace puna
