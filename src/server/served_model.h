// SPDX-License-Identifier: Apache-2.0
// One model that is loaded: a checkpoint, its engine and scheduler, and the thread that owns both. Requests come to it through a
// mailbox; what it tells of them comes on its thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "grammar/answer_shape.h"
#include "infer/scheduler.h"
#include "model/checkpoint.h"

namespace puna {

struct ServedModelOptions {
  EngineOptions engine;  // with the adapters that requests may choose
  SchedulerOptions scheduler;
  std::function<void(GenerateOptions&)> propose = {};  // gives an answer a drafter of its own
};

class ServedModel {
 public:
  using Job = std::uint64_t;
  struct Counters {  // what the engine's thread did so far, and has at the moment
    std::atomic<std::uint64_t> prompt_tokens{0}, cached_tokens{0}, completion_tokens{0}, answers{0}, failures{0}, steps{0};
    std::atomic<std::int64_t> waiting{0}, running{0}, paused{0}, free_pages{0}, pages{0}, cached_pages{0};
  };

  // Throws what the engine throws: kNoRoom with the plan.
  ServedModel(std::string id, std::shared_ptr<const Checkpoint> checkpoint, const ServedModelOptions& options);
  ~ServedModel();  // not on its own thread
  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;

  const std::string& id() const { return id_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  std::int64_t context() const { return context_; }
  int most_running() const { return scheduler_options_.most_running; }  // answers and texts in the cache at once
  // The adapters that a request's model name asks for behind a colon: those of "base:NAME"; nullptr for others.
  std::shared_ptr<const AdapterSet> adapters_of(std::string_view name) const;
  // What an answer calls the model that wrote it: its id, or "id:NAME".
  std::string name_with(const AdapterSet* adapters) const;
  std::int64_t planned_bytes() const { return planned_bytes_; }
  ConstraintPool& constraints() { return constraints_; }
  const Counters& counters() const { return counters_; }

  // An answer, or a text that is only read. The events are called on the engine's thread, the last of them once: done or failed.
  // Never throws for what the request holds.
  Job submit(std::vector<Token> prompt, const GenerateOptions& options, Scheduler::Events events);
  Job submit(EmbeddingRequest request, EmbeddingEvents events);
  Job submit(ScoreRequest request, ScoreEvents events);
  // No more events from soon on.
  void cancel(Job job);
  // No more tokens from soon on, until it goes on.
  void set_paused(Job job, bool paused);
  // Runs `work` on the engine's thread, between two steps.
  void post(std::function<void(Scheduler&)> work);

  // Ends its thread; what is left fails. Not on its own thread.
  void stop();

  std::int64_t jobs() const { return jobs_; }  // submitted and not ended
  std::chrono::steady_clock::time_point last_used() const;

 private:
  void run();
  using Failed = std::function<void(const Error&)>;
  // A job whose end `failed` may be: `add` gives it to the scheduler, with the `failed` that is told there.
  Job enqueue(Failed failed, std::function<Scheduler::Id(Job, const Failed&)> add);
  template <typename Request, typename Events>
  Job submit_text(Request request, Events events, Scheduler::Id (Scheduler::*add)(Request, Events));
  void finished(Job job);
  void count(const Generation& generation);
  void observe();
  void fail_all(const Error& error);

  std::string id_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  SchedulerOptions scheduler_options_;
  std::vector<std::shared_ptr<const AdapterSet>> adapters_;
  std::function<void(GenerateOptions&)> propose_;
  ConstraintPool constraints_;
  Engine engine_;
  std::int64_t context_, planned_bytes_;
  Counters counters_;
  std::atomic<Job> next_job_{1};
  std::atomic<std::int64_t> jobs_{0};
  std::atomic<std::int64_t> last_used_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::function<void(Scheduler&)>> mailbox_;
  bool stopping_ = false;

  // Of the engine's thread alone.
  struct Running {
    Scheduler::Id id;
    Failed failed;
  };
  std::unique_ptr<Scheduler> scheduler_;
  std::unordered_map<Job, Running> running_;
  std::thread thread_;
};

}  // namespace puna
