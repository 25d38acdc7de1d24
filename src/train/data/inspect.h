// SPDX-License-Identifier: Apache-2.0
// Examples as people can check them: the text that the model sees, with what is trained marked. `puna train --inspect N`.
#pragma once

#include <string>

#include "text/tokenizer.h"
#include "train/data/example.h"
#include "train/data/loader.h"

namespace puna {

enum class InspectStyle {
  kTerminal,  // trained text is green and underlined
  kPlain,     // trained text stands in «…»
};

// Special tokens are written by name; control characters other than line ends and tabs as \x1b. Of more than 2000 tokens the middle
// is left out.
std::string render_example(const Example& example, const Tokenizer& tokenizer, InspectStyle style);

// The next `count` examples of the order with where they come from, their lengths and trained tokens; then what has been left out
// and why. The loader stays where it is.
std::string inspect(Loader& loader, int count, InspectStyle style);

}  // namespace puna
