// SPDX-License-Identifier: Apache-2.0
// `puna score`: what the model says of given tokens. The cache is F32 unless asked otherwise: these numbers are for comparing.
#include "infer/score.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "quant/output_path.h"
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

void check_length(const Checkpoint& checkpoint, std::int64_t count) {
  const std::int64_t most = checkpoint.config.context;
  if (count <= most) return;
  fail(ErrorKind::kNoRoom, "context",
       "{} tokens are to be scored at once, the model allows {}: shorten the text (puna perplexity takes longer ones, in windows)",
       count, most);
}

// --logits, row by row. An earlier result is overwritten, a file that is read is not.
class LogitsFile {
 public:
  LogitsFile(const ScoreFlags& flags, const Checkpoint& checkpoint, std::vector<std::int64_t> positions, std::int64_t count)
      : positions_(std::move(positions)) {
    const std::int64_t rows = positions_.empty() ? count : static_cast<std::int64_t>(positions_.size());
    const std::int64_t columns = checkpoint.config.vocabulary;
    std::vector<std::filesystem::path> inputs = files_read(checkpoint);
    inputs.insert(inputs.end(), {flags.tokens, flags.source.file});
    check_not_read(flags.logits, inputs);
    check_room(flags.logits, NpyWriter::kHeaderBytes + rows * columns * static_cast<std::int64_t>(sizeof(float)));
    npy_.emplace(flags.logits, rows, columns);
  }

  void keep(std::int64_t position, std::span<const float> logits) {
    stop_if(&interrupt_flag());
    if (positions_.empty() || std::ranges::binary_search(positions_, position)) npy_->append(logits);
  }
  void finish() { npy_->finish(); }

 private:
  InterruptScope scope_{SecondPress::kEndsProcess};  // so that Ctrl-C takes away what is not finished
  std::vector<std::int64_t> positions_;              // none: all
  std::optional<NpyWriter> npy_;
};

std::vector<double> score_and_write(Engine& engine, const std::vector<Token>& tokens, LogitsFile& file) {
  const auto keep = [&](std::int64_t position, std::span<const float> logits) { file.keep(position, logits); };
  std::vector<double> logprobs = score_tokens(engine, tokens, keep);
  file.finish();
  return logprobs;
}

void score(const ScoreFlags& flags) {
  if (flags.logits.empty() && !flags.positions.empty())
    fail(ErrorKind::kUsage, "--positions", "chooses rows of --logits: give that too");
  const std::shared_ptr<const Checkpoint> checkpoint = open_model(flags.model);
  const std::vector<Token> tokens = tokens_to_score(*checkpoint, flags);
  if (tokens.empty())
    fail(ErrorKind::kUsage, flags.tokens.empty() ? "score" : flags.tokens, "there are no tokens: give at least one");
  const auto count = static_cast<std::int64_t>(tokens.size());
  check_length(*checkpoint, count);
  std::vector<std::int64_t> positions;
  if (!flags.positions.empty()) positions = parse_positions(flags.positions, count, "--positions");
  std::optional<LogitsFile> logits;
  if (!flags.logits.empty()) logits.emplace(flags, *checkpoint, std::move(positions), count);
  EngineOptions options = scoring_options(flags.engine, checkpoint->config);
  if (options.context == 0) options.context = count;
  Engine engine(checkpoint, options);
  const std::vector<double> logprobs = logits ? score_and_write(engine, tokens, *logits) : score_tokens(engine, tokens);
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
  Flag& text = command.flag("--text", "TEXT", &flags->source.text, "score this text instead");
  text.given = &flags->source.given;
  text.may_be_empty = true;
  command.flag("-f,--file", "FILE", &flags->source.file, "score the text of this file");
  command.flag("--logits", "FILE", &flags->logits, "write the logits of every position as a NumPy file, float32 [T, V]");
  command.flag("--positions", "LIST", &flags->positions, "keep only these rows of --logits, ascending: 0,63,8192");
  add_json(command, flags->json);
  add_engine_flags(command, flags->engine);
  return [flags] { score(*flags); };
}

}  // namespace puna
