// SPDX-License-Identifier: Apache-2.0
// Meta's tokenizer.model of Llama 3: one line per token, its bytes in base64 and its rank. The 256 special tokens are not in the
// file; their names here are those of llama-models' tokenizer.py (files of Hugging Face name 128005 and 128011 onwards
// differently).
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>

#include "base/error.h"
#include "text/byte_bpe.h"

namespace puna {
namespace {

constexpr int kSpecials = 256;
constexpr std::size_t kLongestToken = 1 << 16;

std::array<std::int8_t, 256> build_base64() {
  std::array<std::int8_t, 256> values{};
  values.fill(-1);
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < kDigits.size(); ++i) values[static_cast<unsigned char>(kDigits[i])] = static_cast<std::int8_t>(i);
  return values;
}

bool decode_base64(std::string_view text, std::string& bytes) {
  static const std::array<std::int8_t, 256> values = build_base64();
  bytes.clear();
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  if (text.size() % 4 == 1) return false;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const std::int8_t value = values[static_cast<unsigned char>(c)];
    if (value < 0) return false;
    bits = (bits << 6) | static_cast<std::uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes += static_cast<char>((bits >> held) & 0xFF);
    }
  }
  return true;
}

std::vector<std::pair<std::string, Token>> llama3_specials(int first) {
  constexpr std::array<std::string_view, 12> kNames = {"<|begin_of_text|>",
                                                       "<|end_of_text|>",
                                                       "<|reserved_special_token_0|>",
                                                       "<|reserved_special_token_1|>",
                                                       "<|finetune_right_pad_id|>",
                                                       "<|step_id|>",
                                                       "<|start_header_id|>",
                                                       "<|end_header_id|>",
                                                       "<|eom_id|>",
                                                       "<|eot_id|>",
                                                       "<|python_tag|>",
                                                       "<|image|>"};
  std::vector<std::pair<std::string, Token>> specials;
  for (const std::string_view name : kNames)
    specials.emplace_back(name, static_cast<Token>(first + static_cast<int>(specials.size())));
  for (int reserved = 2; static_cast<int>(specials.size()) < kSpecials; ++reserved) {
    specials.emplace_back(fmt::format("<|reserved_special_token_{}|>", reserved),
                          static_cast<Token>(first + static_cast<int>(specials.size())));
  }
  return specials;
}

std::string_view next_line(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::size_t count_lines(std::string_view bytes) {
  std::size_t lines = 0;
  while (!bytes.empty()) lines += next_line(bytes).empty() ? 0 : 1;
  return lines;
}

// "IQ== 0" into bytes and rank.
std::optional<std::uint32_t> parse_line(std::string_view line, std::string& bytes) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space > kLongestToken || !decode_base64(line.substr(0, space), bytes))
    return std::nullopt;
  std::uint32_t rank = 0;
  const auto [end, error] = std::from_chars(line.data() + space + 1, line.data() + line.size(), rank);
  if (error != std::errc() || end != line.data() + line.size() || bytes.empty()) return std::nullopt;
  return rank;
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_tiktoken(std::string_view bytes, const std::string& where) {
  const std::size_t ranks = count_lines(bytes);
  if (ranks > BpeMerges::kMaxIds - kSpecials) {
    fail(ErrorKind::kUnsupported, where, "{} ranks, at most {} can be held", ranks, BpeMerges::kMaxIds - kSpecials);
  }
  ByteBpeVocabulary vocabulary;
  vocabulary.pieces = PieceTable(ranks + kSpecials);
  std::vector<bool> seen(ranks);
  std::string piece;
  for (std::size_t number = 1; !bytes.empty(); ++number) {
    const std::string_view line = next_line(bytes);
    if (line.empty()) continue;
    const auto rank = parse_line(line, piece);
    if (!rank) fail(ErrorKind::kBadInput, where, "line {} is not a base64 token and its rank: the download is damaged", number);
    if (*rank >= ranks || seen[*rank]) {
      fail(ErrorKind::kBadInput, where, "line {} has rank {}, expected each of 0 to {} once: the file is cut short or damaged",
           number, *rank, ranks - 1);
    }
    seen[*rank] = true;
    if (!vocabulary.pieces.add(*rank, piece))
      fail(ErrorKind::kBadInput, where, "line {} repeats the bytes of an earlier token", number);
  }
  vocabulary.specials = llama3_specials(static_cast<int>(ranks));
  for (const auto& [name, token] : vocabulary.specials) vocabulary.pieces.add(static_cast<std::uint32_t>(id(token)), name, false);
  const std::vector<BpeRule> rules = rules_of_ranks(vocabulary.pieces);
  auto tokenizer = std::make_unique<ByteBpe>(std::move(vocabulary), rules, where);
  tokenizer->set_bos(tokenizer->bos(), true);
  return tokenizer;
}

}  // namespace puna
