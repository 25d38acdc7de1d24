// SPDX-License-Identifier: Apache-2.0
#include "text/bpe_learner.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

constexpr std::size_t kMergesPerReport = 64;

}  // namespace

const std::array<unsigned char, 256>& BpeLearner::byte_of_id() {
  static const std::array<unsigned char, 256> order = [] {
    std::array<std::string, 256> characters;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const char value = static_cast<char>(byte);
      append_in_alphabet(std::string_view(&value, 1), characters[byte]);
    }
    std::array<unsigned char, 256> bytes{};
    std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(0));
    std::sort(bytes.begin(), bytes.end(), [&](unsigned char a, unsigned char b) { return characters[a] < characters[b]; });
    return bytes;
  }();
  return order;
}

std::uint32_t BpeLearner::PairTable::find(std::uint64_t key) const {
  for (std::size_t at = home(key);; at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].pair == kNone || slots_[at].key == key) return slots_[at].pair;
  }
}

void BpeLearner::PairTable::insert(std::uint64_t key, std::uint32_t pair) {
  if (2 * (size_ + 1) > slots_.size()) {
    std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
    --shift_;
    size_ = 0;
    for (const Slot& slot : old) {
      if (slot.pair != kNone) insert(slot.key, slot.pair);
    }
  }
  std::size_t at = home(key);
  while (slots_[at].pair != kNone) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {key, pair};
  ++size_;
}

BpeLearner::BpeLearner(const ShardedWordCounts& words, LearnOptions options)
    : options_(std::move(options)), tallies_(2 * kFirstMerged) {
  for (const unsigned char byte : byte_of_id()) bytes_.emplace_back(1, static_cast<char>(byte));
  take_words(words);
  count_byte_pairs();
}

void BpeLearner::take_words(const ShardedWordCounts& words) {
  if (words.bytes() >= kNone) {
    fail(ErrorKind::kNoRoom, "train-tokenizer", "{} bytes of different words, at most {} can be held: train on a part of the text",
         words.bytes(), kNone - 1);
  }
  std::array<std::uint32_t, 256> id_of_byte{};
  for (std::uint32_t id = 0; id < 256; ++id) id_of_byte[byte_of_id()[id]] = id;
  symbols_.reserve(words.bytes());
  word_counts_.reserve(words.size());
  words.visit([&](std::string_view word, std::uint64_t count) {
    const auto index = static_cast<std::uint32_t>(word_counts_.size());
    const auto begin = static_cast<std::uint32_t>(symbols_.size());
    const auto end = static_cast<std::uint32_t>(begin + word.size());
    for (std::uint32_t at = begin; at < end; ++at) {
      const std::uint32_t id = id_of_byte[static_cast<unsigned char>(word[at - begin])];
      symbols_.push_back({id, at == begin ? kNone : at - 1, at + 1 == end ? kNone : at + 1, index});
    }
    word_counts_.push_back(count);
  });
}

void BpeLearner::count_byte_pairs() {
  std::vector<Tally> pairs(256 * 256);  // [left * 256 + right]
  for (const Symbol& symbol : symbols_) {
    if (symbol.next == kNone) continue;
    Tally& pair = pairs[symbol.id * 256 + symbols_[symbol.next].id];
    pair.count += word_counts_[symbol.word];
    ++pair.places;
  }
  std::vector<std::size_t> cursors(pairs.size(), 0);  // [left * 256 + right] where its next place goes
  for (std::uint32_t index = 0; index < pairs.size(); ++index) {
    if (pairs[index].count < options_.min_frequency || pairs[index].places == 0) {
      pairs[index].places = 0;
      continue;
    }
    cursors[index] = occurrences_.size();
    open_pair(key_of(index / 256, index % 256), pairs[index].count, pairs[index].places);
  }
  for (std::uint32_t at = 0; at < symbols_.size(); ++at) {
    if (symbols_[at].next == kNone) continue;
    const std::size_t index = symbols_[at].id * 256 + symbols_[symbols_[at].next].id;
    if (pairs[index].places > 0) occurrences_[cursors[index]++] = at;
  }
}

// A pair that is born, with room for its places behind those of the others.
void BpeLearner::open_pair(std::uint64_t key, std::uint64_t count, std::size_t places) {
  const auto index = static_cast<std::uint32_t>(pairs_.size());
  pairs_.push_back({count, occurrences_.size(), places});
  occurrences_.resize(occurrences_.size() + places);
  table_.insert(key, index);
  heap_.push_back({count, key, index});
  std::push_heap(heap_.begin(), heap_.end());
}

std::vector<BpeRule> BpeLearner::learn() {
  std::vector<BpeRule> rules;
  while (rules.size() < options_.merges && !heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end());
    Waiting top = heap_.back();
    heap_.pop_back();
    const Pair pair = pairs_[top.pair];
    if (pair.count < options_.min_frequency || pair.count == 0) continue;
    if (pair.count != top.count) {
      top.count = pair.count;
      heap_.push_back(top);
      std::push_heap(heap_.begin(), heap_.end());
      continue;
    }
    const auto left = static_cast<std::uint32_t>(top.key >> 32), right = static_cast<std::uint32_t>(top.key);
    if (options_.never.contains(bytes_[left] + bytes_[right])) continue;
    rules.push_back({left, right, static_cast<std::uint32_t>(bytes_.size())});
    step(left, right, pair);
    if (options_.on_merges && rules.size() % kMergesPerReport == 0) options_.on_merges(rules.size());
  }
  if (options_.on_merges) options_.on_merges(rules.size());
  return rules;
}

void BpeLearner::step(std::uint32_t left, std::uint32_t right, const Pair& pair) {
  const auto made = static_cast<std::uint32_t>(bytes_.size());
  bytes_.push_back(bytes_[left] + bytes_[right]);
  tallies_.resize(2 * bytes_.size());
  join(left, right, made, pair);
  take_losses(left, right);
  open_neighbours(made);
}

void BpeLearner::tally(std::uint32_t neighbour, bool behind, std::uint64_t count) {
  const std::uint32_t index = 2 * neighbour + (behind ? 1 : 0);
  if (tallies_[index].places++ == 0) touched_.push_back(index);
  tallies_[index].count += count;
}

// Joins left and right wherever they stand, and tallies the pairs with their neighbours that go.
void BpeLearner::join(std::uint32_t left, std::uint32_t right, std::uint32_t made, const Pair& pair) {
  joined_.clear();
  for (std::size_t i = pair.first; i < pair.first + pair.places; ++i) {
    const std::uint32_t at = occurrences_[i];
    Symbol& first = symbols_[at];
    if (first.id != left || first.next == kNone || symbols_[first.next].id != right) continue;
    Symbol& second = symbols_[first.next];
    const std::uint64_t count = word_counts_[first.word];
    // Behind a token that this step made, the pair with it is gone already: it was tallied there.
    if (first.previous != kNone && symbols_[first.previous].id != made) tally(symbols_[first.previous].id, false, count);
    if (second.next != kNone) {
      tally(symbols_[second.next].id, true, count);
      symbols_[second.next].previous = at;
    }
    first.id = made;
    first.next = second.next;
    second.id = kNone;  // every place that begins here is stale
    joined_.push_back(at);
  }
}

void BpeLearner::take_losses(std::uint32_t left, std::uint32_t right) {
  const std::uint64_t own = key_of(left, right);
  for (const std::uint32_t index : touched_) {
    const std::uint64_t key = index % 2 == 0 ? key_of(index / 2, left) : key_of(right, index / 2);
    const std::uint64_t lost = std::exchange(tallies_[index], {}).count;
    const std::uint32_t pair = table_.find(key);
    if (pair != kNone && key != own) pairs_[pair].count -= lost;
  }
  touched_.clear();
}

// Calls visit(place of the left symbol, index of the tally) for every pair with the token that was made.
template <typename Visit>
void BpeLearner::visit_neighbours(std::uint32_t made, Visit&& visit) const {
  for (const std::uint32_t at : joined_) {
    const Symbol& symbol = symbols_[at];
    if (symbol.previous != kNone && symbols_[symbol.previous].id != made) visit(symbol.previous, 2 * symbols_[symbol.previous].id);
    if (symbol.next != kNone) visit(at, 2 * symbols_[symbol.next].id + 1);
  }
}

void BpeLearner::open_neighbours(std::uint32_t made) {
  visit_neighbours(
      made, [&](std::uint32_t at, std::uint32_t index) { tally(index / 2, index % 2 == 1, word_counts_[symbols_[at].word]); });
  for (const std::uint32_t index : touched_) {
    Tally& pair = tallies_[index];
    if (pair.count < options_.min_frequency) {
      pair.places = 0;
      continue;
    }
    const std::size_t first = occurrences_.size();
    open_pair(index % 2 == 0 ? key_of(index / 2, made) : key_of(made, index / 2), pair.count, pair.places);
    pair.count = first;  // from here on: where the next place goes
  }
  visit_neighbours(made, [&](std::uint32_t at, std::uint32_t index) {
    if (tallies_[index].places > 0) occurrences_[tallies_[index].count++] = at;
  });
  for (const std::uint32_t index : touched_) tallies_[index] = {};
  touched_.clear();
}

}  // namespace puna
