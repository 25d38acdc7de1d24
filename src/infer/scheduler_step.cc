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
  pause_and_resume();
  if (std::ranges::all_of(*tasks_, &Task::rests)) return false;
  admit();
  write_step();
  read_step();
  for (Task& task : *tasks_) ++task.steps;
  std::erase_if(*tasks_, [](const Task& task) { return task.phase == Phase::kEnded; });
  return true;
}

namespace {

// Answers in one pass: all, or equal groups of fewer than kPanelRows, whose sums are those of one row.
std::size_t group_size(std::size_t writers, bool large_groups) {
  constexpr std::size_t kMost = kPanelRows - 1;
  if (writers <= kMost || large_groups) return std::max<std::size_t>(writers, 1);
  const std::size_t groups = (writers + kMost - 1) / kMost;
  return (writers + groups - 1) / groups;
}

}  // namespace

void Scheduler::write_step() {
  for (Task* const task : in_phase(Phase::kWriting)) {
    if (task->length == engine_.context()) finish(*task, FinishReason::kContextFull);
  }
  const auto wanted = [&] {
    std::int64_t pages = 0;
    for (const Task* const task : in_phase(Phase::kWriting))
      pages += engine_.cache().pages_to_grow(task->sequence, task->length + 1);
    return pages;
  };
  make_room(wanted);
  std::int64_t spare_pages = engine_.cache().free_pages() - wanted();
  const std::vector<Task*> writers = in_phase(Phase::kWriting);
  const std::size_t most = group_size(writers.size(), options_.large_groups);
  for (std::size_t first = 0; first < writers.size(); first += most) {
    std::vector<Task*> group(writers.begin() + static_cast<std::ptrdiff_t>(first),
                             writers.begin() + static_cast<std::ptrdiff_t>(std::min(first + most, writers.size())));
    const auto ended = [](const Task* task) { return task->phase != Phase::kWriting; };  // by what a group before told
    std::erase_if(group, ended);
    propose(group, spare_pages);
    std::erase_if(group, ended);  // or because its drafter failed
    if (!group.empty()) write_group(group);
  }
}

// Rows that a group leaves free below kPanelRows go to proposals, as equal parts as whole rows allow. Nobody loses pages for them.
void Scheduler::propose(std::span<Task* const> group, std::int64_t& spare_pages) {
  const KvCache& cache = engine_.cache();
  std::int64_t free_rows = std::min(kPanelRows - 1, engine_.model().max_logit_rows()) - static_cast<std::int64_t>(group.size());
  std::int64_t left = std::ranges::count_if(group, [](const Task* task) { return task->writer->most_proposals() > 0; });
  for (Task* const task : group) {
    task->proposals.clear();
    task->rows = 1;
    if (task->writer->most_proposals() <= 0) continue;
    const std::int64_t share = free_rows / left--, owed = cache.pages_to_grow(task->sequence, task->length + 1);
    const std::int64_t most =
        std::min(task->writer->most_proposals(), most_proposals(engine_, task->sequence, 1 + share, owed + spare_pages));
    if (most <= 0) continue;
    try {
      const std::span<const Token> proposals = task->drafter->propose(task->tokens, most, task->writer->sampler());
      task->proposals.assign(proposals.begin(), proposals.end());
    } catch (const Error& error) {
      fail_answer(*task, error);
      continue;
    }
    const auto proposed = static_cast<std::int64_t>(task->proposals.size());
    task->rows += proposed;
    free_rows -= proposed;
    spare_pages -= cache.pages_to_grow(task->sequence, task->length + task->rows) - owed;
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
    const std::int64_t rows = Engine::chunk(task->left(), most_rows), rest = task->left() - rows;
    if (rest > 0 && rest < kPanelRows) continue;  // a rest of so few rows is summed in another order than they are alone
    task->rows = rows;
    chosen.push_back(task);
    most_rows -= rows;
  }
  return chosen;
}

// All of one kind: prompts of answers, or texts whose states are wanted.
void Scheduler::read_group(std::vector<Task*> group) {
  std::erase_if(group, [](const Task* task) { return task->phase != Phase::kReading; });  // cancelled by what a pass before told
  if (group.empty()) return;
  forward(group);
  for (const Task* const task : group) tell_progress(*task);
  if (group.front()->reader) {
    take_states(group);
  } else {
    begin_answers(group);
  }
}

// From the rows of the prompts that are complete.
void Scheduler::begin_answers(std::span<Task* const> group) {
  std::int64_t row = 0;
  for (Task* const task : group) {
    if (!task->complete) continue;
    const std::int64_t own = row++;
    if (task->phase != Phase::kReading) continue;
    task->phase = Phase::kWriting;
    draw(*task, own);
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

// `rows` tokens of each go into the cache. The model then has all rows of those that write, and the last one of prompts that are
// complete, in this order.
void Scheduler::forward(std::span<Task* const> group) {
  batch_tokens_.clear();
  batch_parts_.clear();
  batch_logit_rows_.clear();
  batch_draws_.clear();
  const bool states = group.front()->reader != nullptr;
  for (Task* const task : group) {
    task->complete = task->rows >= task->left();
    const auto begin = task->tokens.begin() + task->length;
    batch_tokens_.insert(batch_tokens_.end(), begin, begin + std::min(task->rows, task->left()));
    batch_tokens_.insert(batch_tokens_.end(), task->proposals.begin(), task->proposals.end());
    batch_parts_.push_back({task->sequence, task->rows, task->adapters.get()});
    const std::int64_t wanted = states || !task->complete ? 0 : task->phase == Phase::kWriting ? task->rows : 1;
    const auto rows = static_cast<std::int32_t>(batch_tokens_.size());
    for (std::int64_t row = 0; row < wanted; ++row) {
      batch_logit_rows_.push_back(static_cast<std::int32_t>(rows - wanted + row));
      batch_draws_.push_back(task->writer->next_draw(static_cast<std::size_t>(row)));
    }
  }
  engine_.model().forward({.tokens = batch_tokens_,
                           .parts = batch_parts_,
                           .logit_rows = batch_logit_rows_,
                           .all_states = states,
                           .draws = batch_draws_,
                           .known_tokens = engine_.checkpoint().known_tokens()},
                          engine_.cache());
  for (Task* const task : group) {
    task->length += task->rows;
    if (task->phase != Phase::kReading) continue;
    counters_.prefilled_tokens += task->rows;
    const std::span<const Token> cached = std::span(task->tokens).first(static_cast<std::size_t>(task->length));
    if (keeps_pages(*task)) prefixes_.keep(cached, engine_.cache().pages(task->sequence), task->tree);
  }
}

// The next token of each, or several where they are as proposed.
void Scheduler::write_group(std::span<Task* const> group) {
  forward(group);
  std::int64_t row = 0;
  for (Task* const task : group) {
    const std::int64_t first = std::exchange(row, row + task->rows);
    const std::int64_t right = task->phase == Phase::kWriting ? draw(*task, first) : 0;
    task->proposals.clear();
    if (task->phase != Phase::kWriting || right == task->rows) continue;
    task->length -= task->rows - right;
    engine_.cache().truncate(task->sequence, task->length);
  }
}

// From the rows behind its last token and its proposals, the first of which is given; how many of them were right.
std::int64_t Scheduler::draw(Task& task, std::int64_t first_row) {
  TokenWriter& writer = *task.writer;
  const std::size_t before = writer.result().tokens.size();
  std::int64_t right = 0;
  if (!writer.ended()) {
    try {
      right = writer.draw_along(engine_.model(), first_row, task.proposals);
    } catch (const Error& error) {
      fail_answer(task, error);
      return 0;
    }
    counters_.drawn_tokens += right;
    if (task.phase == Phase::kEnded) return right;  // cancelled by its own text
  }
  Generation& result = writer.result();
  if (result.prefill_seconds == 0) {
    task.first_token = Task::Clock::now();
    result.prefill_seconds = Task::seconds_since(task.admitted);
  }
  if (writer.ended()) {
    finish(task, *writer.ended());
  } else {
    task.tokens.insert(task.tokens.end(), result.tokens.begin() + static_cast<std::ptrdiff_t>(before), result.tokens.end());
  }
  return right;
}

void Scheduler::fail_answer(Task& task, const Error& error) {
  drop_pages(task);
  task.phase = Phase::kEnded;
  task.failed(error);
}

}  // namespace puna
