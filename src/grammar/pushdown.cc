// SPDX-License-Identifier: Apache-2.0
// Only states that read a byte stand in a position; what is reached without reading is followed at once (close()). Every hash table
// is open, with a power of two of slots of which at most half are taken.
#include "grammar/pushdown.h"
#include "base/as_size.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

std::uint64_t mixed(std::uint64_t hash, std::uint64_t value) {
  const auto product = static_cast<unsigned __int128>(hash ^ value) * 0x9E3779B97F4A7C15u;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64) ^ (value << 1);
}

std::uint64_t pair_hash(std::int32_t a, std::int32_t b) {
  return mixed(0x51ED270B, static_cast<std::uint64_t>(static_cast<std::uint32_t>(a)) << 32 | static_cast<std::uint32_t>(b));
}

std::uint32_t one_less(std::uint32_t count) { return count == 0 || count == kUnlimited ? count : count - 1; }

}  // namespace

Pushdown::Pushdown(std::shared_ptr<const Grammar> grammar, std::uint32_t reach)
    : grammar_(std::move(grammar)), reach_(reach), classes_(static_cast<std::size_t>(grammar_->byte_classes)), seen_(64) {
  begin();
}

// Nothing but kNowhere and the start.
void Pushdown::begin() {
  frames_.assign(1, Frame{});
  frame_slots_.assign(64, 0);
  clipped_.assign(1, 0);
  positions_.clear();
  place_slots_.assign(64, -1);
  items_.clear();
  steps_.clear();
  intern();
  reach(grammar_->start, 0);
  close();
  start_ = intern();
}

std::size_t Pushdown::bytes() const {
  return frames_.capacity() * sizeof(Frame) + positions_.capacity() * sizeof(Place) + items_.capacity() * sizeof(Item) +
         (steps_.capacity() + clipped_.capacity() + frame_slots_.capacity() + place_slots_.capacity()) * sizeof(std::int32_t);
}

Position Pushdown::take_step(Position position, std::uint8_t byte) {
  const Place place = positions_[as_size(position)];
  for (std::size_t i = 0; i < place.item_count; ++i) {
    const Item item = items_[place.first_item + i];
    for (const GrammarEdge& edge : grammar_->edges_of(item.state)) {
      if (edge.kind == EdgeKind::kBytes && edge.first <= byte && byte <= edge.last) reach(edge.target, item.stack);
    }
  }
  close();
  const Position next = intern();
  steps_[as_size(position) * classes_ + grammar_->byte_class[byte]] = next;
  return next;
}

bool Pushdown::has_room(std::int32_t state, Stack stack) const {
  return frames_[as_size(stack)].depth + grammar_->states[as_size(state)].height <= grammar_->max_depth;
}

// Adds (state, stack) to what close() follows, once, and only where the text can still end within the stack's depth.
void Pushdown::reach(std::int32_t state, Stack stack) {
  if (!has_room(state, stack)) return;
  const Item item{state, stack};
  const auto slot_of = [&](const Item& wanted) {
    std::size_t slot = pair_hash(wanted.state, wanted.stack) & (seen_.size() - 1);
    while (seen_[slot].round == round_ && seen_[slot].item != wanted) slot = (slot + 1) & (seen_.size() - 1);
    return slot;
  };
  if (2 * (seen_count_ + 1) > seen_.size()) {
    std::vector<SeenSlot> old(4 * seen_.size());
    old.swap(seen_);
    for (const SeenSlot& slot : old) {
      if (slot.round == round_) seen_[slot_of(slot.item)] = slot;
    }
  }
  const std::size_t slot = slot_of(item);
  if (seen_[slot].round == round_) return;
  seen_[slot] = {item, round_};
  work_.push_back(item);
  if (++seen_count_ > kMaxItems || --work_left_ < 0) {
    work_.clear(), found_.clear(), seen_count_ = 0, ends_ = false, ++round_;
    fail(ErrorKind::kUnsupported, "grammar",
         "the text so far can be read in too many ways at once ({} are followed): let alternatives and repetitions begin "
         "differently",
         kMaxItems);
  }
}

void Pushdown::close() {
  while (!work_.empty()) {
    const Item item = work_.back();
    work_.pop_back();
    const GrammarState& state = grammar_->states[as_size(item.state)];
    if (state.ends_rule) leave_rule(item.stack);
    if (state.repeats >= 0) count_repeat(state.repeats, item.stack);
    if (state.reads) found_.push_back(item);
    for (const GrammarEdge& edge : grammar_->edges_of(item.state)) {
      if (edge.kind == EdgeKind::kEmpty) reach(edge.target, item.stack);
      if (edge.kind == EdgeKind::kEnter) {
        const GrammarRepeat& repeat = grammar_->repeats[as_size(edge.callee)];
        const Frame frame{.repeat = edge.callee, .need = repeat.min, .room = repeat.max, .below = item.stack};
        if (has_room(repeat.exit, item.stack)) reach(edge.target, push(frame));
      }
      if (edge.kind == EdgeKind::kCall && has_room(edge.target, item.stack)) {
        const bool tail = grammar_->states[as_size(edge.target)].only_returns;
        reach(grammar_->rule_starts[as_size(edge.callee)],
              tail ? item.stack : push({.on_return = edge.target, .below = item.stack}));
      }
    }
  }
}

void Pushdown::leave_rule(Stack stack) {
  if (stack == 0) {
    ends_ = true;
    return;
  }
  const Frame frame = frames_[as_size(stack)];
  reach(frame.on_return, frame.below);
}

void Pushdown::count_repeat(std::int32_t repeat, Stack stack) {
  const GrammarRepeat& counted = grammar_->repeats[as_size(repeat)];
  const Frame frame = frames_[as_size(stack)];
  const std::uint32_t need = one_less(frame.need), room = one_less(frame.room);
  if (need == 0) reach(counted.exit, frame.below);
  if (room == 0) return;
  reach(counted.again, push({.repeat = repeat, .need = need, .room = room, .below = frame.below}));
}

// The stack with one more frame on it.
Pushdown::Stack Pushdown::push(Frame frame) {
  frame.depth = frames_[as_size(frame.below)].depth + 1;
  const auto hash_of = [](const Frame& f) {
    const std::uint64_t hash = mixed(pair_hash(f.on_return, f.repeat), static_cast<std::uint64_t>(f.need) << 32 | f.room);
    return mixed(hash, static_cast<std::uint64_t>(f.below));
  };
  if (2 * (frames_.size() + 1) > frame_slots_.size()) {
    frame_slots_.assign(4 * frame_slots_.size(), 0);
    for (std::size_t i = 1; i < frames_.size(); ++i) {
      std::size_t slot = hash_of(frames_[i]) & (frame_slots_.size() - 1);
      while (frame_slots_[slot] != 0) slot = (slot + 1) & (frame_slots_.size() - 1);
      frame_slots_[slot] = static_cast<Stack>(i);
    }
  }
  std::size_t slot = hash_of(frame) & (frame_slots_.size() - 1);
  for (; frame_slots_[slot] != 0; slot = (slot + 1) & (frame_slots_.size() - 1)) {
    if (frames_[as_size(frame_slots_[slot])] == frame) return frame_slots_[slot];
  }
  frame_slots_[slot] = static_cast<Stack>(frames_.size());
  frames_.push_back(frame);
  clipped_.push_back(-1);
  return frame_slots_[slot];
}

Pushdown::Stack Pushdown::clip(Stack stack) {
  if (stack == 0 || clipped_[as_size(stack)] >= 0) return clipped_[as_size(stack)];
  Frame frame = frames_[as_size(stack)];
  frame.below = clip(frame.below);  // no deeper than max_depth
  if (frame.need > reach_) frame.need = kUnlimited;
  if (frame.room > reach_) frame.room = kUnlimited;
  const Stack clipped = push(frame);
  clipped_[as_size(stack)] = clipped;
  return clipped;
}

Position Pushdown::within_reach(Position position) {
  const Place place = positions_[as_size(position)];
  if (place.clipped >= 0) return place.clipped;
  for (std::size_t i = 0; i < place.item_count; ++i) {
    const Item item = items_[place.first_item + i];
    found_.push_back({item.state, clip(item.stack)});
  }
  ends_ = place.ends;
  const Position clipped = intern();
  positions_[as_size(position)].clipped = clipped;
  return clipped;
}

Position Pushdown::forget_others(Position position) {
  const Place place = positions_[as_size(position)];
  const auto first = items_.begin() + static_cast<std::ptrdiff_t>(place.first_item);
  const std::vector<Item> items(first, first + place.item_count);
  const std::vector<Frame> frames = std::move(frames_);
  begin();
  for (const Item& item : items) {
    std::vector<Stack> path;  // from the top
    for (Stack stack = item.stack; stack != 0; stack = frames[as_size(stack)].below) path.push_back(stack);
    Stack stack = 0;
    while (!path.empty()) {
      Frame frame = frames[as_size(path.back())];
      frame.below = stack;
      stack = push(frame);
      path.pop_back();
    }
    found_.push_back({item.state, stack});
  }
  ends_ = place.ends;
  return intern();
}

std::uint64_t Pushdown::hash_of(const Place& place) const {
  std::uint64_t hash = place.ends ? 1 : 2;
  for (std::size_t i = 0; i < place.item_count; ++i) {
    const Item& item = items_[place.first_item + i];
    hash = mixed(hash, pair_hash(item.state, item.stack));
  }
  return hash;
}

void Pushdown::grow_place_slots() {
  place_slots_.assign(4 * place_slots_.size(), -1);
  for (std::size_t i = 0; i < positions_.size(); ++i) {
    std::size_t slot = hash_of(positions_[i]) & (place_slots_.size() - 1);
    while (place_slots_[slot] >= 0) slot = (slot + 1) & (place_slots_.size() - 1);
    place_slots_[slot] = static_cast<Position>(i);
  }
}

// The number of the position made of found_ and ends_, which are left empty.
Position Pushdown::intern() {
  ++round_;
  seen_count_ = 0;
  std::sort(found_.begin(), found_.end());
  found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
  const Place place{items_.size(), static_cast<std::uint32_t>(found_.size()), std::exchange(ends_, false), -1};
  items_.insert(items_.end(), found_.begin(), found_.end());
  found_.clear();
  if (2 * (positions_.size() + 1) > place_slots_.size()) grow_place_slots();
  const auto items_at = [&](const Place& p) { return items_.begin() + static_cast<std::ptrdiff_t>(p.first_item); };
  std::size_t slot = hash_of(place) & (place_slots_.size() - 1);
  for (; place_slots_[slot] >= 0; slot = (slot + 1) & (place_slots_.size() - 1)) {
    const Place& known = positions_[as_size(place_slots_[slot])];
    if (known.ends != place.ends || known.item_count != place.item_count) continue;
    if (!std::equal(items_at(place), items_.end(), items_at(known))) continue;
    items_.resize(place.first_item);
    return place_slots_[slot];
  }
  const auto number = static_cast<Position>(positions_.size());
  place_slots_[slot] = number;
  positions_.push_back(place);
  steps_.resize(steps_.size() + classes_, number == kNowhere ? kNowhere : -1);
  return number;
}

}  // namespace puna
