// SPDX-License-Identifier: Apache-2.0
#include "text/byte_bpe.h"

#include <algorithm>
#include <cstddef>

#include "base/error.h"
#include "text/unicode.h"

namespace puna {
namespace {

std::array<std::uint32_t, 256> find_bytes(const PieceTable& pieces, const std::string& where) {
  std::array<std::uint32_t, 256> ids{};
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    ids[static_cast<std::size_t>(byte)] = pieces.find(std::string_view(&text, 1));
    if (ids[static_cast<std::size_t>(byte)] == PieceTable::kNone) {
      fail(ErrorKind::kBadInput, where,
           "the vocabulary has no token for the byte 0x{:02X}, expected all 256: not a byte-level BPE file, or a damaged one",
           byte);
    }
  }
  return ids;
}

// Code point of the alphabet → byte; -1 for any other. Printable Latin-1 stands for itself, the 68 other bytes for U+0100...
std::array<int, 0x144> build_alphabet() {
  std::array<int, 0x144> bytes{};
  bytes.fill(-1);
  int others = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    bytes[static_cast<std::size_t>(printable ? byte : 0x100 + others++)] = byte;
  }
  return bytes;
}

}  // namespace

std::vector<BpeRule> rules_of_ranks(const PieceTable& pieces) {
  std::vector<BpeRule> rules;
  rules.reserve(3 * pieces.size());
  for (std::uint32_t id = 0; id < pieces.size(); ++id) {
    const std::string_view bytes = pieces.bytes(id);
    if (bytes.size() < 2 || pieces.find(bytes) != id) continue;
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      const std::uint32_t left = pieces.find(bytes.substr(0, cut));
      if (left == PieceTable::kNone) continue;
      const std::uint32_t right = pieces.find(bytes.substr(cut));
      if (right != PieceTable::kNone) rules.push_back({left, right, id});
    }
  }
  return rules;
}

bool append_alphabet_bytes(std::string_view text, std::string& bytes) {
  static const std::array<int, 0x144> alphabet = build_alphabet();
  while (!text.empty()) {
    const DecodedChar c = decode_utf8(text);
    if (c.bytes == 0 || c.code >= alphabet.size() || alphabet[c.code] < 0) return false;
    bytes += static_cast<char>(alphabet[c.code]);
    text.remove_prefix(static_cast<std::size_t>(c.bytes));
  }
  return true;
}

void append_in_alphabet(std::string_view bytes, std::string& text) {
  static const std::array<std::string, 256> characters = [] {
    std::array<std::string, 256> result;
    const std::array<int, 0x144> alphabet = build_alphabet();
    for (std::size_t code = 0; code < alphabet.size(); ++code) {
      if (alphabet[code] >= 0) append_utf8(static_cast<char32_t>(code), result[static_cast<std::size_t>(alphabet[code])]);
    }
    return result;
  }();
  for (const char byte : bytes) text += characters[static_cast<unsigned char>(byte)];
}

BpeRule alphabet_rule(std::string_view left, std::string_view right, std::size_t number, const PieceTable& pieces,
                      const std::string& where) {
  thread_local std::string bytes;
  bytes.clear();
  BpeRule rule{PieceTable::kNone, PieceTable::kNone, PieceTable::kNone};
  if (append_alphabet_bytes(left, bytes)) {
    const std::size_t cut = bytes.size();
    if (append_alphabet_bytes(right, bytes)) {
      const std::string_view joined = bytes;
      rule = {pieces.find(joined.substr(0, cut)), pieces.find(joined.substr(cut)), pieces.find(joined)};
    }
  }
  if (rule.left == PieceTable::kNone || rule.right == PieceTable::kNone || rule.merged == PieceTable::kNone) {
    fail(ErrorKind::kBadInput, where,
         "merge {} joins \"{}\" and \"{}\", which with their result are not all tokens: the file is damaged", number, left, right);
  }
  return rule;
}

ByteBpe::ByteBpe(ByteBpeVocabulary vocabulary, const std::vector<BpeRule>& rules, const std::string& where)
    : byte_ids_(find_bytes(vocabulary.pieces, where)) {
  if (vocabulary.pieces.size() > BpeMerges::kMaxIds || rules.size() > BpeMerges::kMaxRules) {
    fail(ErrorKind::kUnsupported, where, "a vocabulary of {} tokens and {} merges, at most {} and {} can be held",
         vocabulary.pieces.size(), rules.size(), BpeMerges::kMaxIds, BpeMerges::kMaxRules);
  }
  merges_ = BpeMerges(byte_ids_, rules.size());
  for (const BpeRule& rule : rules) merges_.add(rule.left, rule.right, rule.merged);
  merges_.finish();
  take(std::move(vocabulary));
  if (!whole_pieces_) keep_reachable_pieces();
}

void ByteBpe::take(ByteBpeVocabulary&& vocabulary) {
  kind_ = "byte-level BPE";
  size_ = static_cast<int>(vocabulary.pieces.size());
  pieces_ = std::move(vocabulary.pieces);
  pattern_ = vocabulary.pattern;
  whole_pieces_ = vocabulary.whole_pieces;
  set_names(std::move(vocabulary.specials), std::move(vocabulary.added));
}

std::vector<BpeRule> ByteBpe::rules() const {
  std::vector<std::pair<std::uint32_t, BpeRule>> ranked;
  merges_.visit_rules([&](std::uint32_t rank, std::uint32_t left, std::uint32_t right, std::uint32_t merged) {
    ranked.push_back({rank, {left, right, merged}});
  });
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<BpeRule> rules;
  rules.reserve(ranked.size());
  for (const auto& [rank, rule] : ranked) rules.push_back(rule);
  return rules;
}

// Without `ignore_merges` a piece may be looked up whole only if merging its bytes arrives at the same token.
void ByteBpe::keep_reachable_pieces() {
  PieceTable kept(pieces_.size());
  std::vector<Token> tokens;
  for (std::uint32_t id = 0; id < pieces_.size(); ++id) {
    const std::string_view bytes = pieces_.bytes(id);
    tokens.clear();
    if (pieces_.find(bytes) == id) merges_.encode(bytes, tokens);
    kept.add(id, bytes, tokens.size() == 1 && tokens[0] == static_cast<Token>(id));
  }
  pieces_ = std::move(kept);
}

void ByteBpe::encode_text(std::string_view text, std::vector<Token>& tokens) const {
  while (!text.empty()) {
    const std::string_view valid = text.substr(0, valid_utf8_prefix(text));
    split_text(pattern_, valid, [&](std::string_view piece) {
      const std::uint32_t id = pieces_.find(piece);
      if (id != PieceTable::kNone) {
        tokens.push_back(static_cast<Token>(id));
      } else {
        merges_.encode(piece, tokens);
      }
    });
    text.remove_prefix(valid.size());
    if (text.empty()) break;
    tokens.push_back(static_cast<Token>(byte_ids_[static_cast<unsigned char>(text[0])]));  // not UTF-8: a piece of its own
    text.remove_prefix(1);
  }
}

std::string ByteBpe::bytes_of(Token token) const { return std::string(pieces_.bytes(static_cast<std::uint32_t>(id(token)))); }

}  // namespace puna
