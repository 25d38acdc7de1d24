// SPDX-License-Identifier: Apache-2.0
// Training data from outside: rows found in a text, read as every kind, and made into tokens. What becomes an example begins
// once, is trained somewhere, and holds no special token but the frame's; what does not is a RowError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "../train/byte_tokenizer.h"
#include "base/error.h"
#include "train/data/encode_example.h"
#include "train/data/row.h"
#include "train/data/row_index.h"
#include "train/data/token_shard.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check_offsets(const std::vector<std::uint64_t>& offsets, std::string_view text) {
  require(!offsets.empty() && offsets.back() <= text.size());
  for (std::size_t i = 1; i < offsets.size(); ++i) require(offsets[i - 1] <= offsets[i]);  // equal: "[1,]"
}

void check_example(const puna::Example& example, const puna::Tokenizer& tokenizer) {
  require(example.rows() > 0 && example.longest() > 0 && example.trained_tokens() > 0);
  require(example.answers.empty() ? example.trained.size() == example.tokens.size() : example.trained.empty());
  int begins = 0;
  for (const puna::Token token : example.tokens) begins += token == *tokenizer.bos() ? 1 : 0;
  for (const puna::AnswerTokens& answer : example.answers) {
    require(!answer.tokens.empty() && answer.counted.size() == answer.tokens.size());
    for (const puna::Token token : answer.tokens) require(token != *tokenizer.bos());
  }
  require(begins == 1 && example.tokens.front() == *tokenizer.bos());
}

void try_row(puna::DataKind kind, std::string_view text, bool plain_strings) {
  static const puna::ByteTokenizer tokenizer;
  puna::DataOptions options;
  options.sequence_length = 64;
  options.batch_tokens = 128;
  options.over_long = puna::OverLong::kTruncate;
  options.plain_strings = plain_strings;
  const puna::ExampleEncoder encoder(tokenizer, *puna::prompt_format_from_name(plain_strings ? "llama3.1-meta" : "llama3.1"),
                                     options);
  try {
    puna::Example example = encoder.encode(puna::read_json_row(kind, text, plain_strings));
    check_example(example, tokenizer);
    encoder.fit(example, options.sequence_length, options.batch_tokens);
    check_example(example, tokenizer);
    require(example.splittable || (example.longest() <= options.sequence_length && example.rows() <= options.batch_tokens));
  } catch (const puna::RowError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check_offsets(puna::line_offsets(bytes), bytes);
  check_offsets(puna::block_offsets(bytes), bytes);
  check_offsets(puna::part_offsets(bytes, 16), bytes);
  std::vector<std::string_view> rows = {bytes};
  try {
    const auto elements = puna::element_offsets(bytes, "fuzz");
    check_offsets(elements, bytes);
    for (std::size_t i = 0; i + 1 < elements.size() && i < 8; ++i) {
      rows.push_back(bytes.substr(elements[i], elements[i + 1] - elements[i]));
    }
  } catch (const puna::Error&) {
  }
  try {
    puna::recognise_rows(rows, "fuzz");
  } catch (const puna::Error&) {
  }
  for (const std::string_view name : puna::data_kinds()) {
    const puna::DataKind kind = *puna::data_kind_from_name(name);
    const bool is_json = kind != puna::DataKind::kAuto && kind != puna::DataKind::kText && kind != puna::DataKind::kTokens &&
                         kind != puna::DataKind::kTeacherTokens;
    if (!is_json) continue;
    try_row(kind, bytes, false);
    try_row(kind, bytes, true);
  }
  try {
    const puna::TokenShard shard(std::as_bytes(std::span(data, size)), "fuzz");
    for (std::int64_t d = 0; d < shard.documents(); ++d) require(!shard.document(d).empty());
  } catch (const puna::Error&) {
  }
  return 0;
}
