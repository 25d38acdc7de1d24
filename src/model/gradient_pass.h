// SPDX-License-Identifier: Apache-2.0
// The network without its output product over a packed batch, forward and backward:
//   x = embedding[token];  x = block(x) for every layer (model/block.h);  hidden = rms_norm(x)
// Logits and losses are train/output_head.h's and the objectives'. Buffers are planned once; a pass allocates nothing. They, hidden
// and its gradient are the device's memory.
// Any number of threads gives equal bits, and so does every choice of what is kept.
// On a rank of a team (Device::team) it is the rank's part; all ranks call the same functions with the same rows together, hidden
// and its gradient are whole and equal on all. A trained embedding, whose rows lie with the ranks (model/parameter_list.h), gives a
// sum over ranks: a rank has the rows of its own tokens, zeros elsewhere; back go the rows of dx to the ranks whose tokens they
// are. Forward is what serving computes, so that what is trained is what will run: frozen quantized weights multiply rounded
// activations (kernels/matmul.h). Backward takes the rounding as exact.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/device.h"
#include "kernels/packed_attention.h"
#include "model/block.h"
#include "model/config.h"
#include "model/parameters.h"
#include "text/token.h"

namespace puna {

// What forward keeps for backward. kBlockInputs keeps x [T, D] of every layer and runs each block again, but its last product,
// before its backward: about a quarter more arithmetic for a tenth of the memory. kNothing: forward only, for teachers, references
// and held-out losses.
enum class Keep { kAllActivations, kBlockInputs, kNothing };

// The host's memory; the segments are read until the backward of this pass.
struct PassRows {
  std::span<const Token> tokens;            // [T]
  std::span<const std::int32_t> positions;  // [T]
  std::span<const PackedSegment> segments;  // in order, covering all rows
  bool with_adapters = true;                // false: as if there were none; forward only
};

class GradientPass {
 public:
  // `parameters` must outlive it.
  GradientPass(Parameters& parameters, Device device, std::int64_t max_rows, Keep keep);
  ~GradientPass();

  // -> hidden [T, D] behind the output norm, valid until the next forward(). Throws kBadInput for a token outside the vocabulary.
  std::span<const float> forward(const PassRows& rows);
  // [T, D] for the rows of the last forward(), zeroed by it: where an objective may leave its gradient of hidden.
  std::span<float> dhidden();
  // The backward of the last forward(), once: adds to all gradients of `parameters`. dhidden [T, D].
  void backward(std::span<const float> dhidden);

  const ModelConfig& config() const;
  std::int64_t max_rows() const;
  // Bytes the constructor allocates; `rank` is that of the adapters, 0 without.
  static std::int64_t bytes(const ModelConfig& config, std::int64_t max_rows, Keep keep, std::int64_t rank, bool on_gpu = false);

 private:
  struct Buffers;
  struct Layer {  // what one block reads and writes
    BlockWeights weights;
    PackedKv kv;
    BlockBuffers buffers;
  };
  void check(const PassRows& rows) const;
  bool divides_embedding() const;
  void embed(const PassRows& rows);
  void embed_back();
  Layer layer(std::int64_t index) const;
  BlockBatch batch() const;

  Parameters& parameters_;
  Device device_;
  Keep keep_;
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace puna
