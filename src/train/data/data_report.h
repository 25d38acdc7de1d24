// SPDX-License-Identifier: Apache-2.0
// Which rows could not be used, and why: counted by reason, the first of each shown with file and line.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace puna {

enum class DropReason {
  kBrokenJson,
  kMissingField,
  kWrongType,
  kConversation,  // the prompt format cannot hold it: turns out of order, a tool's result without a call, an unknown role, …
  kText,          // not UTF-8
  kNothingTrained,
  kEqualAnswers,  // all answers are the same: nothing to prefer
  kOverLong,
  kTruncated,  // the only one whose rows are kept
};
inline constexpr std::size_t kDropReasons = 9;
std::string_view describe(DropReason reason);  // "broken JSON", "no trained token", …

class DataReport {
 public:
  static constexpr std::size_t kShown = 5;  // messages kept for each reason

  struct Entry {
    std::int64_t rows = 0;
    std::vector<std::string> first;  // "data/chat.jsonl:17: "messages" is missing", at most kShown
  };

  // `message` is a function that makes the text: it is called only where the text is kept.
  template <typename MakeMessage>
  void add(DropReason reason, const MakeMessage& message) {
    Entry& entry = entries_[static_cast<std::size_t>(reason)];
    if (++entry.rows <= static_cast<std::int64_t>(kShown)) entry.first.push_back(message());
  }
  void add_used() { ++used_; }

  const Entry& of(DropReason reason) const { return entries_[static_cast<std::size_t>(reason)]; }
  std::int64_t used() const { return used_; }
  std::int64_t dropped() const;  // without kTruncated

  // Lines for people: "1200 rows used, 3 left out" and one block per reason; nothing but the first line where all were used.
  std::string text() const;

  Json to_json() const;
  static DataReport from_json(const Json& value, const std::string& where);

 private:
  std::array<Entry, kDropReasons> entries_;
  std::int64_t used_ = 0;
};

}  // namespace puna
