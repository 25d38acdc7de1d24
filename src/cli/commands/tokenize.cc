// SPDX-License-Identifier: Apache-2.0
// `puna tokenize`: text to tokens, and with --decode back. Works on a bare tokenizer file too.
#include <memory>
#include <string>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/verb.h"

namespace puna {
namespace {

struct TokenizeFlags {
  std::string model, decode;
  TextSource source;
  bool json = false, bos = false, special = false;
};

void decode(const Tokenizer& tokenizer, const TokenizeFlags& flags) {
  if (flags.source.given || !flags.source.file.empty())
    fail(ErrorKind::kUsage, "--decode", "turns ids into text, and a text was given too: give one of them");
  if (flags.bos) fail(ErrorKind::kUsage, "--bos", "puts a token in front of a text: leave it out with --decode");
  const std::vector<Token> tokens = tokens_from_json(read_json_file(flags.decode), flags.decode);
  for (const Token token : tokens) {
    if (tokenizer.contains(token)) continue;
    fail(ErrorKind::kBadInput, flags.decode, "token {} is outside the vocabulary: ids are 0 to {}", id(token),
         tokenizer.size() - 1);
  }
  const std::string text = tokenizer.decode(tokens, flags.special);
  if (flags.json)
    write_json({{"text", text}});
  else
    write_text(text);
}

void print_table(const Tokenizer& tokenizer, const std::vector<Token>& tokens) {
  std::string table;
  for (const Token token : tokens) {
    const std::string quoted = dump_json(tokenizer.piece(token, true));
    table += fmt::format("{:>8}  {}{}\n", id(token), quoted, tokenizer.is_special(token) ? "  (special)" : "");
  }
  write_text(table);
}

void tokenize(const TokenizeFlags& flags) {
  const auto tokenizer = open_model_tokenizer(flags.model);
  if (!flags.decode.empty()) return decode(*tokenizer, flags);
  const std::string text = read_text_source(flags.source);
  std::vector<Token> tokens = flags.special ? tokenizer->encode_with_specials(text) : tokenizer->encode(text);
  if (flags.bos) {
    if (!tokenizer->bos())
      fail(ErrorKind::kUnsupported, flags.model, "this tokenizer has no token for the beginning: leave --bos out");
    tokens.insert(tokens.begin(), *tokenizer->bos());
  }
  if (flags.json)
    write_json({{"tokens", tokens_to_json(tokens)}});
  else
    print_table(*tokenizer, tokens);
}

}  // namespace

VerbAction declare_tokenize(Command& command) {
  const auto flags = std::make_shared<TokenizeFlags>();
  command.positional("MODEL", &flags->model, "a model, or a tokenizer file alone").required = true;
  Flag& text = command.positional("TEXT", &flags->source.text, "the text; without it and --file, standard input");
  text.given = &flags->source.given;
  text.may_be_empty = true;
  command.flag("-f,--file", "FILE", &flags->source.file, "read the text from a file");
  command.flag("--bos", &flags->bos, "put the beginning-of-text token in front");
  command.flag("--special", &flags->special,
               "the names of special tokens in the text become those tokens (with --decode: are shown)");
  command.flag("--decode", "FILE", &flags->decode, "turn the token ids of a JSON file into text (- is standard input)");
  add_json(command, flags->json);
  return [flags] { tokenize(*flags); };
}

}  // namespace puna
