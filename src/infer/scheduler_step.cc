// SPDX-License-Identifier: Apache-2.0
// What a step computes: one pass for the next tokens of answers, then passes for chunks of what is read. Texts whose states are
// wanted are read by a pass of their own: it finishes all its rows, those of prompts only the last ones, and products of the two
// together would be summed in another order than apart.
#include <algorithm>
#include <utility>

#include "infer/scheduler.h"
#include "infer/scheduler_task.h"
#include "kernels/activations.h"

namespace puna {

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
    if (!group.empty()) write_group(group);
  }
}

void Scheduler::read_step() {
  for (Task* const task : in_phase(Phase::kReading)) {
    if (task->left() >= kPanelRows) continue;
    const auto reads = [&] { return task->phase == Phase::kReading; };
    task->rows = task->left();
    make_room([&] { return reads() ? engine_.cache().pages_to_grow(task->sequence, task->length + task->rows) : 0; });
    if (reads()) read_group({task});
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
  std::vector<Task*> prompts, texts;
  for (Task* const task : readers) (task->reader ? texts : prompts).push_back(task);
  read_group(std::move(prompts));
  read_group(std::move(texts));
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

// All of one kind: prompts of answers, or texts whose states are wanted.
void Scheduler::read_group(std::vector<Task*> group) {
  std::erase_if(group, [](const Task* task) { return task->phase != Phase::kReading; });  // cancelled by what a pass before told
  if (group.empty()) return;
  const std::span<const float> logits = forward(group);
  for (const Task* const task : group) tell_progress(*task);
  if (group.front()->reader) {
    take_states(group);
  } else {
    begin_answers(group, logits);
  }
}

// logits [R, V] of the prompts that are complete
void Scheduler::begin_answers(std::span<Task* const> group, std::span<const float> logits) {
  const auto vocabulary = static_cast<std::size_t>(engine_.config().vocabulary);
  for (Task* const task : group) {
    if (!task->complete) continue;
    if (task->phase == Phase::kReading) {
      task->phase = Phase::kWriting;
      draw(*task, logits.first(vocabulary));
    }
    logits = logits.subspan(vocabulary);
  }
}

void Scheduler::take_states(std::span<Task* const> group) {
  std::int64_t row = 0;
  for (Task* const task : group) {
    const std::int64_t first = std::exchange(row, row + task->rows);
    if (task->phase != Phase::kReading) continue;  // cancelled by what it, or one before it, told
    task->reader->take(engine_.model(), first, task->length - task->rows, task->rows);
    if (task->left() > 0) continue;
    drop_pages(*task);
    task->phase = Phase::kEnded;
    task->reader->done();
  }
}

// `rows` tokens of each go into the cache -> the logits of those that are then complete, in this order.
std::span<const float> Scheduler::forward(std::span<Task* const> group) {
  batch_tokens_.clear();
  batch_parts_.clear();
  batch_logit_rows_.clear();
  const bool states = group.front()->reader != nullptr;
  for (Task* const task : group) {
    task->complete = task->rows == task->left();
    const auto begin = task->tokens.begin() + task->length;
    batch_tokens_.insert(batch_tokens_.end(), begin, begin + task->rows);
    batch_parts_.push_back({task->sequence, task->rows});
    if (!states && task->complete) batch_logit_rows_.push_back(static_cast<std::int32_t>(batch_tokens_.size()) - 1);
  }
  const std::span<const float> logits = engine_.model().forward(
      {.tokens = batch_tokens_, .parts = batch_parts_, .logit_rows = batch_logit_rows_, .all_states = states}, engine_.cache());
  for (Task* const task : group) {
    task->length += task->rows;
    if (task->phase != Phase::kReading) continue;
    counters_.prefilled_tokens += task->rows;
    const std::span<const Token> cached = std::span(task->tokens).first(static_cast<std::size_t>(task->length));
    if (keeps_pages(*task)) prefixes_.keep(cached, engine_.cache().pages(task->sequence));
  }
  return logits;
}

// The next token of each.
void Scheduler::write_group(std::span<Task* const> group) {
  std::span<const float> logits = forward(group);
  const auto vocabulary = static_cast<std::size_t>(engine_.config().vocabulary);
  for (Task* const task : group) {
    if (task->phase == Phase::kWriting) draw(*task, logits.first(vocabulary));
    logits = logits.subspan(vocabulary);
  }
}

void Scheduler::draw(Task& task, std::span<const float> logits) {
  TokenWriter& writer = *task.writer;
  if (!writer.ended()) {
    try {
      writer.draw(logits);
    } catch (const Error& error) {
      drop_pages(task);
      task.phase = Phase::kEnded;
      return task.failed(error);
    }
    ++counters_.drawn_tokens;
    if (task.phase == Phase::kEnded) return;  // cancelled by its own text
  }
  Generation& result = writer.result();
  if (result.prefill_seconds == 0) {
    task.first_token = Task::Clock::now();
    result.prefill_seconds = Task::seconds_since(task.admitted);
  }
  if (writer.ended()) return finish(task, *writer.ended());
  task.tokens.push_back(writer.last());
}

}  // namespace puna
