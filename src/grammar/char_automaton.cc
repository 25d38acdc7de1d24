// SPDX-License-Identifier: Apache-2.0
#include "grammar/char_automaton.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/as_size.h"
#include "base/error.h"
#include "text/unicode.h"

namespace puna {
namespace {

[[noreturn]] void refuse_size(const std::string& where, std::size_t states) {
  fail(ErrorKind::kUnsupported, where, "needs more than {} states: allow fewer repetitions, or less that is combined", states);
}

// The expression as a nondeterministic automaton over characters. Repetitions are written out.
class Spread {
 public:
  struct State {
    std::vector<std::pair<const CharSet*, int>> steps;
    std::vector<int> free;  // reached without reading
  };

  Spread(const ExpressionTree& tree, ExpressionId root, const std::string& where) : tree_(tree), where_(where) {
    const int start = add_state();
    end_ = add(root, start);
  }

  const std::vector<State>& states() const { return states_; }
  int end() const { return end_; }

 private:
  int add_state() {
    if (states_.size() == 2 * CharAutomaton::kMaxStates) refuse_size(where_, CharAutomaton::kMaxStates);
    states_.emplace_back();
    return static_cast<int>(states_.size()) - 1;
  }

  int add(ExpressionId id, int from) {
    constexpr int kMaxVisits = 100 * static_cast<int>(CharAutomaton::kMaxStates);  // repeating the empty text makes no states
    if (++visits_ > kMaxVisits) refuse_size(where_, CharAutomaton::kMaxStates);
    const Expression& expression = tree_.at(id);
    switch (expression.kind) {
      case ExpressionKind::kSequence:
        for (const ExpressionId part : expression.parts) from = add(part, from);
        return from;
      case ExpressionKind::kChoice: {
        const int to = add_state();
        for (const ExpressionId part : expression.parts) {
          const int begin = add_state();
          states_[as_size(from)].free.push_back(begin);
          const int end = add(part, begin);
          states_[as_size(end)].free.push_back(to);
        }
        return to;
      }
      case ExpressionKind::kChars: {
        const int to = add_state();
        states_[as_size(from)].steps.emplace_back(&expression.chars, to);
        return to;
      }
      case ExpressionKind::kRepeat:
        return add_repeat(expression, from);
      default:
        fail(ErrorKind::kInternal, where_, "an anchor or a rule stands in an expression over characters");
    }
  }

  int add_repeat(const Expression& expression, int from) {
    const ExpressionId part = expression.parts.front();
    for (std::uint32_t i = 0; i < expression.min; ++i) from = add(part, from);
    if (expression.max == kUnlimited) {
      const int body = add_state(), exit = add_state();
      states_[as_size(from)].free.push_back(body);
      states_[as_size(body)].free.push_back(exit);
      const int end = add(part, body);
      states_[as_size(end)].free.push_back(body);
      return exit;
    }
    const int exit = add_state();
    for (std::uint32_t i = expression.min; i < expression.max; ++i) {
      states_[as_size(from)].free.push_back(exit);
      from = add(part, from);
    }
    states_[as_size(from)].free.push_back(exit);
    return exit;
  }

  const ExpressionTree& tree_;
  const std::string& where_;
  std::vector<State> states_;
  int end_ = 0, visits_ = 0;
};

// Finds what is reached without reading, and stops where finding it takes too long.
class Closer {
 public:
  Closer(const std::vector<Spread::State>& states, const std::string& where)
      : states_(states), where_(where), seen_(states.size()) {}

  std::vector<int> closed(std::vector<int> set) {
    ++round_;
    std::vector<int> all;
    while (!set.empty()) {
      const int state = set.back();
      set.pop_back();
      if (std::exchange(seen_[as_size(state)], round_) == round_) continue;
      all.push_back(state);
      const auto& free = states_[as_size(state)].free;
      set.insert(set.end(), free.begin(), free.end());
      spend(1 + free.size() + states_[as_size(state)].steps.size());
    }
    std::sort(all.begin(), all.end());
    return all;
  }
  std::size_t spent() const { return spent_; }

 private:
  void spend(std::size_t steps) {
    constexpr std::size_t kMaxSteps = 3'000'000;  // some 200 ms
    if ((spent_ += steps) > kMaxSteps) refuse_size(where_, CharAutomaton::kMaxStates);
  }

  const std::vector<Spread::State>& states_;
  const std::string& where_;
  std::vector<std::uint32_t> seen_;  // [states] the round that saw it last
  std::uint32_t round_ = 0;
  std::size_t spent_ = 0;
};

// Calls visit(range, targets) for the largest ranges of characters that go on to the same states.
template <typename Visit>
void visit_steps(const std::vector<Spread::State>& states, const std::vector<int>& set, Visit visit) {
  std::vector<std::pair<char32_t, std::pair<int, bool>>> edges;  // where a step begins to apply, or no longer does
  for (const int state : set) {
    for (const auto& [chars, target] : states[as_size(state)].steps) {
      for (const CharRange& range : chars->ranges()) {
        edges.push_back({range.first, {target, true}});
        edges.push_back({range.last + 1, {target, false}});
      }
    }
  }
  std::sort(edges.begin(), edges.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::map<int, int> active;  // target -> steps that lead there
  for (std::size_t i = 0; i < edges.size();) {
    const char32_t here = edges[i].first;
    for (; i < edges.size() && edges[i].first == here; ++i) {
      const auto [target, begins] = edges[i].second;
      if ((active[target] += begins ? 1 : -1) == 0) active.erase(target);
    }
    if (i == edges.size() || active.empty()) continue;
    std::vector<int> targets;
    for (const auto& [target, count] : active) targets.push_back(target);
    visit(CharRange{here, edges[i].first - 1}, targets);
  }
}

}  // namespace

int CharAutomaton::add_state(const std::string& where) {
  if (states_.size() == kMaxStates) refuse_size(where, kMaxStates);
  states_.emplace_back();
  return static_cast<int>(states_.size()) - 1;
}

CharAutomaton CharAutomaton::from_expression(const ExpressionTree& tree, ExpressionId root, const std::string& where) {
  const Spread spread(tree, root, where);
  CharAutomaton automaton;
  std::map<std::vector<int>, int> numbers;
  std::vector<const std::vector<int>*> sets;
  Closer closer(spread.states(), where);
  const auto number_of = [&](std::vector<int> set) {
    const auto [known, fresh] = numbers.try_emplace(std::move(set), 0);
    if (fresh) {
      known->second = automaton.add_state(where);
      automaton.states_.back().accepts = std::binary_search(known->first.begin(), known->first.end(), spread.end());
      sets.push_back(&known->first);
    }
    return known->second;
  };
  number_of(closer.closed({0}));
  for (std::size_t i = 0; i < sets.size(); ++i) {
    std::vector<Step> steps;
    visit_steps(spread.states(), *sets[i], [&](CharRange range, const std::vector<int>& targets) {
      const int target = number_of(closer.closed(targets));
      const bool goes_on = !steps.empty() && steps.back().target == target && steps.back().range.last + 1 == range.first;
      if (goes_on) {
        steps.back().range.last = range.last;
      } else {
        steps.push_back({range, target});
      }
    });
    automaton.states_[i].steps = std::move(steps);
  }
  automaton.work_ = spread.states().size() + closer.spent();
  return automaton;
}

CharAutomaton CharAutomaton::of_texts(std::span<const std::string> texts, const std::string& where) {
  CharAutomaton automaton;
  automaton.add_state(where);
  for (const std::string& text : texts) {
    std::string_view rest = text;
    std::size_t state = 0;
    while (!rest.empty()) {
      const DecodedChar next = decode_utf8(rest);
      PUNA_CHECK(next.bytes > 0, where, "a text is not UTF-8");
      rest.remove_prefix(static_cast<std::size_t>(next.bytes));
      std::vector<Step>& steps = automaton.states_[state].steps;
      const auto place = std::lower_bound(steps.begin(), steps.end(), next.code,
                                          [](const Step& step, char32_t code) { return step.range.first < code; });
      if (place != steps.end() && place->range.first == next.code) {
        state = as_size(place->target);
        continue;
      }
      const int target = static_cast<int>(automaton.states_.size());
      steps.insert(place, {{next.code, next.code}, target});
      state = as_size(automaton.add_state(where));
    }
    automaton.states_[state].accepts = true;
  }
  automaton.work_ = automaton.size();
  return automaton;
}

CharAutomaton CharAutomaton::of_length(std::uint32_t min, std::uint32_t max, const std::string& where) {
  CharAutomaton automaton;
  const CharSet all = CharSet::all();
  const std::uint32_t last = max == kUnlimited ? min : max;
  for (std::uint32_t length = 0; length <= last; ++length) {
    State& state = automaton.states_[as_size(automaton.add_state(where))];
    state.accepts = length >= min;
    const int target = static_cast<int>(length < last ? length + 1 : length);
    if (length == last && max != kUnlimited) break;
    for (const CharRange& range : all.ranges()) state.steps.push_back({range, target});
  }
  automaton.work_ = automaton.size();
  return automaton;
}

CharAutomaton CharAutomaton::anything() { return of_length(0, kUnlimited, ""); }

CharAutomaton CharAutomaton::both(const CharAutomaton& other, const std::string& where) const {
  CharAutomaton product;
  std::map<std::pair<int, int>, int> numbers;
  std::vector<std::pair<int, int>> pairs;
  const auto number_of = [&](std::pair<int, int> pair) {
    const auto [known, fresh] = numbers.try_emplace(pair, 0);
    if (fresh) {
      known->second = product.add_state(where);
      product.states_.back().accepts = states_[as_size(pair.first)].accepts && other.states_[as_size(pair.second)].accepts;
      pairs.push_back(pair);
    }
    return known->second;
  };
  number_of({0, 0});
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto [mine, its] = pairs[i];
    const std::vector<Step>&a = states_[as_size(mine)].steps, &b = other.states_[as_size(its)].steps;
    std::vector<Step> steps;
    for (std::size_t x = 0, y = 0; x < a.size() && y < b.size();) {
      const CharRange common{std::max(a[x].range.first, b[y].range.first), std::min(a[x].range.last, b[y].range.last)};
      if (common.first <= common.last) steps.push_back({common, number_of({a[x].target, b[y].target})});
      if (a[x].range.last < b[y].range.last) {
        ++x;
      } else {
        ++y;
      }
    }
    product.work_ += 1 + a.size() + b.size();
    product.states_[i].steps = std::move(steps);
  }
  return product;
}

CharAutomaton CharAutomaton::complement() const {
  CharAutomaton result;
  const int rest = static_cast<int>(states_.size());  // where everything is accepted
  bool has_rest = false;
  for (const State& state : states_) {
    CharSet taken;
    for (const Step& step : state.steps) taken.add(step.range.first, step.range.last);
    State& changed = result.states_.emplace_back(state);
    changed.accepts = !state.accepts;
    const CharSet others = taken.negated();
    has_rest = has_rest || !others.empty();
    for (const CharRange& range : others.ranges()) changed.steps.push_back({range, rest});
    std::sort(changed.steps.begin(), changed.steps.end(),
              [](const Step& a, const Step& b) { return a.range.first < b.range.first; });
  }
  result.work_ = size();
  if (!has_rest) return result;
  State& accepting = result.states_.emplace_back();
  accepting.accepts = true;
  const CharSet all = CharSet::all();
  for (const CharRange& range : all.ranges()) accepting.steps.push_back({range, rest});
  return result;
}

bool CharAutomaton::matches(std::string_view text) const {
  std::size_t state = 0;
  while (!text.empty()) {
    const DecodedChar next = decode_utf8(text);
    if (next.bytes == 0) return false;
    text.remove_prefix(static_cast<std::size_t>(next.bytes));
    const std::vector<Step>& steps = states_[state].steps;
    const auto step =
        std::lower_bound(steps.begin(), steps.end(), next.code, [](const Step& s, char32_t code) { return s.range.last < code; });
    if (step == steps.end() || step->range.first > next.code) return false;
    state = as_size(step->target);
  }
  return states_[state].accepts;
}

std::size_t CharAutomaton::size() const {
  std::size_t size = states_.size();
  for (const State& state : states_) size += state.steps.size();
  return size;
}

bool CharAutomaton::empty() const {  // every state can be reached
  return std::none_of(states_.begin(), states_.end(), [](const State& state) { return state.accepts; });
}

int CharAutomaton::add_to(GrammarBuilder& builder, int from, SpellChars spell) const {
  std::vector<int> built(states_.size());
  for (int& state : built) state = builder.add_state();
  const int end = builder.add_state();
  builder.add_empty(from, built.front());
  for (std::size_t i = 0; i < states_.size(); ++i) {
    if (states_[i].accepts) builder.add_empty(built[i], end);
    std::map<int, CharSet> by_target;
    for (const Step& step : states_[i].steps) by_target[step.target].add(step.range.first, step.range.last);
    for (const auto& [target, chars] : by_target) spell(builder, built[i], chars, built[as_size(target)]);
  }
  return end;
}

}  // namespace puna
