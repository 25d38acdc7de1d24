// SPDX-License-Identifier: Apache-2.0
// One request for answers, in no family's shape: n answers to each of its prompts are asked of a model, and told as they come. A
// client that goes takes all of them with it, and one that does not read holds them up.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/answer_filter.h"
#include "server/exchange.h"
#include "server/served_model.h"
#include "server/services.h"

namespace puna {

struct AnswerRequest {
  std::shared_ptr<ServedModel> model;
  std::vector<std::vector<Token>> prompts;
  GenerateOptions options;
  PromptFormat format;      // that calls are read in
  std::vector<Tool> tools;  // that may be called; none: the text is what it is
  std::optional<AnswerShape> shape;
  bool shape_may_lapse = false;                                         // where it cannot be followed here, the answer has none
  int count = 1;                                                        // of each prompt; the j-th has the seed + j
  bool one_call = false;                                                // of several calls in an answer the first counts
  std::string_view call_prefix = "call_";                               // of the calls' ids
  const char *prompt_field = "messages", *length_field = "max_tokens";  // of the request, for refusals
  int prompt_logprobs = -1;  // the likeliest tokens beside each of a prompt's; -1: not even those of the prompt
};

struct Answer {
  Message message;          // content and calls; calls have ids
  std::string_view reason;  // "stop", "length" or "tool_calls"
  std::string stop;         // the stop string that ended it, or empty
  std::size_t prompt = 0;   // its prompt's number
  Generation generation;
};

// The model that a body's "model" names, and its adapters, into the request. Throws as ModelRegistry::get().
void choose_model(Services& services, const Json& body, AnswerRequest& request);

// Told on the engine's thread, one after the other; `begin` at once, on the caller's, when nothing can be refused any more. Answer
// j of prompt i has the index i · count + j.
struct AnswerEvents {
  std::function<void()> begin;
  std::function<void(std::size_t prompt, std::span<const SampledToken> tokens)> prompt = {};  // log-probabilities, if asked for
  // May be empty: then nothing is told before the end. `tokens` were drawn since the last text, and are there where
  // log-probabilities were asked for; a text that tokens have and may not show is empty.
  std::function<void(int index, std::string_view text, std::span<const SampledToken> tokens)> text;
  std::function<void(int index, const Answer& answer)> finished;  // of one; texts that were held back were told before
  std::function<void(std::span<const Answer> answers)> done;      // of all
};

// Throws ApiError for any prompt that does not fit, a shape that cannot be followed, options out of range: before anything is
// asked. Later failures go to the exchange.
void ask(Services& services, const std::shared_ptr<Exchange>& exchange, AnswerRequest request, AnswerEvents events);

// "chatcmpl-" and 24 random letters.
std::string random_id(std::string_view prefix);
std::int64_t unix_time();

}  // namespace puna
