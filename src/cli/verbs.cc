// SPDX-License-Identifier: Apache-2.0
// The table of verbs. To add one: a row here, and commands/<name>.cc that defines declare_<name>().
#include <array>

#include "cli/verb.h"

namespace puna {

// ROW(function, name, group, about)
#define PUNA_VERBS(ROW)                                                                                          \
  ROW(run, "run", "Use a model", "answer a prompt, continue a text, or chat")                                    \
  ROW(batch, "batch", "Use a model", "answer a file of chat requests, one per line")                             \
  ROW(serve, "serve", "Serve models", "answer over HTTP: OpenAI's, Anthropic's and Ollama's APIs, and a page")   \
  ROW(ps, "ps", "Serve models", "the models that a server has loaded")                                           \
  ROW(stop, "stop", "Serve models", "unload a server's model, or end the server")                                \
  ROW(load, "load", "Serve models", "how fast a server answers many clients at once")                            \
  ROW(tokenize, "tokenize", "Use a model", "turn text into tokens, and tokens into text")                        \
  ROW(score, "score", "Use a model", "log-probabilities and logits of given tokens")                             \
  ROW(show, "show", "Look into a model", "what a model is: shape, formats, tokenizer, memory it needs")          \
  ROW(prompt_format, "prompt-format", "Look into a model", "how a conversation is written for a model")          \
  ROW(reward, "reward", "Measure", "what a reward model thinks of answers")                                      \
  ROW(perplexity, "perplexity", "Measure", "how well a model predicts a text, alone or against another")         \
  ROW(bench, "bench", "Measure", "speed of reading a prompt and of writing an answer")                           \
  ROW(quantize, "quantize", "Change a model", "write a model with fewer bits per weight, and say what it costs") \
  ROW(convert, "convert", "Change a model", "write a model in another container: GGUF, Hugging Face, Meta")      \
  ROW(train, "train", "Train a model", "run a recipe: pre-train, fine-tune, align, distil")                      \
  ROW(distill_data, "distill-data", "Train a model", "write down what a teacher says of a recipe's data")        \
  ROW(recipe, "recipe", "Train a model", "the recipes that come with the program, and what a recipe can say")    \
  ROW(merge, "merge", "Train a model", "fold adapters into the model they were trained on")                      \
  ROW(average, "average", "Train a model", "one model out of several of the same shape")                         \
  ROW(scaling_law, "scaling-law", "Train a model", "how large a model a budget of arithmetic is worth")          \
  ROW(train_tokenizer, "train-tokenizer", "Train a model", "train a vocabulary of one's own on text")            \
  ROW(pull, "pull", "Keep models", "download a model from the Hugging Face hub")                                 \
  ROW(list, "list", "Keep models", "the models in the cache")                                                    \
  ROW(rm, "rm", "Keep models", "remove a model from the cache")                                                  \
  ROW(help, "help", "About puna", "help for a verb")                                                             \
  ROW(completion, "completion", "About puna", "print the completion script of a shell")                          \
  ROW(man, "man", "About puna", "print the manual page")

#define PUNA_DECLARE(function, name, group, about) VerbAction declare_##function(Command& command);
PUNA_VERBS(PUNA_DECLARE)
#undef PUNA_DECLARE

std::span<const Verb> verbs() {
#define PUNA_ROW(function, name, group, about) Verb{name, group, about, declare_##function},
  static constexpr std::array rows = {PUNA_VERBS(PUNA_ROW)};
#undef PUNA_ROW
  return rows;
}

std::vector<Command> declare_verbs() {
  std::vector<Command> commands;
  for (const Verb& verb : verbs()) {
    Command& command = commands.emplace_back(verb.name, verb.group, verb.about);
    command.action = verb.declare(command);
  }
  return commands;
}

}  // namespace puna
