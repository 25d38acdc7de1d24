// SPDX-License-Identifier: Apache-2.0
// AdamW over all parameters (kernels/adamw.h has the formula), with clipping by the global norm (Pascanu et al., 2013): every
// gradient is scaled by min(1, clip / norm). Decay is for matrices only. States are F32, or 8 bits in blocks of 256; parameters of
// fewer than 4096 values, which are norms, keep F32 states. A rank of a team updates its parts; the norm is that of all parts, with
// what every rank has whole counted once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/adamw.h"
#include "kernels/device.h"
#include "model/parameters.h"
#include "tensor/arena.h"

namespace puna {

struct AdamwOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0.1;
  double clip = 1;  // largest norm; 0: no clipping
  bool eight_bit = false;
};

class AdamW {
 public:
  // `parameters` must outlive it. Throws kUsage for figures outside their ranges.
  AdamW(Parameters& parameters, const AdamwOptions& options, Device device);

  // sqrt(sum g^2) over all gradients, also the other ranks', which ask for it together; NaN or infinite where one is.
  double gradient_norm();
  // One update with the gradients as they are; `norm` is gradient_norm(). Gradients are left alone.
  void step(double learning_rate, double norm);

  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }  // of a checkpoint
  // All of the state but the count of steps: "m.<parameter>", "v.<parameter>" and, in 8 bits, "m_scale.…" and "v_scale.…".
  struct State {
    std::string name;
    std::span<std::byte> bytes;  // the device's memory
    std::size_t parameter;       // its place among Parameters::all()
    bool by_value;               // one F32 for each value, so that ranks' parts make up the whole's as those of values do
  };
  std::span<const State> state() const { return states_; }

  // Bytes the constructor allocates.
  static std::int64_t bytes(const ModelConfig& whole, const TrainChoice& choice, bool eight_bit, const Share& share = {});

 private:
  // Neighbours in the arena that are updated in one call.
  struct Group {
    std::span<float> value, gradient, m, v;  // F32 states
    Adamw8BitState small;                    // 8-bit states, where m is empty
    bool decays;
  };
  void join_neighbours();

  Parameters& parameters_;
  AdamwOptions options_;
  Device device_;
  Arena arena_;
  std::vector<Group> groups_;
  std::vector<State> states_;
  std::int64_t steps_ = 0;
};

}  // namespace puna
