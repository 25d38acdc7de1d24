// SPDX-License-Identifier: Apache-2.0
#include "cli/flags.h"

#include <gtest/gtest.h>

#include "cli/prompt_choice.h"
#include "expect_error.h"

namespace puna {
namespace {

TEST(SamplerRows, SetByName) {
  SamplerOptions options;
  set_sampler_option(options, "temp", "0.25");
  set_sampler_option(options, "top-k", "40");
  set_sampler_option(options, "seed", "18446744073709551615");
  EXPECT_EQ(options.temperature, 0.25);
  EXPECT_EQ(options.top_k, 40);
  EXPECT_EQ(options.seed, 18446744073709551615U);
}

TEST(SamplerRows, AWrongValueChangesNothing) {
  SamplerOptions options;
  expect_error(ErrorKind::kUsage, "[temp] 'hot' is not a number", [&] { set_sampler_option(options, "temp", "hot"); });
  expect_error(ErrorKind::kUsage, "[top-k] '1.5' is not a whole number", [&] { set_sampler_option(options, "top-k", "1.5"); });
  expect_error(ErrorKind::kUsage, "is not a whole number from 0", [&] { set_sampler_option(options, "seed", "-1"); });
  expect_error(ErrorKind::kUsage, "there is no setting 'tempp': did you mean temp?",
               [&] { set_sampler_option(options, "tempp", "1"); });
  EXPECT_THROW(set_sampler_option(options, "top-p", "7"), Error) << "out of range";
  EXPECT_EQ(options.temperature, SamplerOptions().temperature);
  EXPECT_EQ(options.top_p, SamplerOptions().top_p);
}

TEST(SamplerFlags, LogitBiasAndSeed) {
  SamplerFlags flags;
  flags.logit_bias = {"5=-100", "7=1.5"};
  flags.seeded = true;
  flags.options.seed = 3;
  const SamplerOptions options = sampler_options(flags);
  EXPECT_EQ(options.logit_bias, (std::vector<std::pair<Token, double>>{{Token{5}, -100}, {Token{7}, 1.5}}));
  EXPECT_EQ(options.seed, 3U);
  flags.logit_bias = {"5"};
  expect_error(ErrorKind::kUsage, "[--logit-bias] '5': expected ID=VALUE", [&] { sampler_options(flags); });
}

TEST(KvFormat, Names) {
  EXPECT_EQ(kv_format("q8_0"), Format::kQ8_0);
  expect_error(ErrorKind::kUsage,
               "[--kv] 'fp16' is not a format of the cache, expected f32, f16, bf16, q8_0, f8_e4m3: did you mean",
               [] { kv_format("fp16"); });
}

TEST(FloatFormat, Names) {
  EXPECT_EQ(float_format(""), std::nullopt);
  EXPECT_EQ(float_format("bf16"), Format::kBF16);
  for (const char* name : {"q8_0", "frob", "f8_e4m3"})
    expect_error(ErrorKind::kUsage, "is not a format that new weights can have, expected f32, f16, bf16",
                 [&] { float_format(name); });
}

TEST(SamplerFlags, HelpSaysTheVerbsOwnDefault) {
  SamplerFlags flags;
  flags.options.temperature = 0.25;
  Command command("x", "y", "z");
  add_sampler_flags(command, flags);
  EXPECT_EQ(command.flags[1].names, std::vector<std::string>{"--temp"});
  EXPECT_TRUE(command.flags[1].about.ends_with("(default 0.25)")) << command.flags[1].about;
}

TEST(PromptChoice, NamesTheNearest) {
  expect_error(ErrorKind::kUsage, "did you mean llama3.1", [] { named_prompt_format("lama3.1"); });
  EXPECT_NE(prompt_format_choices().find("llama2"), std::string::npos);
  EXPECT_THAT(today(), testing::MatchesRegex("[0-9][0-9] [A-Z][a-z][a-z] 20[0-9][0-9]"));
}

TEST(ScoringOptions, LogitsStayBelow64Megabytes) {
  ModelConfig config;
  config.vocabulary = 128256;
  EXPECT_EQ(scoring_options({}, config).logit_rows, 130);
  config.vocabulary = 512;
  EXPECT_EQ(scoring_options({}, config).logit_rows, 512);
}

}  // namespace
}  // namespace puna
