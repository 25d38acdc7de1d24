// SPDX-License-Identifier: Apache-2.0
// The shapes of all answers, as JSON schemas by name: what `components.schemas` of the OpenAPI document holds.
#pragma once

#include "base/json.h"

namespace puna {

// Objects hold what is named and nothing else, so a field that an answer has and no schema names is a fault of one of them.
Json response_schemas();

}  // namespace puna
