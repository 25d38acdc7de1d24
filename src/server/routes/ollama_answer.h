// SPDX-License-Identifier: Apache-2.0
// Answers in Ollama's shape: lines of JSON, or one object; the last line has what the answer took, in nanoseconds.
#pragma once

#include <string>

#include "server/answering.h"
#include "server/routes/ollama_fields.h"

namespace puna {

// What all lines of one answer have in common.
struct OllamaForm {
  std::string model;  // as the request has it
  bool chat = true;   // {"message": {"role", "content"}}, otherwise {"response"}
  bool logprobs = false;
  double load_seconds = 0;

  Json line(std::string_view text, bool done = false) const;
  // Of an answer without a text: "load" or "unload".
  Json ended(std::string_view reason) const;
};

// Throws what ask() throws.
void answer_in_lines(Services& services, const std::shared_ptr<Exchange>& exchange, AnswerRequest request, const OllamaForm& form,
                     bool stream);

}  // namespace puna
