// SPDX-License-Identifier: Apache-2.0
#include "server/served_model.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

std::int64_t now_ticks() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

ServedModel::ServedModel(std::string id, std::shared_ptr<const Checkpoint> checkpoint, const ServedModelOptions& options)
    : id_(std::move(id)),
      checkpoint_(std::move(checkpoint)),
      scheduler_options_(options.scheduler),
      adapters_(options.engine.adapters),
      propose_(options.propose),
      constraints_(checkpoint_->need_tokenizer()),
      engine_(checkpoint_, options.engine),
      context_(engine_.context()),
      planned_bytes_(engine_.plan().total()),
      last_used_(now_ticks()),
      scheduler_(std::make_unique<Scheduler>(engine_, scheduler_options_)) {
  observe();
  thread_ = std::thread([this] { run(); });
}

ServedModel::~ServedModel() { stop(); }

void ServedModel::stop() {
  if (!thread_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

std::shared_ptr<const AdapterSet> ServedModel::adapters_of(std::string_view name) const {
  const std::size_t colon = name.rfind(':');
  if (colon == std::string_view::npos) return nullptr;
  const auto found = std::ranges::find_if(adapters_, [&](const auto& set) { return set->name == name.substr(colon + 1); });
  return found == adapters_.end() ? nullptr : *found;
}

std::string ServedModel::name_with(const AdapterSet* adapters) const {
  return adapters == nullptr ? id_ : id_ + ":" + adapters->name;
}

std::chrono::steady_clock::time_point ServedModel::last_used() const {
  return std::chrono::steady_clock::time_point(std::chrono::steady_clock::duration(last_used_));
}

void ServedModel::post(std::function<void(Scheduler&)> work) {
  {
    const std::scoped_lock lock(mutex_);
    mailbox_.push_back(std::move(work));
  }
  wake_.notify_one();
}

ServedModel::Job ServedModel::submit(std::vector<Token> prompt, const GenerateOptions& options, Scheduler::Events events) {
  Failed failed = events.failed;
  return enqueue(std::move(failed),
                 [this, tokens = std::move(prompt), asked = options, told = std::move(events)](Job job, const Failed& fail) {
                   GenerateOptions options_here = asked;
                   if (propose_) propose_(options_here);
                   Scheduler::Events events_here = told;
                   events_here.failed = fail;
                   events_here.done = [this, job, done = told.done](const Generation& generation) {
                     count(generation);
                     finished(job);
                     done(generation);
                   };
                   return scheduler_->add(tokens, options_here, std::move(events_here));
                 });
}

ServedModel::Job ServedModel::submit(EmbeddingRequest request, EmbeddingEvents events) {
  return submit_text(std::move(request), std::move(events), &Scheduler::add_embedding);
}

ServedModel::Job ServedModel::submit(ScoreRequest request, ScoreEvents events) {
  return submit_text(std::move(request), std::move(events), &Scheduler::add_score);
}

template <typename Request, typename Events>
ServedModel::Job ServedModel::submit_text(Request request, Events events, Scheduler::Id (Scheduler::*add)(Request, Events)) {
  Failed failed = events.failed;
  return enqueue(std::move(failed),
                 [this, add, request = std::move(request), told = std::move(events)](Job job, const Failed& fail) {
                   Events events_here = told;
                   events_here.failed = fail;
                   events_here.done = [this, job, tokens = request.tokens.size(), done = told.done](auto result) {
                     counters_.prompt_tokens += tokens;
                     finished(job);
                     done(std::move(result));
                   };
                   return (*scheduler_.*add)(request, std::move(events_here));
                 });
}

ServedModel::Job ServedModel::enqueue(Failed failed, std::function<Scheduler::Id(Job, const Failed&)> add) {
  const Job job = next_job_++;
  ++jobs_;
  last_used_ = now_ticks();
  Failed fail = [this, job, tell = std::move(failed)](const Error& error) {
    ++counters_.failures;
    finished(job);
    tell(error);
  };
  post([this, job, fail = std::move(fail), add = std::move(add)](Scheduler&) {
    running_[job] = {0, fail};
    try {
      running_[job].id = add(job, fail);
    } catch (const Error& error) {
      fail(error);
    }
  });
  return job;
}

void ServedModel::cancel(Job job) {
  post([this, job](Scheduler& scheduler) {
    const auto found = running_.find(job);
    if (found == running_.end()) return;
    scheduler.cancel(found->second.id);
    finished(job);
  });
}

void ServedModel::set_paused(Job job, bool paused) {
  post([this, job, paused](Scheduler& scheduler) {
    const auto found = running_.find(job);
    if (found != running_.end()) scheduler.set_paused(found->second.id, paused);
  });
}

void ServedModel::finished(Job job) {
  if (running_.erase(job) == 0) return;
  --jobs_;
  last_used_ = now_ticks();
}

void ServedModel::count(const Generation& generation) {
  ++counters_.answers;
  counters_.prompt_tokens += static_cast<std::uint64_t>(generation.prompt_tokens);
  counters_.cached_tokens += static_cast<std::uint64_t>(generation.cached_tokens);
  counters_.completion_tokens += generation.tokens.size();
}

void ServedModel::observe() {
  counters_.waiting = scheduler_->waiting();
  counters_.running = scheduler_->running();
  counters_.paused = scheduler_->paused();
  counters_.pages = engine_.cache().capacity() / kPagePositions;
  counters_.free_pages = engine_.cache().free_pages();
  counters_.cached_pages = scheduler_->prefixes().size();
}

// A step that throws has left the scheduler in a state that nobody knows: everybody is told, and it starts afresh.
void ServedModel::fail_all(const Error& error) {
  const auto left = std::exchange(running_, {});
  scheduler_.reset();
  for (const auto& [job, running] : left) {
    --jobs_;
    running.failed(error);
  }
  scheduler_ = std::make_unique<Scheduler>(engine_, scheduler_options_);
}

void ServedModel::run() {
  bool busy = false;
  std::vector<std::function<void(Scheduler&)>> letters;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (!busy) wake_.wait(lock, [&] { return stopping_ || !mailbox_.empty(); });
      if (stopping_) break;
      letters.swap(mailbox_);
    }
    for (auto& letter : letters) letter(*scheduler_);
    letters.clear();
    try {
      busy = scheduler_->step();
      ++counters_.steps;
    } catch (const Error& error) {
      fail_all(error);
    } catch (const std::exception& error) {
      fail_all(Error(ErrorKind::kInternal, id_, error.what()));
    }
    observe();
  }
  fail_all(Error(ErrorKind::kNotFound, "", "the model was unloaded"));
}

}  // namespace puna
