// SPDX-License-Identifier: Apache-2.0
// Direct preference optimisation (Rafailov et al., 2023, eq. 7) with Llama 3's two changes (§4.1.4): format tokens are left out of
// the log-probabilities, and the chosen answer's likelihood is held up (Pang et al., 2024):
//   d = lp - lp_ref,   lp = sum of log p over the answer's counted rows
//   loss = mean over groups of the mean over pairs of -log sigma(beta (d_better - d_worse)) + nll_weight NLL(better)
// NLL is the mean of -log p over the better answer's rows: all of them (nll_all_rows), or the counted ones.
// length_normalised (Tülu 3, Lambert et al., 2024, §5.1): each d is divided by its number of counted rows.
// With the reference itself the first part is ln 2 whatever the data.
// Figures: "accuracy", "margin" beta (d_better - d_worse), "better" and "worse" beta d, "nll"; means as the loss's.
#pragma once

#include <memory>

#include "train/objectives/objective.h"

namespace puna {

// Throws kUsage for a beta or nll_weight outside its range.
std::unique_ptr<Objective> make_dpo(const ObjectiveContext& context);

}  // namespace puna
