// SPDX-License-Identifier: Apache-2.0
#include "grammar/grammar_analysis.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "base/as_size.h"
#include "base/error.h"

namespace puna {
GrammarAnalysis::GrammarAnalysis(const GrammarDraft& draft)
    : draft_(draft),
      out_(draft.states, draft.edges.size(), [&](std::size_t i) { return draft.edges[i].from; }),
      in_(draft.states, draft.edges.size(), [&](std::size_t i) { return draft.edges[i].edge.target; }),
      ending_(draft.states, draft.repeats.size(), [&](std::size_t i) { return draft.repeats[i].end; }),
      exiting_(draft.states, draft.repeats.size(), [&](std::size_t i) { return draft.repeats[i].repeat.exit; }),
      continuing_(draft.states, draft.repeats.size(), [&](std::size_t i) { return draft.repeats[i].repeat.again; }),
      starting_(draft.states, draft.rules.size(), [&](std::size_t i) { return draft.rules[i].start; }),
      nullable_(nullable_rules()) {}

// Backwards from the ends of all rules, along edges that read nothing; one that calls a rule once that rule is known to be
// nullable.
std::vector<bool> GrammarAnalysis::nullable_rules() const {
  std::vector<bool> passed(as_size(draft_.states), false), nullable(draft_.rules.size(), false);
  std::vector<std::vector<std::uint32_t>> waiting(draft_.rules.size());  // calls whose target is passed, for the rule
  std::vector<int> work;
  const auto pass = [&](int state) {
    if (passed[as_size(state)]) return;
    passed[as_size(state)] = true;
    work.push_back(state);
  };
  for (int rule = 0; rule < static_cast<int>(draft_.rules.size()); ++rule) pass(draft_.rules[as_size(rule)].end);
  while (!work.empty()) {
    const int state = work.back();
    work.pop_back();
    for (const std::uint32_t rule : starting_.of(state)) {
      nullable[rule] = true;
      for (const std::uint32_t call : waiting[rule]) pass(edge(call).from);
      waiting[rule].clear();
    }
    for (const std::uint32_t number : exiting_.of(state)) pass(repeat(number).end);
    for (const std::uint32_t number : continuing_.of(state)) pass(repeat(number).end);
    for (const std::uint32_t number : in_.of(state)) {
      const GrammarEdge& read = edge(number).edge;
      if (read.kind == EdgeKind::kBytes) continue;
      if (read.kind == EdgeKind::kCall && !nullable[as_size(read.callee)]) {
        waiting[as_size(read.callee)].push_back(number);
      } else {
        pass(edge(number).from);
      }
    }
  }
  return nullable;
}

std::vector<bool> GrammarAnalysis::only_returning() const {
  std::vector<bool> returning(as_size(draft_.states), false);
  std::vector<int> work;
  for (const GrammarDraft::Rule& rule : draft_.rules) work.push_back(rule.end);
  while (!work.empty()) {
    const int state = work.back();
    work.pop_back();
    if (returning[as_size(state)]) continue;
    returning[as_size(state)] = true;
    for (const std::uint32_t number : in_.of(state)) {
      const auto& [read, from] = edge(number);
      const bool alone = read.kind == EdgeKind::kEmpty && out_.of(from).size() == 1 && ending_.of(from).empty();
      if (alone) work.push_back(from);
    }
  }
  return returning;
}

std::vector<int> GrammarAnalysis::heights() const {
  const std::vector<bool> returning = only_returning();
  // Calls by their rule, and entries by their repetition; all other edges in a last group.
  const int rules = static_cast<int>(draft_.rules.size()), repeats = static_cast<int>(draft_.repeats.size());
  const auto group_of = [&](EdgeKind kind, int others) {
    return [this, kind, others](std::size_t i) { return draft_.edges[i].edge.kind == kind ? draft_.edges[i].edge.callee : others; };
  };
  const GroupedNumbers calls(rules + 1, draft_.edges.size(), group_of(EdgeKind::kCall, rules));
  const GroupedNumbers entries(repeats + 1, draft_.edges.size(), group_of(EdgeKind::kEnter, repeats));
  std::vector<int> known(as_size(draft_.states), kNever);
  std::vector<bool> final(as_size(draft_.states), false);
  std::priority_queue<std::pair<int, int>, std::vector<std::pair<int, int>>, std::greater<>> queue;  // (height, state)
  const auto offer = [&](int state, int height) {
    if (height >= known[as_size(state)]) return;
    known[as_size(state)] = height;
    queue.emplace(height, state);
  };
  const auto follow_back = [&](std::uint32_t number) {  // an edge, once all that it depends on is final
    const auto& [read, from] = edge(number);
    int inner = -1, after = read.target, place = 1;
    if (read.kind == EdgeKind::kCall) inner = draft_.rules[as_size(read.callee)].start, place = returning[as_size(after)] ? 0 : 1;
    if (read.kind == EdgeKind::kEnter) inner = read.target, after = draft_.repeats[as_size(read.callee)].repeat.exit;
    if (!final[as_size(after)] || (inner >= 0 && !final[as_size(inner)])) return;
    offer(from, inner < 0 ? known[as_size(after)] : std::max(known[as_size(after)], place + known[as_size(inner)]));
  };
  for (const GrammarDraft::Rule& rule : draft_.rules) offer(rule.end, 0);
  for (const GrammarDraft::Repeat& counted : draft_.repeats) offer(counted.end, 0);
  while (!queue.empty()) {
    const int state = queue.top().second;
    queue.pop();
    if (final[as_size(state)]) continue;
    final[as_size(state)] = true;
    for (const std::uint32_t number : in_.of(state)) follow_back(number);
    for (const std::uint32_t rule : starting_.of(state)) {
      for (const std::uint32_t number : calls.of(static_cast<int>(rule))) follow_back(number);
    }
    for (const std::uint32_t counted : exiting_.of(state)) {
      for (const std::uint32_t number : entries.of(static_cast<int>(counted))) follow_back(number);
    }
  }
  return known;
}

template <typename Visit>
void GrammarAnalysis::visit_unread(int state, int stop, Visit visit) const {
  std::vector<int> work = {state};
  std::vector<int> seen = {state};  // small: what can be reached without reading
  std::vector<bool> marked;
  const auto add = [&](int next) {
    if (marked.empty() && seen.size() > 32) {
      marked.assign(as_size(draft_.states), false);
      for (const int known : seen) marked[as_size(known)] = true;
    }
    if (marked.empty() ? std::find(seen.begin(), seen.end(), next) != seen.end() : marked[as_size(next)]) return;
    seen.push_back(next);
    if (!marked.empty()) marked[as_size(next)] = true;
    work.push_back(next);
  };
  while (!work.empty()) {
    const int current = work.back();
    work.pop_back();
    visit(current);
    if (current == stop) continue;
    for (const std::uint32_t number : ending_.of(current)) {
      add(repeat(number).repeat.exit);
      add(repeat(number).repeat.again);
    }
    for (const std::uint32_t number : out_.of(current)) {
      const GrammarEdge& read = edge(number).edge;
      const bool unread = read.kind == EdgeKind::kCall ? nullable_[as_size(read.callee)] : read.kind != EdgeKind::kBytes;
      if (unread) add(read.target);
    }
  }
}

void GrammarAnalysis::refuse_left_recursion() const {
  const int rules = static_cast<int>(draft_.rules.size());
  std::vector<std::vector<int>> first(as_size(rules));  // rules that a rule may begin with
  for (int rule = 0; rule < rules; ++rule) {
    visit_unread(draft_.rules[as_size(rule)].start, -1, [&](int state) {
      for (const std::uint32_t number : out_.of(state)) {
        if (edge(number).edge.kind == EdgeKind::kCall) first[as_size(rule)].push_back(edge(number).edge.callee);
      }
    });
  }
  enum : std::uint8_t { kNew, kOpen, kDone };
  std::vector<std::uint8_t> mark(as_size(rules), kNew);
  for (int root = 0; root < rules; ++root) {
    if (mark[as_size(root)] != kNew) continue;
    std::vector<std::pair<int, std::size_t>> path = {{root, 0}};
    mark[as_size(root)] = kOpen;
    while (!path.empty()) {
      auto& [rule, next] = path.back();
      if (next == first[as_size(rule)].size()) {
        mark[as_size(rule)] = kDone;
        path.pop_back();
        continue;
      }
      const int callee = first[as_size(rule)][next++];
      if (mark[as_size(callee)] == kOpen) {
        fail(ErrorKind::kUnsupported, draft_.where,
             "{} begins with itself (left recursion), by way of {}: write a repetition, such as item (\",\" item)*",
             draft_.rules[as_size(callee)].name, draft_.rules[as_size(rule)].name);
      }
      if (mark[as_size(callee)] == kNew) {
        mark[as_size(callee)] = kOpen;
        path.emplace_back(callee, 0);
      }
    }
  }
}

void GrammarAnalysis::refuse_empty_repeats() const {
  for (const GrammarDraft::Repeat& each : draft_.repeats) {
    const std::uint32_t counted = each.repeat.max == kUnlimited ? each.repeat.min : each.repeat.max;
    if (counted <= GrammarDraft::kMaxEmptyRepeats) continue;
    bool empty = false;
    visit_unread(each.body, each.end, [&](int state) { empty = empty || state == each.end; });
    if (!empty) continue;
    fail(ErrorKind::kUnsupported, draft_.where,
         "something that may be empty is repeated {} times, at most {} can be counted: repeat what is never empty", counted,
         GrammarDraft::kMaxEmptyRepeats);
  }
}

}  // namespace puna
