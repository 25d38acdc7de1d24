// SPDX-License-Identifier: Apache-2.0
#include "server/routes/open_ai_logprobs.h"

#include <gtest/gtest.h>

namespace puna {
namespace {

// Tokens may end inside of a character: it counts where it begins, so the sum is that of the text.
TEST(OpenAiLogprobs, CharactersAreCountedWhereTheyBegin) {
  const std::string_view text = "é😀a";
  EXPECT_EQ(characters(text), 3u);
  for (std::size_t cut = 0; cut <= text.size(); ++cut)
    EXPECT_EQ(characters(text.substr(0, cut)) + characters(text.substr(cut)), 3u) << cut;
}

}  // namespace
}  // namespace puna
