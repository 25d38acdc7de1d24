// SPDX-License-Identifier: Apache-2.0
// `puna score`: what the model says of given tokens. The cache is F32 unless asked otherwise: these numbers are for comparing.
#include "infer/score.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "tensor/npy.h"

namespace puna {
namespace {

struct ScoreFlags {
  std::string model, tokens, logits, positions;
  TextSource source;
  bool json = false;
  EngineFlags engine{.kv = "f32"};
};

std::vector<Token> tokens_to_score(const Checkpoint& checkpoint, const ScoreFlags& flags) {
  const bool text = flags.source.given || !flags.source.file.empty();
  if (!flags.tokens.empty() && text) fail(ErrorKind::kUsage, "--tokens", "tokens and a text were both given: give one of them");
  if (!flags.tokens.empty()) return tokens_from_json(read_json_file(flags.tokens), flags.tokens);
  const Tokenizer& tokenizer = checkpoint.need_tokenizer();
  std::vector<Token> tokens = tokenizer.encode(read_text_source(flags.source));
  if (tokenizer.adds_bos() && tokenizer.bos()) tokens.insert(tokens.begin(), *tokenizer.bos());
  return tokens;
}

void print_table(const Checkpoint& checkpoint, const std::vector<Token>& tokens, const std::vector<double>& logprobs) {
  std::string table;
  double sum = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const bool known = checkpoint.tokenizer && checkpoint.tokenizer->contains(tokens[t]);
    const std::string piece = known ? dump_json(checkpoint.tokenizer->piece(tokens[t], true)) : "";
    table += fmt::format("{:>8}  {:>10}  {}\n", id(tokens[t]), t == 0 ? "-" : fmt::format("{:.4f}", logprobs[t]), piece);
    if (t > 0) sum += logprobs[t];
  }
  const double count = static_cast<double>(tokens.size() - 1);
  if (count > 0) table += fmt::format("sum {:.4f}, mean {:.4f}, perplexity {:.4f}\n", sum, sum / count, std::exp(-sum / count));
  write_text(table);
}

void score(const ScoreFlags& flags) {
  if (flags.logits.empty() && !flags.positions.empty())
    fail(ErrorKind::kUsage, "--positions", "chooses rows of --logits: give that too");
  const std::shared_ptr<const Checkpoint> checkpoint = open_model(flags.model);
  const std::vector<Token> tokens = tokens_to_score(*checkpoint, flags);
  if (tokens.empty())
    fail(ErrorKind::kUsage, flags.tokens.empty() ? "score" : flags.tokens, "there are no tokens: give at least one");
  const auto count = static_cast<std::int64_t>(tokens.size());
  std::vector<std::int64_t> positions;
  if (!flags.positions.empty()) positions = parse_positions(flags.positions, count, "--positions");
  EngineOptions options = scoring_options(flags.engine, checkpoint->config);
  if (options.context == 0) options.context = count;
  Engine engine(checkpoint, options);
  std::optional<NpyWriter> npy;
  if (!flags.logits.empty()) npy.emplace(flags.logits, checkpoint->config.vocabulary);
  const auto keep = [&](std::int64_t position, std::span<const float> logits) {
    if (positions.empty() || std::binary_search(positions.begin(), positions.end(), position)) npy->append(logits);
  };
  const std::vector<double> logprobs = npy ? score_tokens(engine, tokens, keep) : score_tokens(engine, tokens);
  if (npy) npy->finish();
  if (!flags.json) return print_table(*checkpoint, tokens, logprobs);
  Json list = Json::array();
  for (const double logprob : logprobs) list.push_back(std::isnan(logprob) ? Json() : Json(logprob));
  write_json({{"tokens", tokens_to_json(tokens)}, {"logprobs", list}});
}

}  // namespace

VerbAction declare_score(Command& command) {
  const auto flags = std::make_shared<ScoreFlags>();
  add_model(command, flags->model);
  command.flag("--tokens", "FILE", &flags->tokens,
               "JSON file with the token ids, [1, 2] or {\"tokens\": [1, 2]} (- is standard input)");
  command.flag("--text", "TEXT", &flags->source.text, "score this text instead").given = &flags->source.given;
  command.flag("-f,--file", "FILE", &flags->source.file, "score the text of this file");
  command.flag("--logits", "FILE", &flags->logits, "write the logits of every position as a NumPy file, float32 [T, V]");
  command.flag("--positions", "LIST", &flags->positions, "keep only these rows of --logits, ascending: 0,63,8192");
  add_json(command, flags->json);
  add_engine_flags(command, flags->engine);
  return [flags] { score(*flags); };
}

}  // namespace puna
