// SPDX-License-Identifier: Apache-2.0
#include "text/word_stream.h"

#include <algorithm>
#include <map>
#include <utility>

#include "text/split_pattern.h"
#include "text/unicode.h"

namespace puna {
namespace {

constexpr char kBetweenDocuments = '\xFF';  // no byte of UTF-8, so it ends a piece and joins nothing

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// Where the character that ends before `at` starts, if its bytes say so.
std::size_t character_before(std::string_view text, std::size_t at) {
  std::size_t start = at - 1;
  while (start > 0 && at - start < 4 && is_continuation(text[start])) --start;
  return start;
}

bool is_border(std::string_view text, std::size_t at) {
  if (text[at - 1] == kBetweenDocuments) return true;
  const std::size_t start = character_before(text, at);
  const DecodedChar before = decode_utf8(text.substr(start));
  if (before.bytes == 0 || start + static_cast<std::size_t>(before.bytes) != at) return false;
  if (char_classes()[before.code] != CharClass::kLetter) return false;
  const DecodedChar after = decode_utf8(text.substr(at));
  return after.bytes > 0 && char_classes()[after.code] != CharClass::kLetter;
}

}  // namespace

std::size_t WordStream::cut(std::string_view text) {
  for (std::size_t at = text.size(); at > 0; --at) {
    if (is_border(text, at)) return at;
  }
  const std::size_t last = character_before(text, text.size());
  const bool whole = last == 0 || decode_utf8(text.substr(last)).bytes > 0 || static_cast<unsigned char>(text[last]) < 0xC2;
  return whole ? text.size() : last;
}

void WordStream::add(std::string_view text) {
  bytes_ += text.size();
  while (!text.empty()) {
    const std::size_t begin = ends_.empty() ? 0 : ends_.back();
    const std::size_t part = std::min(text.size(), kChunk - (pending_.size() - begin));
    pending_ += text.substr(0, part);
    text.remove_prefix(part);
    if (pending_.size() - begin < kChunk) break;
    ends_.push_back(begin + cut(std::string_view(pending_).substr(begin)));
    if (ends_.size() == kRound) count_round();
  }
}

void WordStream::end_document() {
  add(std::string_view(&kBetweenDocuments, 1));
  --bytes_;
}

ShardedWordCounts WordStream::finish() {
  ends_.push_back(pending_.size());
  count_round();
  return std::exchange(words_, {});
}

void WordStream::count_round() {
  pool_.run([&](int thread) {
    for (auto i = static_cast<std::size_t>(thread); i < ends_.size(); i += local_.size()) {
      const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
      count_chunk(std::string_view(pending_).substr(begin, ends_[i] - begin), local_[static_cast<std::size_t>(thread)]);
    }
  });
  pool_.run([&](int thread) {
    for (auto shard = static_cast<std::size_t>(thread); shard < ShardedWordCounts::kShards; shard += local_.size()) {
      for (ShardedWordCounts& counted : local_) words_.take_shard(shard, counted);
    }
  });
  pending_.erase(0, ends_.back());
  ends_.clear();
  keep_within_memory();
}

void WordStream::count_chunk(std::string_view chunk, ShardedWordCounts& words) const {
  while (!chunk.empty()) {
    const std::string_view valid = chunk.substr(0, valid_utf8_prefix(chunk));
    split_text(SplitPattern::kLlama3, valid, [&](std::string_view piece) {
      if (piece.size() > 1) words.add(piece, 1);
    });
    chunk.remove_prefix(std::min(chunk.size(), valid.size() + 1));  // and the byte that is not UTF-8
  }
}

void WordStream::keep_within_memory() {
  if (word_cost(words_.size(), words_.bytes()) <= memory_) return;
  std::map<std::uint64_t, std::uint64_t> cost_of_count;
  words_.visit([&](std::string_view word, std::uint64_t count) { cost_of_count[count] += word_cost(1, word.size()); });
  std::uint64_t cost = word_cost(words_.size(), words_.bytes());
  auto rarest = cost_of_count.begin();
  for (; rarest != cost_of_count.end() && cost > memory_ / 4 * 3; ++rarest) cost -= rarest->second;
  const std::size_t before = words_.size();
  words_.drop_below(rarest == cost_of_count.end() ? ~std::uint64_t{0} : rarest->first);
  forgotten_ += before - words_.size();
}

}  // namespace puna
