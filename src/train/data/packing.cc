// SPDX-License-Identifier: Apache-2.0
#include "train/data/packing.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/error.h"
#include "train/data/teacher_shard.h"

namespace puna {
namespace {

std::int64_t size_of(const PackedBatch& batch) { return static_cast<std::int64_t>(batch.tokens.size()); }

// One row: `token` at `position` predicts `target` with this weight.
void add_row(PackedBatch& batch, Token token, std::int64_t position, Token target, bool weight) {
  batch.tokens.push_back(token);
  batch.positions.push_back(static_cast<std::int32_t>(position));
  batch.targets.push_back(target);
  batch.weights.push_back(weight ? 1.0F : 0.0F);
}

// A part of a document starts at position 0 as a document does: it does not see what came before.
void add_document(PackedBatch& batch, const Slice& slice) {
  const Example& example = *slice.example;
  batch.segments.push_back({size_of(batch), slice.rows});
  std::int64_t offset = example.teacher_offset;
  PUNA_CHECK(example.teacher == nullptr || slice.first == 0, "packing", "a teacher's document was split at {}", slice.first);
  for (std::int64_t row = 0; row < slice.rows; ++row) {
    const auto t = static_cast<std::size_t>(slice.first + row);
    const bool trained = example.trained[t + 1];
    add_row(batch, example.tokens[t], row, example.tokens[t + 1], trained);
    if (example.teacher == nullptr) continue;
    batch.teacher.push_back(trained ? TeacherRow{example.teacher, offset} : TeacherRow{});
    if (trained) offset += example.teacher->row_bytes();
  }
}

// The prompt's last token is the first row of every answer, so that each row has one target.
void add_answers(PackedBatch& batch, const Example& example, std::int64_t group) {
  const std::size_t prompt = example.tokens.size() - 1;
  const std::int64_t prefix_row = size_of(batch), prefix_rows = static_cast<std::int64_t>(prompt);
  if (prompt > 0) batch.segments.push_back({prefix_row, prefix_rows});
  for (std::size_t t = 0; t < prompt; ++t) {
    add_row(batch, example.tokens[t], static_cast<std::int64_t>(t), example.tokens[t + 1], false);
  }
  for (const AnswerTokens& answer : example.answers) {
    const auto tokens = static_cast<std::int64_t>(answer.tokens.size());
    const std::int64_t first_row = size_of(batch);
    batch.segments.push_back({first_row, tokens + 1, prompt > 0 ? prefix_row : 0, prefix_rows});
    batch.answers.push_back({first_row, tokens, first_row + tokens, group, answer.rank, 0});
    for (std::size_t t = 0; t < answer.tokens.size(); ++t) {
      const Token token = t == 0 ? example.tokens.back() : answer.tokens[t - 1];
      add_row(batch, token, prefix_rows + static_cast<std::int64_t>(t), answer.tokens[t], answer.counted[t]);
    }
    add_row(batch, answer.tokens.back(), prefix_rows + tokens, Token{0}, false);  // only a reward is read here
  }
}

// All tokens in one segment: an answer sees the prompt and the answers before it, and its first token is predicted by the row of
// the token before it, whosever that is.
void add_one_row(PackedBatch& batch, const Example& example, std::int64_t group) {
  const std::int64_t begin = size_of(batch);
  batch.segments.push_back({begin, example.rows()});
  const auto add = [&](Token token, bool counted) {
    const std::int64_t position = size_of(batch) - begin;
    if (position > 0) {
      batch.targets.back() = token;
      batch.weights.back() = counted ? 1.0F : 0.0F;
    }
    add_row(batch, token, position, Token{0}, false);
  };
  for (const Token token : example.tokens) add(token, false);
  for (const AnswerTokens& answer : example.answers) {
    const auto tokens = static_cast<std::int64_t>(answer.tokens.size());
    const std::int64_t first_row = size_of(batch) - 1;
    batch.answers.push_back({first_row, tokens, first_row + tokens, group, answer.rank, 0});
    for (std::size_t t = 0; t < answer.tokens.size(); ++t) add(answer.tokens[t], answer.counted[t]);
  }
}

// Which units each batch holds, in order.
std::vector<std::vector<std::size_t>> assign(std::span<const Unit> units, std::int64_t batch_tokens, bool pack) {
  std::vector<std::size_t> longest_first(units.size());
  std::iota(longest_first.begin(), longest_first.end(), std::size_t{0});
  std::stable_sort(longest_first.begin(), longest_first.end(),
                   [&](std::size_t a, std::size_t b) { return units[a].rows > units[b].rows; });
  std::vector<std::vector<std::size_t>> batches;
  std::multimap<std::int64_t, std::size_t> room;  // rows that are free -> batch
  for (const std::size_t unit : longest_first) {
    const auto found = pack ? room.lower_bound(units[unit].rows) : room.end();
    const std::int64_t free = (found == room.end() ? batch_tokens : found->first) - units[unit].rows;
    const std::size_t batch = found == room.end() ? batches.size() : found->second;
    if (found == room.end()) {
      batches.emplace_back();
    } else {
      room.erase(found);
    }
    batches[batch].push_back(unit);
    if (free > 0) room.emplace(free, batch);
  }
  for (auto& batch : batches) std::sort(batch.begin(), batch.end());
  std::sort(batches.begin(), batches.end());
  return batches;
}

}  // namespace

StepBatches pack_units(std::span<const Unit> units, std::int64_t batch_tokens, bool pack) {
  StepBatches step;
  for (const auto& members : assign(units, batch_tokens, pack)) {
    PackedBatch batch;
    for (const std::size_t unit : members) {
      for (const Slice& slice : units[unit].slices) {
        if (slice.example->answers.empty()) {
          add_document(batch, slice);
        } else if (slice.example->one_row) {
          add_one_row(batch, *slice.example, step.groups++);
        } else {
          add_answers(batch, *slice.example, step.groups++);
        }
        if (batch.examples.empty() || batch.examples.back() != slice.example->index) batch.examples.push_back(slice.example->index);
      }
    }
    for (const float weight : batch.weights) step.trained_tokens += static_cast<double>(weight);
    step.batches.push_back(std::move(batch));
  }
  return step;
}

}  // namespace puna
