// SPDX-License-Identifier: Apache-2.0
#include "infer/scheduler.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "kernels/activations.h"

namespace puna {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr std::int64_t kLeastChunk = 2 * kPanelRows;  // so that a chunk can leave kPanelRows rows for the next one

}  // namespace

// Waiting: without pages. Reading: its tokens are on their way into the cache. Writing: all but the token drawn last are there.
enum class Scheduler::Phase { kWaiting, kReading, kWriting, kEnded };

struct Scheduler::Task {
  Task(const Checkpoint& checkpoint, std::vector<Token> prompt, const GenerateOptions& options, Events its_events)
      : tokens(std::move(prompt)),
        events(std::move(its_events)),
        writer(checkpoint, tokens, options, {events.token, events.text}) {}

  std::int64_t left() const { return static_cast<std::int64_t>(tokens.size()) - length; }  // tokens that are not in the cache

  Id id = 0;
  Phase phase = Phase::kWaiting;
  int sequence = -1;          // of the cache, from its first admission on
  std::vector<Token> tokens;  // the prompt and what was drawn
  std::int64_t length = 0;    // of them in the cache
  std::int64_t rows = 0;      // to be read in the next pass
  std::int64_t steps = 0;     // since it was admitted
  Events events;
  TokenWriter writer;
  Clock::time_point admitted, first_token;
};

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
  const auto tokens = static_cast<std::int64_t>(prompt.size());
  if (tokens > engine_.context())
    fail(ErrorKind::kNoRoom, "context", "the prompt has {} tokens, the context holds {} (the model allows {}): shorten the prompt",
         tokens, engine_.context(), engine_.config().context);
  Task& task = tasks_->emplace_back(engine_.checkpoint(), std::move(prompt), options, std::move(events));
  task.id = next_id_++;
  return task.id;
}

void Scheduler::cancel(Id id) {
  const auto task = std::ranges::find(*tasks_, id, &Task::id);
  if (task == tasks_->end()) return;
  drop_pages(*task);
  task->writer.silence();
  task->phase = Phase::kEnded;  // removed by the next step: this may be called from within one
}

std::int64_t Scheduler::waiting() const { return std::ranges::count(*tasks_, Phase::kWaiting, &Task::phase); }

std::int64_t Scheduler::running() const {
  return std::ranges::count_if(*tasks_,
                               [](const Task& task) { return task.phase == Phase::kReading || task.phase == Phase::kWriting; });
}

bool Scheduler::step() {
  std::erase_if(*tasks_, [](const Task& task) { return task.phase == Phase::kEnded; });
  if (tasks_->empty()) return false;
  admit();
  write_step();
  read_step();
  for (Task& task : *tasks_) ++task.steps;
  std::erase_if(*tasks_, [](const Task& task) { return task.phase == Phase::kEnded; });
  return true;
}

std::vector<Scheduler::Task*> Scheduler::in_phase(Phase phase) const {
  std::vector<Task*> found;
  for (Task& task : *tasks_) {
    if (task.phase == phase) found.push_back(&task);
  }
  return found;
}

// First come, first served: who does not fit keeps those behind waiting too, or a long prompt would wait for ever. Only one whose
// beginning somebody else is reading lets others pass until that is there.
void Scheduler::admit() {
  for (Task* const task : in_phase(Phase::kWaiting)) {
    if (running() == options_.most_running) return;
    if (task->phase != Phase::kWaiting) continue;  // cancelled by what another one told
    if (!is_being_read(*task) && !give_pages(*task)) return;
  }
}

// Pages that a prompt of these tokens may take over: enough is left to be read that it is read as without them.
std::int64_t Scheduler::most_shared(const Task& task) {
  return std::max<std::int64_t>(0, static_cast<std::int64_t>(task.tokens.size()) - kPanelRows) / kPagePositions;
}

bool Scheduler::is_being_read(const Task& task) {
  const auto known = static_cast<std::int64_t>(prefixes_.find(task.tokens).size());
  return std::ranges::any_of(in_phase(Phase::kReading), [&](const Task* reader) {
    const std::int64_t common = std::ranges::mismatch(task.tokens, reader->tokens).in1 - task.tokens.begin();
    return std::min(common / kPagePositions, most_shared(task)) > known;
  });
}

// What is known of its beginning, and room for the rest.
bool Scheduler::give_pages(Task& task) {
  KvCache& cache = engine_.cache();
  task.sequence = cache.add_sequence();
  const auto tokens = static_cast<std::int64_t>(task.tokens.size());
  const std::span<const std::int32_t> known = prefixes_.find(task.tokens);
  cache.begin_with(task.sequence, known.first(std::min(known.size(), static_cast<std::size_t>(most_shared(task)))));
  // A page more for everybody who runs, so that pages are not taken away again at once.
  std::int64_t wanted = running() + cache.pages_to_grow(task.sequence, tokens);
  for (const Task* const reader : in_phase(Phase::kReading))
    wanted += cache.pages_to_grow(reader->sequence, static_cast<std::int64_t>(reader->tokens.size()));
  if (!prefixes_.make_room(wanted) && running() > 0) {
    drop_pages(task);
    return false;
  }
  task.length = cache.length(task.sequence);
  task.phase = Phase::kReading;
  task.steps = 0;
  if (task.writer.empty()) {
    task.admitted = Clock::now();
    task.writer.result().cached_tokens = task.length;
    counters_.cached_tokens += task.length;
    tell_progress(task);
  }
  return true;
}

// Takes pages from beginnings that nobody reads, then from the answer that was asked for last.
template <typename Wanted>
void Scheduler::make_room(Wanted wanted) {
  while (!prefixes_.make_room(wanted())) {
    const auto runs = [](const Task& task) { return task.phase == Phase::kReading || task.phase == Phase::kWriting; };
    Task& last = *std::find_if(tasks_->rbegin(), tasks_->rend(), runs);
    if (running() == 1) return finish(last, FinishReason::kContextFull);
    drop_pages(last);
    last.phase = Phase::kWaiting;
    ++counters_.preemptions;
  }
}

void Scheduler::write_step() {
  for (Task* const task : in_phase(Phase::kWriting)) {
    if (task->length == engine_.context()) finish(*task, FinishReason::kContextFull);
  }
  make_room([&] {
    std::int64_t pages = 0;
    for (const Task* const task : in_phase(Phase::kWriting))
      pages += engine_.cache().pages_to_grow(task->sequence, task->length + 1);
    return pages;
  });
  const std::vector<Task*> writers = in_phase(Phase::kWriting);
  const std::size_t most = options_.large_groups ? writers.size() : kPanelRows - 1;
  for (std::size_t first = 0; first < writers.size(); first += most) {
    std::vector<Task*> group(writers.begin() + static_cast<std::ptrdiff_t>(first),
                             writers.begin() + static_cast<std::ptrdiff_t>(std::min(first + most, writers.size())));
    std::erase_if(group, [](const Task* task) { return task->phase != Phase::kWriting; });  // cancelled by what a group before told
    for (Task* const task : group) task->rows = 1;
    if (!group.empty()) read(group);
  }
}

void Scheduler::read_step() {
  for (Task* const task : in_phase(Phase::kReading)) {
    if (task->left() >= kPanelRows) continue;
    const auto reads = [&] { return task->phase == Phase::kReading; };
    task->rows = task->left();
    make_room([&] { return reads() ? engine_.cache().pages_to_grow(task->sequence, task->length + task->rows) : 0; });
    if (reads()) read(std::span(&task, 1));
  }
  const std::int64_t rows = engine_.model().max_rows();
  const std::int64_t most = in_phase(Phase::kWriting).empty() ? rows : std::min(rows, options_.rows_beside);
  make_room([&] {
    std::int64_t pages = 0;
    for (const Task* const task : choose_readers(most))
      pages += engine_.cache().pages_to_grow(task->sequence, task->length + task->rows);
    return pages;
  });
  const std::vector<Task*> readers = choose_readers(most);
  if (!readers.empty()) read(readers);
}

// Whose prompts are read next, and how many rows of each. The shortest rest first, where half a chunk less counts for every step
// that one has waited: short prompts pass long ones, and long ones have their turn in the end.
std::vector<Scheduler::Task*> Scheduler::choose_readers(std::int64_t most_rows) {
  std::vector<Task*> readers = in_phase(Phase::kReading);
  std::ranges::stable_sort(readers, {}, [&](const Task* task) { return task->left() - task->steps * most_rows / 2; });
  std::vector<Task*> chosen;
  for (Task* const task : readers) {
    if (most_rows < kPanelRows) break;
    task->rows = Engine::chunk(task->left(), most_rows);
    chosen.push_back(task);
    most_rows -= task->rows;
  }
  return chosen;
}

// `rows` tokens of each go into the cache -> the logits of those that are then complete, in this order.
std::span<const float> Scheduler::forward(std::span<Task* const> group) {
  batch_tokens_.clear();
  batch_parts_.clear();
  batch_logit_rows_.clear();
  for (Task* const task : group) {
    const auto begin = task->tokens.begin() + task->length;
    batch_tokens_.insert(batch_tokens_.end(), begin, begin + task->rows);
    batch_parts_.push_back({task->sequence, task->rows});
    if (task->rows == task->left()) batch_logit_rows_.push_back(static_cast<std::int32_t>(batch_tokens_.size()) - 1);
  }
  return engine_.model().forward({.tokens = batch_tokens_, .parts = batch_parts_, .logit_rows = batch_logit_rows_},
                                 engine_.cache());
}

void Scheduler::read(std::span<Task* const> group) {
  const std::span<const float> logits = forward(group);
  std::vector<Task*> complete, readers;
  for (Task* const task : group) {
    task->length += task->rows;
    const std::span<const Token> cached = std::span(task->tokens).first(static_cast<std::size_t>(task->length));
    if (task->phase == Phase::kReading) {
      prefixes_.keep(cached, engine_.cache().pages(task->sequence));
      counters_.prefilled_tokens += task->rows;
      readers.push_back(task);
    }
    if (task->left() > 0) continue;
    task->phase = Phase::kWriting;
    complete.push_back(task);
  }
  for (const Task* const task : readers) tell_progress(*task);
  const auto vocabulary = static_cast<std::size_t>(engine_.config().vocabulary);
  for (std::size_t i = 0; i < complete.size(); ++i) {
    if (complete[i]->phase == Phase::kWriting) draw(*complete[i], logits.subspan(i * vocabulary, vocabulary));
  }
}

void Scheduler::tell_progress(const Task& task) {
  if (task.phase == Phase::kEnded || !task.writer.empty() || !task.events.progress) return;
  task.events.progress(task.length, static_cast<std::int64_t>(task.tokens.size()));
}

void Scheduler::draw(Task& task, std::span<const float> logits) {
  if (!task.writer.ended()) {
    try {
      task.writer.draw(logits);
    } catch (const Error& error) {
      drop_pages(task);
      task.phase = Phase::kEnded;
      return task.events.failed(error);
    }
    ++counters_.drawn_tokens;
    if (task.phase == Phase::kEnded) return;  // cancelled by its own text
  }
  Generation& result = task.writer.result();
  if (result.prefill_seconds == 0) {
    task.first_token = Clock::now();
    result.prefill_seconds = seconds_since(task.admitted);
  }
  if (task.writer.ended()) return finish(task, *task.writer.ended());
  task.tokens.push_back(task.writer.last());
}

void Scheduler::finish(Task& task, FinishReason reason) {
  if (task.writer.result().prefill_seconds > 0) task.writer.result().decode_seconds = seconds_since(task.first_token);
  const Generation generation = task.writer.finish(reason);
  drop_pages(task);
  if (std::exchange(task.phase, Phase::kEnded) != Phase::kEnded) task.events.done(generation);
}

void Scheduler::drop_pages(Task& task) {
  if (task.sequence >= 0) engine_.cache().remove_sequence(std::exchange(task.sequence, -1));
  task.length = 0;
}

}  // namespace puna
