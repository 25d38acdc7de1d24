// SPDX-License-Identifier: Apache-2.0
// Reads SentencePiece's .model: a protocol buffer (sentencepiece_model.proto) of pieces, trainer and normalizer settings. Only the
// fields that decide ids are read. Unigram models and character maps (nmt_nfkc) are refused: they would give other ids.
#include <bit>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "text/sentencepiece_bpe.h"

namespace puna {
namespace {

// Field numbers of sentencepiece_model.proto.
constexpr std::uint32_t kPieces = 1, kTrainer = 2, kNormalizer = 3;
constexpr std::uint32_t kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr std::uint32_t kModelType = 3, kSpaceAsSuffix = 24;
constexpr std::uint32_t kCharsMap = 2, kDummyPrefix = 3, kRemoveExtra = 4, kEscape = 5;
constexpr std::uint64_t kModelTypeBpe = 2;

// One field of a message: a number (wire types 0, 1, 5) or bytes (wire type 2).
struct Field {
  std::uint32_t number = 0;
  std::uint64_t value = 0;
  std::string_view bytes;
};

class ProtoReader {
 public:
  ProtoReader(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t key = varint();
    field = {static_cast<std::uint32_t>(key >> 3), 0, {}};
    if (field.number == 0) damaged();
    switch (key & 7) {
      case 0:
        field.value = varint();
        return true;
      case 1:
        field.value = fixed(8);
        return true;
      case 2:
        field.bytes = take(varint());
        return true;
      case 5:
        field.value = fixed(4);
        return true;
      default:
        damaged();
    }
  }

 private:
  [[noreturn]] void damaged() const {
    fail(ErrorKind::kBadInput, where_, "not a SentencePiece model: {} bytes before the end of a message it cannot be read further",
         rest_.size());
  }
  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) damaged();
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    damaged();
  }
  std::uint64_t fixed(std::size_t size) {
    std::uint64_t value = 0;
    const std::string_view bytes = take(size);
    for (std::size_t i = size; i-- > 0;) value = (value << 8) | static_cast<unsigned char>(bytes[i]);
    return value;
  }

  std::string_view rest_;
  const std::string& where_;
};

SentencePiece read_piece(std::string_view bytes, const std::string& where) {
  SentencePiece piece;
  ProtoReader reader(bytes, where);
  for (Field field; reader.next(field);) {
    if (field.number == kPieceText) piece.text = field.bytes;
    if (field.number == kPieceScore) piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    if (field.number == kPieceType) {
      if (field.value < 1 || field.value > 6)
        fail(ErrorKind::kBadInput, where, "a piece has the type {}, expected 1 to 6", field.value);
      piece.type = static_cast<PieceType>(field.value);
    }
  }
  return piece;
}

void read_trainer(std::string_view bytes, std::optional<std::uint64_t>& type, const std::string& where) {
  ProtoReader reader(bytes, where);
  for (Field field; reader.next(field);) {
    if (field.number == kModelType) type = field.value;
    if (field.number == kSpaceAsSuffix && field.value != 0) {
      fail(ErrorKind::kUnsupported, where,
           "the model puts spaces behind words (treat_whitespace_as_suffix), which is not supported");
    }
  }
}

void read_normalizer(std::string_view bytes, SentencePieceVocabulary& vocabulary, const std::string& where) {
  ProtoReader reader(bytes, where);
  for (Field field; reader.next(field);) {
    if (field.number == kDummyPrefix) vocabulary.add_dummy_prefix = field.value != 0;
    if (field.number == kRemoveExtra) vocabulary.remove_extra_spaces = field.value != 0;
    if (field.number == kEscape) vocabulary.escape_spaces = field.value != 0;
    if (field.number == kCharsMap && !field.bytes.empty()) {
      fail(ErrorKind::kUnsupported, where,
           "the model normalizes its text (a character map of {} bytes), expected the identity, as Llama 2 has it",
           field.bytes.size());
    }
  }
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view bytes, const std::string& where) {
  SentencePieceVocabulary vocabulary;
  vocabulary.remove_extra_spaces = true;  // the proto's default
  std::optional<std::uint64_t> type;
  ProtoReader reader(bytes, where);
  for (Field field; reader.next(field);) {
    if (field.number == kPieces) vocabulary.pieces.push_back(read_piece(field.bytes, where));
    if (field.number == kTrainer) read_trainer(field.bytes, type, where);
    if (field.number == kNormalizer) read_normalizer(field.bytes, vocabulary, where);
  }
  if (vocabulary.pieces.empty()) fail(ErrorKind::kBadInput, where, "not a SentencePiece model: it holds no pieces");
  if (type != kModelTypeBpe) {
    fail(ErrorKind::kUnsupported, where,
         "a SentencePiece model of type {}, expected BPE (2): unigram, word and character models are not supported",
         type.value_or(1));
  }
  auto tokenizer = std::make_unique<SentencePieceBpe>(std::move(vocabulary), where);
  tokenizer->set_bos(tokenizer->bos(), tokenizer->bos().has_value());
  return tokenizer;
}

}  // namespace puna
