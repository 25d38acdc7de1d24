// SPDX-License-Identifier: Apache-2.0
#include "text/sentencepiece_bpe.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "base/error.h"
#include "text/unicode.h"

namespace puna {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";          // U+2581
constexpr std::string_view kUnknownText = " \xE2\x81\x87 ";  // what the library decodes an unknown piece to
constexpr std::size_t kLongestText = 0x7FFFFFFF;

// A pair of neighbours whose joined text is a piece. Stale when the left symbol, or what follows it, has changed.
struct PieceCandidate {
  float score;
  std::int32_t left, right;
  std::uint32_t size;  // of both together, in bytes

  bool operator<(const PieceCandidate& other) const { return score != other.score ? score < other.score : left > other.left; }
};

std::string with_spaces(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with(kSpace)) {
      result += ' ';
      at += kSpace.size();
    } else {
      result += text[at++];
    }
  }
  return result;
}

}  // namespace

// A piece of the text: a node of a doubly linked list that lies in an array in text order. Size 0: joined to the one before.
struct SentencePieceBpe::Symbol {
  std::uint32_t begin, size;
  std::int32_t previous, next;
  bool frozen;  // user defined: never merged
};

struct SentencePieceBpe::Work {
  std::string text;  // normalized
  std::vector<Symbol> symbols;
  std::vector<PieceCandidate> heap;
  std::unordered_map<std::string_view, std::uint32_t> cuts;  // where a merge made an unused piece, its left side's size

  void drop_trailing(std::string_view space) {
    while (text.ends_with(space)) {
      text.resize(text.size() - space.size());
      symbols.pop_back();
      if (!symbols.empty()) symbols.back().next = -1;
    }
  }

  void push(std::size_t begin, bool frozen) {
    const auto index = static_cast<std::int32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(text.size() - begin), index - 1, -1, frozen});
  }
};

SentencePieceBpe::SentencePieceBpe(SentencePieceVocabulary vocabulary, const std::string& where)
    : pieces_(vocabulary.pieces.size()),
      add_dummy_prefix_(vocabulary.add_dummy_prefix),
      remove_extra_spaces_(vocabulary.remove_extra_spaces),
      escape_spaces_(vocabulary.escape_spaces) {
  kind_ = "SentencePiece";
  size_ = static_cast<int>(vocabulary.pieces.size());
  byte_ids_.fill(PieceTable::kNone);
  std::vector<std::pair<std::string, Token>> specials, user_defined;
  for (std::uint32_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const SentencePiece& piece = vocabulary.pieces[id];
    if (piece.text.empty()) fail(ErrorKind::kBadInput, where, "piece {} is empty", id);
    if (!(piece.score == piece.score)) fail(ErrorKind::kBadInput, where, "the score of piece {} is not a number", id);
    const bool mergeable =
        piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined || piece.type == PieceType::kUnused;
    if (!pieces_.add(id, piece.text, mergeable))
      fail(ErrorKind::kBadInput, where, "piece {} repeats the text of an earlier one", id);
    scores_.push_back(piece.score);
    types_.push_back(piece.type);
    has_unused_ |= piece.type == PieceType::kUnused;
    if (piece.type == PieceType::kUnknown && unknown_ == PieceTable::kNone) unknown_ = id;
    if (piece.type == PieceType::kControl) specials.emplace_back(piece.text, static_cast<Token>(id));
    if (piece.type == PieceType::kUserDefined) user_defined.emplace_back(piece.text, static_cast<Token>(id));
    if (piece.type == PieceType::kByte) read_byte_piece(piece, id, where);
  }
  has_bytes_ = std::count(byte_ids_.begin(), byte_ids_.end(), PieceTable::kNone) == 0;
  if (!has_bytes_ && unknown_ == PieceTable::kNone) {
    fail(ErrorKind::kBadInput, where, "the vocabulary has neither all 256 byte pieces nor an unknown piece, expected one of them");
  }
  user_defined_ = NameMatcher(std::move(user_defined));
  set_names(std::move(specials), {});
}

SentencePieceVocabulary SentencePieceBpe::vocabulary() const {
  SentencePieceVocabulary vocabulary{{}, add_dummy_prefix_, remove_extra_spaces_, escape_spaces_};
  for (std::uint32_t id = 0; id < pieces_.size(); ++id) {
    vocabulary.pieces.push_back({std::string(pieces_.bytes(id)), scores_[id], types_[id]});
  }
  return vocabulary;
}

void SentencePieceBpe::read_byte_piece(const SentencePiece& piece, std::uint32_t id, const std::string& where) {
  int byte = -1;
  const char* const end = piece.text.data() + piece.text.size();
  const bool shaped = piece.text.size() == 6 && piece.text.starts_with("<0x") && piece.text.ends_with('>') &&
                      std::from_chars(piece.text.data() + 3, end - 1, byte, 16).ptr == end - 1;
  if (!shaped || byte < 0)
    fail(ErrorKind::kBadInput, where, "the byte piece {} is named \"{}\", expected <0x00> to <0xFF>", id, piece.text);
  byte_ids_[static_cast<std::size_t>(byte)] = id;
}

void SentencePieceBpe::append_space(Work& work) const {
  const std::size_t begin = work.text.size();
  if (escape_spaces_) {
    work.text += kSpace;
  } else {
    work.text += ' ';
  }
  work.push(begin, false);
}

// Cuts the text into characters, user defined pieces and bytes that are not UTF-8; handles spaces as the model's file says. Of
// those between `before` and the text, the file's rule leaves one, which goes to the text: `before` was encoded without.
void SentencePieceBpe::normalize(std::string_view before, std::string_view text, Work& work) const {
  bool space_first = before.empty() && add_dummy_prefix_;
  if (remove_extra_spaces_) {
    const bool continues = before.find_first_not_of(' ') != std::string_view::npos;
    space_first = continues ? before.ends_with(' ') || text.starts_with(' ') : add_dummy_prefix_;
    while (text.starts_with(' ')) text.remove_prefix(1);
  }
  if (text.empty()) return;
  work.text.reserve(text.size() + text.size() / 4 + kSpace.size());
  work.symbols.reserve(text.size() + 1);
  if (space_first) append_space(work);
  bool after_space = false;
  while (!text.empty()) {
    const auto defined = user_defined_.empty() ? std::nullopt : user_defined_.prefix(text);
    const std::size_t size = defined ? defined->size : std::max<std::size_t>(1, static_cast<std::size_t>(decode_utf8(text).bytes));
    const bool space = !defined && text[0] == ' ';
    if (space) {
      if (!(remove_extra_spaces_ && after_space)) append_space(work);
    } else {
      const std::size_t begin = work.text.size();
      work.text += text.substr(0, size);
      work.push(begin, defined.has_value());
    }
    after_space = space;
    text.remove_prefix(size);
  }
  if (remove_extra_spaces_) work.drop_trailing(escape_spaces_ ? kSpace : " ");  // a written U+2581 counts as one, as in the library
}

void SentencePieceBpe::consider(Work& work, std::int32_t left) const {
  if (left < 0) return;
  const Symbol& a = work.symbols[static_cast<std::size_t>(left)];
  if (a.next < 0) return;
  const Symbol& b = work.symbols[static_cast<std::size_t>(a.next)];
  if (a.frozen || b.frozen) return;
  const std::uint32_t size = a.size + b.size;
  const std::uint32_t id = pieces_.find(std::string_view(work.text).substr(a.begin, size));
  if (id == PieceTable::kNone) return;
  if (has_unused_ && types_[id] == PieceType::kUnused)
    work.cuts.try_emplace(std::string_view(work.text).substr(a.begin, size), a.size);
  work.heap.push_back({scores_[id], left, a.next, size});
  std::push_heap(work.heap.begin(), work.heap.end());
}

void SentencePieceBpe::merge(Work& work) const {
  for (std::size_t i = 0; i + 1 < work.symbols.size(); ++i) consider(work, static_cast<std::int32_t>(i));
  while (!work.heap.empty()) {
    std::pop_heap(work.heap.begin(), work.heap.end());
    const PieceCandidate top = work.heap.back();
    work.heap.pop_back();
    Symbol& left = work.symbols[static_cast<std::size_t>(top.left)];
    Symbol& right = work.symbols[static_cast<std::size_t>(top.right)];
    if (left.size == 0 || right.size == 0 || left.size + right.size != top.size) continue;
    left.size = top.size;
    left.next = right.next;
    right.size = 0;
    if (right.next >= 0) work.symbols[static_cast<std::size_t>(right.next)].previous = top.left;
    consider(work, left.previous);
    consider(work, top.left);
  }
}

// A merged symbol as tokens. An unused piece is cut again where it was last joined; the depth is bounded by its length in the
// vocabulary, and kept off the stack.
void SentencePieceBpe::emit(const Work& work, std::string_view piece, std::vector<Token>& tokens) const {
  std::vector<std::string_view> open = {piece};
  while (!open.empty()) {
    const std::string_view part = open.back();
    open.pop_back();
    const std::uint32_t id = pieces_.find(part);
    if (id != PieceTable::kNone && types_[id] == PieceType::kUnused) {
      if (const auto cut = work.cuts.find(part); cut != work.cuts.end()) {
        open.push_back(part.substr(cut->second));
        open.push_back(part.substr(0, cut->second));
        continue;
      }
    }
    if (id != PieceTable::kNone) {
      tokens.push_back(static_cast<Token>(id));
    } else if (has_bytes_) {
      for (const char byte : part) tokens.push_back(static_cast<Token>(byte_ids_[static_cast<unsigned char>(byte)]));
    } else {
      tokens.push_back(static_cast<Token>(unknown_));
    }
  }
}

std::vector<Token> SentencePieceBpe::encode_continuation(std::string_view before, std::string_view text) const {
  std::vector<Token> tokens;
  encode_behind(before, text, tokens);
  return tokens;
}

void SentencePieceBpe::encode_behind(std::string_view before, std::string_view text, std::vector<Token>& tokens) const {
  if (text.size() > kLongestText / 4) {
    fail(ErrorKind::kUnsupported, "tokenizer", "a text of {} bytes, at most {} can be encoded at once: cut it into documents",
         text.size(), kLongestText / 4);
  }
  Work work;
  normalize(before, text, work);
  merge(work);
  const std::size_t start = tokens.size();
  for (std::int32_t at = work.symbols.empty() ? -1 : 0; at >= 0; at = work.symbols[static_cast<std::size_t>(at)].next) {
    const Symbol& symbol = work.symbols[static_cast<std::size_t>(at)];
    const std::string_view piece = std::string_view(work.text).substr(symbol.begin, symbol.size);
    const std::uint32_t id = pieces_.find(piece);
    if (id != PieceTable::kNone && types_[id] != PieceType::kUnused) {
      tokens.push_back(static_cast<Token>(id));
      continue;
    }
    const bool after_unknown =
        !has_bytes_ && id == PieceTable::kNone && tokens.size() > start && tokens.back() == static_cast<Token>(unknown_);
    if (!after_unknown) emit(work, piece, tokens);  // a run of unknown characters is one unknown token
  }
}

std::string SentencePieceBpe::bytes_of(Token token) const {
  const auto index = static_cast<std::uint32_t>(id(token));
  const std::string_view text = pieces_.bytes(index);
  if (types_[index] == PieceType::kUnknown) return std::string(kUnknownText);
  if (types_[index] != PieceType::kByte) return escape_spaces_ ? with_spaces(text) : std::string(text);
  int byte = 0;
  std::from_chars(text.data() + 3, text.data() + 5, byte, 16);
  return std::string(1, static_cast<char>(byte));
}

}  // namespace puna
