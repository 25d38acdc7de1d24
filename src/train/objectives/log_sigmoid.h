// SPDX-License-Identifier: Apache-2.0
// The loss of a preference and its slope, in forms that neither overflow nor cancel.
#pragma once

#include <algorithm>
#include <cmath>

namespace puna {

// -log sigma(z) = log(1 + exp(-z))
inline double negative_log_sigmoid(double z) { return std::max(-z, 0.0) + std::log1p(std::exp(-std::fabs(z))); }

// Its derivative: -sigma(-z)
inline double negative_log_sigmoid_slope(double z) { return z >= 0 ? -std::exp(-z) / (1 + std::exp(-z)) : -1 / (1 + std::exp(z)); }

// 1 where the better of two has the higher score, one half for a tie.
inline double pair_accuracy(double margin) { return margin > 0 ? 1 : margin == 0 ? 0.5 : 0; }

}  // namespace puna
