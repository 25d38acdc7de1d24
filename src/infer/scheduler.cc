// SPDX-License-Identifier: Apache-2.0
// Who is there, and who has pages. What a step computes is in infer/scheduler_step.cc.
#include "infer/scheduler.h"

#include <algorithm>
#include <utility>

#include "infer/scheduler_task.h"
#include "kernels/activations.h"

namespace puna {
namespace {

constexpr std::int64_t kLeastChunk = 2 * kPanelRows;  // so that a chunk can leave kPanelRows rows for the next one

}  // namespace

Scheduler::Scheduler(Engine& engine, const SchedulerOptions& options)
    : engine_(engine), options_(options), prefixes_(engine.cache()), tasks_(std::make_unique<Tasks>()) {
  const std::int64_t most = std::min(engine.model().max_rows(), engine.model().max_logit_rows());
  if (options.most_running < 1 || options.most_running > most)
    fail(ErrorKind::kUsage, "most_running", "{} answers at once, expected 1 to {}", options.most_running, most);
  if (const std::int64_t rows = std::min(engine.model().max_rows(), options.rows_beside); rows < kLeastChunk)
    fail(ErrorKind::kUsage, "context", "prompts are read {} rows at once, expected {} or more: give a larger context", rows,
         kLeastChunk);
}

Scheduler::~Scheduler() {
  for (Task& task : *tasks_) drop_pages(task);
}

Scheduler::Id Scheduler::add(std::vector<Token> prompt, const GenerateOptions& options, Events events) {
  check_tokens(prompt);
  TokenWriter writer(engine_.checkpoint(), prompt, options, {.token = std::move(events.token), .text = std::move(events.text)});
  Task& task = add_task(std::move(prompt), options.adapters, std::move(events.progress));
  task.writer.emplace(std::move(writer));
  task.drafter = options.drafter;
  task.done = std::move(events.done);
  task.failed = std::move(events.failed);
  return task.id;
}

Scheduler::Id Scheduler::add_embedding(EmbeddingRequest request, EmbeddingEvents events) {
  return add_text(request, events, embedding_reader);
}

Scheduler::Id Scheduler::add_score(ScoreRequest request, ScoreEvents events) {
  return add_text(request, events, [&](const ScoreRequest& asked, ScoreEvents&& told) {
    return score_reader(asked, engine_.checkpoint(), std::move(told));
  });
}

template <typename Request, typename TextEvents, typename MakeReader>
Scheduler::Id Scheduler::add_text(Request& request, TextEvents& events, MakeReader&& make_reader) {
  check_tokens(request.tokens);
  auto progress = std::exchange(events.progress, {});
  std::unique_ptr<StateReader> reader = make_reader(request, std::move(events));
  Task& task = add_task(std::move(request.tokens), std::move(request.adapters), std::move(progress));
  task.reader = std::move(reader);
  return task.id;
}

Scheduler::Task& Scheduler::add_task(std::vector<Token> tokens, std::shared_ptr<const AdapterSet> adapters,
                                     std::function<void(std::int64_t, std::int64_t)> progress) {
  const int number = engine_.adapter_number(adapters.get());
  Task& task = tasks_->emplace_back();
  task.id = next_id_++;
  task.tokens = std::move(tokens);
  task.adapters = std::move(adapters);
  task.tree = number;
  task.progress = std::move(progress);
  return task;
}

void Scheduler::check_tokens(std::span<const Token> tokens) const {
  if (static_cast<std::int64_t>(tokens.size()) > engine_.context())
    fail(ErrorKind::kNoRoom, "context", "the prompt has {} tokens, the context holds {} (the model allows {}): shorten the prompt",
         tokens.size(), engine_.context(), engine_.config().context);
  for (const Token token : tokens) {
    if (id(token) >= 0 && id(token) < engine_.config().vocabulary) continue;
    fail(ErrorKind::kBadInput, "tokens", "token {} is outside the vocabulary: ids are 0 to {}", id(token),
         engine_.config().vocabulary - 1);
  }
}

void Scheduler::cancel(Id id) {
  const auto task = std::ranges::find(*tasks_, id, &Task::id);
  if (task == tasks_->end()) return;
  drop_pages(*task);
  if (task->writer) task->writer->silence();
  task->phase = Phase::kEnded;  // removed by the next step: this may be called from within one
}

void Scheduler::set_paused(Id id, bool paused) {
  const auto task = std::ranges::find(*tasks_, id, &Task::id);
  if (task != tasks_->end()) task->paused = paused;
}

std::int64_t Scheduler::waiting() const { return std::ranges::count(*tasks_, Phase::kWaiting, &Task::phase); }

std::int64_t Scheduler::running() const { return std::ranges::count_if(*tasks_, &Task::runs); }

std::int64_t Scheduler::paused() const { return std::ranges::count(*tasks_, Phase::kPaused, &Task::phase); }

std::vector<Scheduler::Task*> Scheduler::in_phase(Phase phase) const {
  std::vector<Task*> found;
  for (Task& task : *tasks_) {
    if (task.phase == phase) found.push_back(&task);
  }
  return found;
}

// Who goes on after a pause comes before those who have not begun.
void Scheduler::pause_and_resume() {
  for (Task* const task : in_phase(Phase::kWriting)) {
    if (task->paused) task->phase = Phase::kPaused;
  }
  for (Task* const task : in_phase(Phase::kPaused)) {
    if (!task->paused && running() < options_.most_running) task->phase = Phase::kWriting;
  }
}

// First come, first served: who does not fit keeps those behind waiting too, or a long prompt would wait for ever. Only one whose
// beginning somebody else is reading lets others pass until that is there.
void Scheduler::admit() {
  for (Task* const task : in_phase(Phase::kWaiting)) {
    if (running() == options_.most_running) return;
    if (task->phase != Phase::kWaiting || task->paused) continue;  // or cancelled by what another one told
    if (!is_being_read(*task) && !give_pages(*task)) return;
  }
}

// Pages that a prompt of these tokens may take over: enough is left to be read that it is read as without them, and all that states
// are wanted of.
std::int64_t Scheduler::most_shared(const Task& task) {
  const std::int64_t most = std::max<std::int64_t>(0, static_cast<std::int64_t>(task.tokens.size()) - kPanelRows);
  return (task.reader ? std::min(most, task.reader->first()) : most) / kPagePositions;
}

bool Scheduler::is_being_read(const Task& task) {
  const auto known = static_cast<std::int64_t>(prefixes_.find(task.tokens, task.tree).size());
  return std::ranges::any_of(in_phase(Phase::kReading), [&](const Task* reader) {
    if (!keeps_pages(*reader) || reader->tree != task.tree) return false;
    const std::int64_t common = std::ranges::mismatch(task.tokens, reader->tokens).in1 - task.tokens.begin();
    return std::min(common / kPagePositions, most_shared(task)) > known;
  });
}

// Whether what it reads is for others too: a text of which every state is wanted is seldom the beginning of another.
bool Scheduler::keeps_pages(const Task& task) { return !task.reader || task.reader->first() > 0; }

// What is known of its beginning, and room for the rest.
bool Scheduler::give_pages(Task& task) {
  KvCache& cache = engine_.cache();
  task.sequence = cache.add_sequence();
  const auto tokens = static_cast<std::int64_t>(task.tokens.size());
  const std::span<const std::int32_t> known = prefixes_.find(task.tokens, task.tree);
  cache.begin_with(task.sequence, known.first(std::min(known.size(), static_cast<std::size_t>(most_shared(task)))));
  // A page more for everybody who runs, so that pages are not taken away again at once.
  std::int64_t wanted = running() + cache.pages_to_grow(task.sequence, tokens);
  for (const Task* const reader : in_phase(Phase::kReading))
    wanted += cache.pages_to_grow(reader->sequence, static_cast<std::int64_t>(reader->tokens.size()));
  if (!free_idle_pages([&] { return wanted; }) && running() > 0) {
    drop_pages(task);
    return false;
  }
  task.length = cache.length(task.sequence);
  task.phase = Phase::kReading;
  task.steps = 0;
  if (task.is_new()) {
    task.admitted = Task::Clock::now();
    if (task.writer) task.writer->result().cached_tokens = task.length;
    counters_.cached_tokens += task.length;
    tell_progress(task);
  }
  return true;
}

// Takes pages from beginnings that nobody reads, then from answers that are paused; whether that was enough.
bool Scheduler::free_idle_pages(const std::function<std::int64_t()>& wanted) {
  while (!prefixes_.make_room(wanted())) {
    const auto last = std::find_if(tasks_->rbegin(), tasks_->rend(), [](const Task& task) { return task.phase == Phase::kPaused; });
    if (last == tasks_->rend()) return false;
    lose_pages(*last);
  }
  return true;
}

// Takes those too, and then from the request that came last.
void Scheduler::make_room(const std::function<std::int64_t()>& wanted) {
  while (!free_idle_pages(wanted)) {
    Task& last = *std::find_if(tasks_->rbegin(), tasks_->rend(), std::mem_fn(&Task::runs));
    if (running() == 1) return give_up(last);
    lose_pages(last);
  }
}

void Scheduler::lose_pages(Task& task) {
  drop_pages(task);
  task.phase = Phase::kWaiting;
  ++counters_.preemptions;
}

void Scheduler::give_up(Task& task) {
  if (task.writer) return finish(task, FinishReason::kContextFull);
  drop_pages(task);
  task.phase = Phase::kEnded;
  task.reader->failed(Error(ErrorKind::kNoRoom, "context", "the cache has no room for this text: give a larger context"));
}

void Scheduler::finish(Task& task, FinishReason reason) {
  Generation& result = task.writer->result();
  if (result.prefill_seconds > 0) result.decode_seconds = Task::seconds_since(task.first_token);
  const Generation generation = task.writer->finish(reason);
  counters_.drafted_tokens += generation.drafted;
  counters_.accepted_tokens += generation.accepted;
  drop_pages(task);
  if (std::exchange(task.phase, Phase::kEnded) != Phase::kEnded) task.done(generation);
}

void Scheduler::drop_pages(Task& task) {
  if (task.sequence >= 0) engine_.cache().remove_sequence(std::exchange(task.sequence, -1));
  if (task.drafter) task.drafter->end();
  task.length = 0;
}

void Scheduler::tell_progress(const Task& task) {
  if (task.phase == Phase::kEnded || !task.is_new() || !task.progress) return;
  task.progress(task.length, static_cast<std::int64_t>(task.tokens.size()));
}

}  // namespace puna
