// SPDX-License-Identifier: Apache-2.0
// Walks a Grammar byte by byte. A position is the set of all (state, stack) that the bytes so far may have led to; positions and
// stacks have numbers, equal ones the same, and each step that was taken once is looked up the next time. So the automaton is made
// deterministic only where texts lead. Not for several threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "grammar/grammar.h"

namespace puna {

using Position = std::int32_t;
inline constexpr Position kNowhere = 0;  // no text of the grammar begins like this

class Pushdown {
 public:
  // `reach`: what within_reach() looks ahead, in bytes.
  Pushdown(std::shared_ptr<const Grammar> grammar, std::uint32_t reach);

  const Grammar& grammar() const { return *grammar_; }
  Position start() const { return start_; }
  // Throws kUnsupported where the grammar allows more than kMaxItems readings at once, and past the work that was allowed.
  Position step(Position position, std::uint8_t byte) {
    const std::int32_t known = steps_[static_cast<std::size_t>(position) * classes_ + grammar_->byte_class[byte]];
    return known >= 0 ? known : take_step(position, byte);
  }
  bool may_end(Position position) const { return positions_[static_cast<std::size_t>(position)].ends; }

  // So much may be followed from now on, in states reached, before step() throws: an ambiguous grammar is not followed for minutes.
  void allow_work(std::int64_t states) { work_left_ = states; }

  // A position that allows the same texts of up to `reach` bytes: what is left to count is cut to what so few bytes can tell apart,
  // so that most positions within a long counted text become one.
  Position within_reach(Position position);

  // Forgets every position but this one, and returns its new number.
  Position forget_others(Position position);
  std::size_t bytes() const;  // of memory, roughly

  static constexpr std::size_t kMaxItems = 20'000;

 private:
  using Stack = std::int32_t;  // 0: empty
  struct Frame {
    std::int32_t on_return = -1;       // the state where a caller goes on
    std::int32_t repeat = -1;          // or the repetition that is counted:
    std::uint32_t need = 0, room = 0;  // times that are missing still; times that are left. kUnlimited: more than matter
    Stack below = 0;
    std::int32_t depth = 0;
    bool operator==(const Frame&) const = default;
  };
  struct Item {
    std::int32_t state = 0;
    Stack stack = 0;
    auto operator<=>(const Item&) const = default;
  };
  struct SeenSlot {
    Item item;
    std::uint64_t round = 0;  // taken where it is the present one
  };
  struct Place {
    std::size_t first_item = 0;
    std::uint32_t item_count = 0;
    bool ends = false;
    std::int32_t clipped = -1;  // within_reach(), once asked
  };

  void begin();
  Position take_step(Position position, std::uint8_t byte);
  bool has_room(std::int32_t state, Stack stack) const;
  void reach(std::int32_t state, Stack stack);
  void close();
  void leave_rule(Stack stack);
  void count_repeat(std::int32_t repeat, Stack stack);
  Stack push(Frame frame);
  Stack clip(Stack stack);
  Position intern();
  std::uint64_t hash_of(const Place& place) const;
  void grow_place_slots();

  std::shared_ptr<const Grammar> grammar_;
  std::uint32_t reach_;
  std::size_t classes_;
  Position start_ = 0;
  std::vector<Frame> frames_;              // by stack
  std::vector<std::int32_t> frame_slots_;  // hash table of stacks; 0 is free
  std::vector<Place> positions_;
  std::vector<std::int32_t> place_slots_;  // hash table of positions; -1 is free
  std::vector<Item> items_;                // of all positions
  std::vector<std::int32_t> steps_;        // [positions, classes]; -1: not taken yet
  std::vector<Stack> clipped_;             // [stacks] -1: not asked yet

  // The position that is being made.
  std::vector<Item> work_, found_;
  std::vector<SeenSlot> seen_;  // hash set of what was in work_
  std::uint64_t round_ = 1;
  std::size_t seen_count_ = 0;
  std::int64_t work_left_ = 1'000'000;
  bool ends_ = false;
};

}  // namespace puna
