// SPDX-License-Identifier: Apache-2.0
#include "train/run_samples.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "infer/engine.h"
#include "infer/generate.h"

namespace puna {
namespace {

constexpr std::int64_t kMostPositions = 2048;  // of the model's context

std::vector<Token> prompt_tokens(const Tokenizer& tokenizer, const std::string& prompt) {
  std::vector<Token> tokens = tokenizer.encode(prompt);
  if (tokenizer.bos()) tokens.insert(tokens.begin(), *tokenizer.bos());
  return tokens;
}

}  // namespace

void check_samples(const Recipe& recipe, const Checkpoint& start, const RunPlan& plan) {
  if (recipe.watch.sample_every <= 0) return;
  std::int64_t context = start.config.context;
  for (std::size_t s = 0; s < plan.stages(); ++s) context = std::max(context, plan.stage(s).sequence_length);
  context = std::min(context, kMostPositions);
  for (const std::string& prompt : recipe.watch.samples) {
    const std::vector<Token> tokens = prompt_tokens(start.need_tokenizer(), prompt);
    if (tokens.empty())
      fail(ErrorKind::kUsage, "watch.samples", "'{}' has no tokens: a sample has to begin with something", prompt);
    if (std::ssize(tokens) > context)
      fail(ErrorKind::kUsage, "watch.samples", "'{}' has {} tokens, but a sample has room for {}: shorten it", prompt,
           tokens.size(), context);
  }
}

void write_samples(const Recipe& recipe, const std::shared_ptr<const Checkpoint>& model, int threads,
                   const std::function<void(std::string_view prompt, std::string_view text)>& told) {
  const Tokenizer& tokenizer = model->need_tokenizer();
  Engine engine(model, {.threads = threads, .context = std::min(model->config.context, kMostPositions)});
  GenerateOptions options;
  options.max_tokens = recipe.watch.sample_tokens;
  options.sampler.seed = static_cast<std::uint64_t>(recipe.seed);
  for (const std::string& prompt : recipe.watch.samples) {
    Session session(engine);
    told(prompt, session.generate(prompt_tokens(tokenizer, prompt), options).text);
  }
}

}  // namespace puna
