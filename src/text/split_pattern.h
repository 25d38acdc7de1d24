// SPDX-License-Identifier: Apache-2.0
// Cuts text into the pieces that byte-level BPE merges within, exactly as the published regular expressions do, without an engine.
// Both run in linear time and without allocation. The text must be valid UTF-8.
//   Llama 3: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//   GPT-2:   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// What surprises: (?i:'s) also matches U+017F, whose simple case folding is s; the lookahead (?!\S) leaves the last space of a run
// to the word that follows.
#pragma once

#include <string_view>

#include "text/unicode.h"

namespace puna {

enum class SplitPattern { kLlama3, kGpt2 };

// The pattern as tokenizer.json writes it.
inline constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

class Splitter {
 public:
  explicit Splitter(std::string_view text) : end_(text.data() + text.size()), classes_(char_classes()) {}

  // The end of the piece that starts at `at`, which is inside the text.
  const char* llama3(const char* at) const;
  const char* gpt2(const char* at) const;

 private:
  struct Char {
    CharClass cls;
    const char* next;
  };
  Char read(const char* at) const;
  CharClass class_at(const char* at) const { return at < end_ ? read(at).cls : CharClass::kNewline; }
  const char* skip(const char* at, CharClass cls) const;
  const char* contraction(const char* at, bool any_case) const;
  const char* whitespace(const char* at, bool stop_after_newlines) const;

  const char* end_;
  const CharClass* classes_;
};

// Calls emit(std::string_view piece) for every piece, in order; together they are the text.
template <typename Emit>
void split_text(SplitPattern pattern, std::string_view text, Emit&& emit) {
  const Splitter splitter(text);
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const char* const next = pattern == SplitPattern::kLlama3 ? splitter.llama3(at) : splitter.gpt2(at);
    emit(std::string_view(at, static_cast<std::size_t>(next - at)));
    at = next;
  }
}

inline Splitter::Char Splitter::read(const char* at) const {
  const auto* bytes = reinterpret_cast<const unsigned char*>(at);
  const unsigned char lead = bytes[0];
  if (lead < 0x80) return {classes_[lead], at + 1};
  if (lead < 0xE0) return {classes_[((lead & 0x1F) << 6) | (bytes[1] & 0x3F)], at + 2};
  if (lead < 0xF0) return {classes_[((lead & 0x0F) << 12) | ((bytes[1] & 0x3F) << 6) | (bytes[2] & 0x3F)], at + 3};
  return {classes_[((lead & 0x07) << 18) | ((bytes[1] & 0x3F) << 12) | ((bytes[2] & 0x3F) << 6) | (bytes[3] & 0x3F)], at + 4};
}

inline const char* Splitter::skip(const char* at, CharClass cls) const {
  while (at < end_) {
    const Char c = read(at);
    if (c.cls != cls) break;
    at = c.next;
  }
  return at;
}

inline const char* Splitter::llama3(const char* at) const {
  const Char first = read(at);
  if (first.cls == CharClass::kLetter) return skip(first.next, CharClass::kLetter);
  if (first.cls == CharClass::kNumber) {
    const char* next = first.next;
    for (int i = 1; i < 3 && class_at(next) == CharClass::kNumber; ++i) next = read(next).next;
    return next;
  }
  if (*at == '\'') {
    if (const char* next = contraction(at, true)) return next;
  }
  if (first.cls != CharClass::kNewline && class_at(first.next) == CharClass::kLetter) return skip(first.next, CharClass::kLetter);
  const char* mark = *at == ' ' ? first.next : at;
  if (class_at(mark) == CharClass::kOther) return skip(skip(mark, CharClass::kOther), CharClass::kNewline);
  return whitespace(at, true);
}

}  // namespace puna
