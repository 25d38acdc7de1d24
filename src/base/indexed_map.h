// SPDX-License-Identifier: Apache-2.0
// The object of Json: members in the order they were written, found through a hash index once there are more than a few.
// nlohmann's own ordered_map compares with every earlier key, so that an object of n keys costs n² comparisons: a header of some
// megabytes from outside would take minutes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <nlohmann/ordered_map.hpp>
#include <string_view>
#include <utility>
#include <vector>

namespace puna {

template <class Key, class Value, class IgnoredLess = std::less<Key>, class Allocator = std::allocator<std::pair<const Key, Value>>>
class IndexedMap : public nlohmann::ordered_map<Key, Value, IgnoredLess, Allocator> {
  using Base = nlohmann::ordered_map<Key, Value, IgnoredLess, Allocator>;

 public:
  using typename Base::const_iterator;
  using typename Base::iterator;
  using typename Base::size_type;
  using typename Base::value_type;

  IndexedMap() = default;
  explicit IndexedMap(const Allocator& allocator) : Base(allocator) {}
  template <class It>
  IndexedMap(It first, It last, const Allocator& allocator = Allocator()) : Base(allocator) {
    insert(first, last);
  }

  std::pair<iterator, bool> emplace(std::string_view key, Value&& value) {
    if (const std::size_t at = position(key); at != this->size()) return {this->begin() + offset(at), false};
    this->emplace_back(Key(key), std::move(value));
    add_to_index(this->size() - 1);
    return {std::prev(this->end()), true};
  }
  std::pair<iterator, bool> insert(const value_type& member) { return emplace(member.first, Value(member.second)); }
  template <class It>
  void insert(It first, It last) {
    for (; first != last; ++first) emplace(first->first, Value(first->second));
  }

  Value& operator[](std::string_view key) { return emplace(key, Value{}).first->second; }
  const Value& operator[](std::string_view key) const { return at(key); }
  Value& at(std::string_view key) { return Base::Container::at(position(key)).second; }
  const Value& at(std::string_view key) const { return Base::Container::at(position(key)).second; }
  iterator find(std::string_view key) { return this->begin() + offset(position(key)); }
  const_iterator find(std::string_view key) const { return this->begin() + offset(position(key)); }
  size_type count(std::string_view key) const { return position(key) == this->size() ? 0 : 1; }

  size_type erase(std::string_view key) {
    const auto found = find(key);
    if (found == this->end()) return 0;
    erase(found);
    return 1;
  }
  iterator erase(iterator at) { return erase(at, std::next(at)); }
  iterator erase(iterator first, iterator last) {
    const auto next = Base::erase(first, last);
    rebuild_index();
    return next;
  }
  void clear() {
    Base::clear();
    slots_.clear();
  }

 private:
  static constexpr std::size_t kFewMembers = 16;  // compared one by one, without an index

  static std::ptrdiff_t offset(std::size_t position) { return static_cast<std::ptrdiff_t>(position); }

  // The place of `key` among the members, or size().
  std::size_t position(std::string_view key) const {
    if (slots_.empty()) {
      std::size_t at = 0;
      while (at < this->size() && (*this).data()[at].first != key) ++at;
      return at;
    }
    const std::uint32_t found = slots_[slot_of(key)];
    return found == 0 ? this->size() : found - 1;
  }

  // The slot that holds `key`, or the free slot where it belongs. Slots hold 1 + position, 0 where free; at most half are taken.
  std::size_t slot_of(std::string_view key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t slot = std::hash<std::string_view>{}(key)&mask;
    while (slots_[slot] != 0 && this->data()[slots_[slot] - 1].first != key) slot = (slot + 1) & mask;
    return slot;
  }

  void add_to_index(std::size_t at) {
    if (this->size() <= kFewMembers) return;
    if (slots_.size() < 2 * this->size()) return rebuild_index();
    slots_[slot_of(this->data()[at].first)] = static_cast<std::uint32_t>(at + 1);
  }

  void rebuild_index() {
    slots_.clear();
    if (this->size() <= kFewMembers) return;
    std::size_t capacity = 4 * kFewMembers;
    while (capacity < 3 * this->size()) capacity *= 2;
    slots_.resize(capacity, 0);
    for (std::size_t at = 0; at < this->size(); ++at) {
      slots_[slot_of(this->data()[at].first)] = static_cast<std::uint32_t>(at + 1);
    }
  }

  std::vector<std::uint32_t> slots_;  // a power of two, or empty
};

}  // namespace puna
