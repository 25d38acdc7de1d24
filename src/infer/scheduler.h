// SPDX-License-Identifier: Apache-2.0
// Many answers at once on one engine: continuous batching (Yu et al., 2022) over shared pages (Kwon et al., 2023).
// A step is one forward pass over the next token of every answer that is being written, with what is proposed behind it where rows
// are free (infer/drafter.h), then one over the next rows of the prompts that are being read, and one of texts that are only read:
// so nobody who writes waits for more than a chunk of somebody else's prompt, and a short prompt does not wait for all of a long
// one. When pages run out, answers that are paused lose their own, then the one that was asked for last, and are read again later.
//
// What an answer says does not depend on its company: prompts are read by products of kPanelRows rows or more (those that have
// fewer by themselves), answers in groups of fewer (kernels/matmul.h tells why), and what is known of a prompt's beginning was read
// the same way. So the tokens are those of Session::generate(), bit for bit, but for answers that lost their pages.
//
// Not thread-safe: one thread owns the engine and the scheduler.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "infer/engine.h"
#include "infer/prefix_cache.h"
#include "infer/state_reader.h"
#include "infer/token_writer.h"

namespace puna {

struct SchedulerTask;
enum class TaskPhase;

struct SchedulerOptions {
  int most_running = 7;            // requests in the cache at once; the engine's logit_rows must be as many
  std::int64_t rows_beside = 128;  // of prompts in a step in which answers are written too
  bool large_groups = false;       // write all answers in one pass: then company shows in rounding
};

class Scheduler {
 public:
  using Id = std::uint64_t;
  // What becomes of a request, told from within step(). They must not throw, and may add and cancel.
  struct Events {
    std::function<void(std::string_view)> text;   // whole characters, as they come
    std::function<void(const Generation&)> done;  // the last event, or:
    std::function<void(const Error&)> failed;
    std::function<void(const SampledToken&, std::string_view piece)> token = {};  // each of the answer's, before its text
    // Tokens of the prompt that are in the cache: first when it has its place, with what was known already; then after each chunk.
    std::function<void(std::int64_t read, std::int64_t total)> progress = {};
  };
  // Since the scheduler was made.
  struct Counters {
    std::int64_t prefilled_tokens = 0;                     // read into the cache, those that were read again too
    std::int64_t cached_tokens = 0;                        // at the beginning of prompts, not computed again
    std::int64_t drawn_tokens = 0;                         // end tokens too
    std::int64_t preemptions = 0;                          // requests that lost their pages
    std::int64_t drafted_tokens = 0, accepted_tokens = 0;  // proposed for answers that have ended, and of those in them
  };

  Scheduler(Engine& engine, const SchedulerOptions& options);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Throws kUsage for an empty prompt or an option out of range, kBadInput for a token outside the vocabulary, kNoRoom with the
  // figures for a prompt longer than the context.
  Id add(std::vector<Token> prompt, const GenerateOptions& options, Events events);
  // Texts that are only read (infer/state_reader.h), beside the answers and under the same rules: their figures are bit for bit
  // what they are alone. Throw as add() does.
  Id add_embedding(EmbeddingRequest request, EmbeddingEvents events);
  Id add_score(ScoreRequest request, ScoreEvents events);
  // No more events; its pages are free at once. Nothing happens where it has ended already.
  void cancel(Id id);
  // A paused answer takes no part in steps and has no place among those that run; it keeps its pages as long as nobody needs them.
  // What is being read is read to its end first. Nothing happens where it has ended already.
  void set_paused(Id id, bool paused);
  // False where there is nothing to do: nobody is there, or all who are have paused.
  bool step();

  std::int64_t waiting() const;  // without pages
  std::int64_t running() const;  // with pages, and part in steps
  std::int64_t paused() const;   // with pages, and without
  const PrefixCache& prefixes() const { return prefixes_; }
  const Counters& counters() const { return counters_; }
  std::int64_t pages() const { return engine_.cache().capacity() / kPagePositions; }
  std::int64_t free_pages() const { return engine_.cache().free_pages(); }  // those of prefixes() are not

 private:
  using Task = SchedulerTask;  // scheduler_task.h
  using Phase = TaskPhase;
  using Tasks = std::list<Task>;  // in the order they were added

  void check_tokens(std::span<const Token> tokens) const;
  template <typename Request, typename TextEvents, typename MakeReader>
  Id add_text(Request& request, TextEvents& events, MakeReader&& make_reader);
  Task& add_task(std::vector<Token> tokens, std::shared_ptr<const AdapterSet> adapters,
                 std::function<void(std::int64_t, std::int64_t)> progress);
  std::vector<Task*> in_phase(Phase phase) const;
  void pause_and_resume();
  void admit();
  static std::int64_t most_shared(const Task& task);
  static bool keeps_pages(const Task& task);
  bool is_being_read(const Task& task);
  bool give_pages(Task& task);
  bool free_idle_pages(const std::function<std::int64_t()>& wanted);
  void make_room(const std::function<std::int64_t()>& wanted);
  void lose_pages(Task& task);
  void give_up(Task& task);
  void finish(Task& task, FinishReason reason);
  void drop_pages(Task& task);
  static void tell_progress(const Task& task);

  void write_step();
  void propose(std::span<Task* const> group, std::int64_t& spare_pages);
  void write_group(std::span<Task* const> group);
  void read_step();
  std::vector<Task*> choose_readers(std::int64_t most_rows);
  void read_group(std::vector<Task*> group);
  void begin_answers(std::span<Task* const> group);
  void take_states(std::span<Task* const> group);
  void forward(std::span<Task* const> group);
  std::int64_t draw(Task& task, std::int64_t first_row);
  void fail_answer(Task& task, const Error& error);

  Engine& engine_;
  SchedulerOptions options_;
  PrefixCache prefixes_;
  Counters counters_;
  std::unique_ptr<Tasks> tasks_;
  Id next_id_ = 1;
  std::vector<Token> batch_tokens_;  // [T] of the pass that is prepared
  std::vector<Batch::Part> batch_parts_;
  std::vector<std::int32_t> batch_logit_rows_;
  std::vector<RowDraw> batch_draws_;  // one for each of these rows
};

}  // namespace puna
