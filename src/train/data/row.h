// SPDX-License-Identifier: Apache-2.0
// A row of data as read, before it becomes tokens; and the readers, one for each kind of row.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/chat.h"
#include "train/data/data_options.h"
#include "train/data/data_report.h"

namespace puna {

// A row that cannot be used. The loader counts it; no one else sees it.
class RowError : public Error {
 public:
  RowError(DropReason reason, const std::string& message) : Error(ErrorKind::kBadInput, "", message), reason_(reason) {}
  DropReason reason() const { return reason_; }

 private:
  DropReason reason_;
};

struct TextPart {
  std::string text;
  bool trained = true;
};

// Either plain text or a conversation; behind either, two or more answers that it is the prompt of.
struct Row {
  std::vector<TextPart> parts;                // plain text: the parts follow each other without anything between
  std::vector<Message> messages;              // a conversation …
  std::vector<bool> trained;                  // … and of each message, whether it may be trained (assistant's only)
  std::vector<std::vector<Message>> answers;  // to the conversation, best first
  std::vector<std::string> text_answers;      // to the plain text, best first
  std::vector<Tool> tools;
  std::vector<std::string> builtin_tools;
  std::string today;                // the day of a conversation, instead of DataOptions::date; empty: that one
  bool begins = true, ends = true;  // of plain text: this is the document's beginning, its end
};

// Throws RowError. `kind` is one of JSON's kinds; plain strings per DataOptions::plain_strings.
Row read_json_row(DataKind kind, std::string_view json, bool plain_strings);
// The same for a text, which must be UTF-8.
Row read_text_row(std::string_view text);

// The kind of the first row that is an object with known fields. Throws kBadInput naming `where`, and the fields that there are.
DataKind recognise_rows(std::span<const std::string_view> first_rows, const std::string& where);

}  // namespace puna
