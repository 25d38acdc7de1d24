// SPDX-License-Identifier: Apache-2.0
#include "grammar/grammar_builder.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>
#include <utility>

#include "base/as_size.h"
#include "base/error.h"
#include "grammar/grammar_analysis.h"

namespace puna {
namespace {

// Classes of bytes that every edge treats alike.
void number_classes(Grammar& grammar) {
  std::array<bool, 257> begins{};
  for (const GrammarEdge& edge : grammar.edges) {
    if (edge.kind != EdgeKind::kBytes) continue;
    begins[edge.first] = true;
    begins[static_cast<std::size_t>(edge.last) + 1] = true;
  }
  int number = 0;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    if (byte > 0 && begins[byte]) ++number;
    grammar.byte_class[byte] = static_cast<std::uint8_t>(number);
  }
  grammar.byte_classes = number + 1;
}

}  // namespace

int GrammarBuilder::add_state() {
  if (draft_.states == kMaxStates) {
    fail(ErrorKind::kUnsupported, draft_.where, "needs more than {} states: make it smaller, or split what it lists", kMaxStates);
  }
  return draft_.states++;
}

int GrammarBuilder::add_rule(std::string name) {
  const int start = add_state();
  draft_.rules.push_back({std::move(name), start, add_state()});
  return static_cast<int>(draft_.rules.size()) - 1;
}

void GrammarBuilder::add_edge(int from, const GrammarEdge& edge) { draft_.edges.push_back({edge, from}); }

void GrammarBuilder::add_empty(int from, int to) { add_edge(from, {.kind = EdgeKind::kEmpty, .target = to}); }

void GrammarBuilder::add_bytes(int from, std::uint8_t first, std::uint8_t last, int to) {
  add_edge(from, {.kind = EdgeKind::kBytes, .first = first, .last = last, .target = to});
}

void GrammarBuilder::add_chars(int from, const CharSet& set, int to) {
  // Endings in common are shared: (first byte, last byte, target) -> the state before them.
  std::map<std::tuple<std::uint8_t, std::uint8_t, int>, int> before;
  for (const Utf8Sequence& sequence : utf8_sequences(set)) {
    int target = to;
    for (std::size_t i = as_size(sequence.size) - 1; i > 0; --i) {
      const ByteRange range = sequence.bytes[i];
      auto [known, fresh] = before.try_emplace({range.first, range.last, target}, -1);
      if (fresh) {
        known->second = add_state();
        add_bytes(known->second, range.first, range.last, target);
      }
      target = known->second;
    }
    add_bytes(from, sequence.bytes[0].first, sequence.bytes[0].last, target);
  }
}

int GrammarBuilder::add_text(int from, std::string_view bytes) {
  for (const char c : bytes) {
    const int next = add_state();
    add_bytes(from, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), next);
    from = next;
  }
  return from;
}

void GrammarBuilder::add_texts(int from, std::vector<std::string> texts, int to) {
  std::sort(texts.begin(), texts.end());
  std::vector<int> path = {from};  // the states of the text before this one
  std::string_view before;
  for (const std::string& text : texts) {
    const auto common =
        static_cast<std::size_t>(std::mismatch(text.begin(), text.end(), before.begin(), before.end()).first - text.begin());
    path.resize(common + 1);
    for (std::size_t i = common; i < text.size(); ++i) path.push_back(add_text(path.back(), std::string_view(text).substr(i, 1)));
    add_empty(path.back(), to);
    before = text;
  }
}

int GrammarBuilder::add_call(int from, int rule) {
  const int next = add_state();
  add_edge(from, {.kind = EdgeKind::kCall, .target = next, .callee = rule});
  return next;
}

int GrammarBuilder::add_repeat(int from, int body, int body_end, int again, std::uint32_t min, std::uint32_t max) {
  PUNA_CHECK(max >= 1 && min <= max, "grammar", "a repetition from {} to {} times", min, max);
  const int exit = add_state();
  if (min == 0) add_empty(from, exit);
  if (max == 1) {
    add_empty(from, body);
    add_empty(body_end, exit);
    return exit;
  }
  if (max == kUnlimited && min <= 1) {  // nothing to count
    add_empty(from, body);
    add_empty(body_end, again);
    add_empty(body_end, exit);
    return exit;
  }
  const int end = add_state();
  add_empty(body_end, end);
  draft_.repeats.push_back({{.again = again, .exit = exit, .min = min, .max = max}, body, end});
  add_edge(from, {.kind = EdgeKind::kEnter, .target = body, .callee = static_cast<std::int32_t>(draft_.repeats.size()) - 1});
  return exit;
}

Grammar GrammarBuilder::finish(int root, int max_depth) {
  const GrammarAnalysis analysis(draft_);
  analysis.refuse_left_recursion();
  analysis.refuse_empty_repeats();
  const std::vector<int> heights = analysis.heights();
  const int height = heights[as_size(start_of(root))];
  if (height == GrammarAnalysis::kNever)
    fail(ErrorKind::kBadInput, draft_.where, "no text at all is allowed: something in it can never end, or contradicts itself");
  if (height > max_depth)
    fail(ErrorKind::kUnsupported, draft_.where, "every text nests {} deep or deeper, at most {} can be followed", height,
         max_depth);
  Grammar grammar = indexed(root, max_depth, heights);
  const std::vector<bool> returning = analysis.only_returning();
  for (std::size_t i = 0; i < grammar.states.size(); ++i) grammar.states[i].only_returns = returning[i];
  return grammar;
}

Grammar GrammarBuilder::indexed(int root, int max_depth, const std::vector<int>& heights) const {
  Grammar grammar;
  grammar.start = start_of(root);
  grammar.max_depth = max_depth;
  grammar.states.resize(as_size(draft_.states));
  for (const GrammarDraft::Rule& rule : draft_.rules) {
    grammar.rule_starts.push_back(rule.start);
    grammar.states[as_size(rule.end)].ends_rule = true;
  }
  for (std::size_t i = 0; i < draft_.repeats.size(); ++i) {
    grammar.repeats.push_back(draft_.repeats[i].repeat);
    grammar.states[as_size(draft_.repeats[i].end)].repeats = static_cast<std::int32_t>(i);
  }
  const auto useful = [&](int state) { return heights[as_size(state)] != GrammarAnalysis::kNever; };
  const auto keeps = [&](const GrammarDraft::Edge& edge) {
    if (!useful(edge.from) || !useful(edge.edge.target)) return false;
    if (edge.edge.kind == EdgeKind::kCall) return useful(start_of(edge.edge.callee));
    return edge.edge.kind != EdgeKind::kEnter || useful(draft_.repeats[as_size(edge.edge.callee)].repeat.exit);
  };
  for (const GrammarDraft::Edge& edge : draft_.edges) {
    if (keeps(edge)) ++grammar.states[as_size(edge.from)].edge_count;
  }
  std::uint32_t next = 0;
  for (GrammarState& state : grammar.states) {
    state.first_edge = next;
    next += std::exchange(state.edge_count, 0);
  }
  grammar.edges.resize(next);
  for (const GrammarDraft::Edge& edge : draft_.edges) {
    if (!keeps(edge)) continue;
    GrammarState& from = grammar.states[as_size(edge.from)];
    grammar.edges[from.first_edge + from.edge_count++] = edge.edge;
    from.reads = from.reads || edge.edge.kind == EdgeKind::kBytes;
  }
  for (std::size_t i = 0; i < grammar.states.size(); ++i) grammar.states[i].height = heights[i];
  number_classes(grammar);
  return grammar;
}

}  // namespace puna
