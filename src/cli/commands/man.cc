// SPDX-License-Identifier: Apache-2.0
// `puna man`: the manual page as roff, for `puna man | man -l -`.
#include "cli/man_page.h"
#include "cli/output.h"
#include "cli/verb.h"

namespace puna {

VerbAction declare_man(Command&) {
  return [] { write_out(man_page(declare_verbs())); };
}

}  // namespace puna
