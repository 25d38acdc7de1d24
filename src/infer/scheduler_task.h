// SPDX-License-Identifier: Apache-2.0
// A request as the scheduler keeps it. For scheduler*.cc alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "infer/drafter.h"
#include "infer/state_reader.h"
#include "infer/token_writer.h"

namespace puna {

// Waiting: without pages. Reading: its tokens are on their way into the cache. Writing: all but the token drawn last are there.
// Paused: so they are, and nothing is written.
enum class TaskPhase { kWaiting, kReading, kWriting, kPaused, kEnded };

struct SchedulerTask {
  using Clock = std::chrono::steady_clock;
  static double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

  std::int64_t left() const { return static_cast<std::int64_t>(tokens.size()) - length; }  // tokens that are not in the cache
  bool runs() const { return phase == TaskPhase::kReading || phase == TaskPhase::kWriting; }
  bool rests() const { return paused && !runs(); }
  bool is_new() const { return !writer || writer->empty(); }  // nothing is written yet

  std::uint64_t id = 0;
  std::vector<Token> tokens;  // the prompt and what was drawn
  std::function<void(std::int64_t read, std::int64_t total)> progress = {};
  TaskPhase phase = TaskPhase::kWaiting;
  bool paused = false;      // asked to be: from the next step on, or when its prompt is read
  int sequence = -1;        // of the cache, from its first admission on
  std::int64_t length = 0;  // of the tokens in the cache
  std::int64_t rows = 0;    // of the next, or last, pass
  bool complete = false;    // all tokens were in the cache after it
  std::int64_t steps = 0;   // since it was admitted

  // Of an answer:
  std::optional<TokenWriter> writer = {};
  std::shared_ptr<Drafter> drafter = {};
  std::vector<Token> proposals = {};  // that the next, or last, pass feeds behind its token
  std::function<void(const Generation&)> done = {};
  std::function<void(const Error&)> failed = {};
  Clock::time_point admitted = {}, first_token = {};

  std::shared_ptr<const AdapterSet> adapters = {};
  int tree = 0;  // of the prefix cache: the adapters' number

  std::unique_ptr<StateReader> reader = {};  // of a text that is only read
};

}  // namespace puna
