// SPDX-License-Identifier: Apache-2.0
// The generation loop: prompt in, tokens and text out as they come, with every way to stop.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "infer/engine.h"
#include "infer/generation.h"
#include "infer/token_writer.h"

namespace puna {

// One conversation's place in the cache: knows which tokens are there and prefills only what is new.
class Session {
 public:
  explicit Session(Engine& engine);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Continues from `prompt` (the whole of it: the longest common beginning with what is cached is reused).
  // on_text gets pieces that end on whole UTF-8 characters and never hold a part of a stop string; a character that the last token
  // leaves unfinished is in `tokens` only. Ids that the tokenizer does not know are never drawn. `interrupted` stops between tokens
  // and between prefill chunks. Throws kUsage for an empty prompt or an option out of range, kNoRoom for a prompt longer than the
  // context, kUnsupported where no token of the vocabulary can go on with the constraint.
  Generation generate(std::span<const Token> prompt, const GenerateOptions& options,
                      const std::function<void(std::string_view)>& on_text = {}, const std::atomic<bool>* interrupted = nullptr);

  std::span<const Token> tokens() const { return tokens_; }  // in the cache

 private:
  bool prefill(std::span<const Token> prompt, const GenerateOptions& options, const std::atomic<bool>* interrupted,
               TokenWriter& writer);
  bool extend(TokenWriter& writer, const GenerateOptions& options);

  Engine& engine_;
  int sequence_;
  std::vector<Token> tokens_;
  std::shared_ptr<const AdapterSet> adapters_;  // that the cached tokens were read with
};

}  // namespace puna
