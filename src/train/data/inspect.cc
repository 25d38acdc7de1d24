// SPDX-License-Identifier: Apache-2.0
#include "train/data/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "train/data/teacher_shard.h"

namespace puna {
namespace {

constexpr std::size_t kMostTokens = 2000;

// Data must not steer the terminal it is shown on.
std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1 = byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else if (c1) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string marked(const std::string& text, InspectStyle style) {
  if (style == InspectStyle::kPlain) return "«" + text + "»";
  return "\x1b[32;4m" + text + "\x1b[0m";
}

// Runs of tokens that are trained, and of those that are not. Of a very long text the middle is left out.
std::string render_tokens(const std::vector<Token>& tokens, const std::vector<bool>& trained, const Tokenizer& tokenizer,
                          InspectStyle style) {
  const std::size_t gap_begin = tokens.size() > kMostTokens ? kMostTokens / 2 : tokens.size();
  const std::size_t gap_end = tokens.size() > kMostTokens ? tokens.size() - kMostTokens / 2 : tokens.size();
  std::string out;
  for (std::size_t begin = 0, end = 0; begin < tokens.size(); begin = end) {
    if (begin == gap_begin) {
      out += fmt::format("\n[… {} tokens …]\n", gap_end - gap_begin);
      begin = gap_end;
    }
    const std::size_t most = begin < gap_begin ? gap_begin : tokens.size();
    std::string text;
    for (end = begin; end < most && trained[end] == trained[begin]; ++end) text += tokenizer.piece(tokens[end], true);
    out += trained[begin] ? marked(printable(text), style) : printable(text);
  }
  return out;
}

// What the teacher says of the first trained tokens: its three likeliest, and how much the others have.
std::string render_teacher(const Example& example, const Tokenizer& tokenizer) {
  constexpr std::int64_t kTokens = 5, kLikeliest = 3;
  const TeacherShard& shard = *example.teacher;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(shard.top_k()));
  std::vector<float> log_probs(ids.size());
  std::vector<std::size_t> order(ids.size());
  std::string out = fmt::format("the teacher's {} likeliest of {} tokens:\n", shard.top_k(), shard.vocabulary());
  std::int64_t offset = example.teacher_offset, shown = 0;
  const auto piece = [&](Token token) {
    return "'" + printable(tokenizer.contains(token) ? tokenizer.piece(token, true) : fmt::format("<{}>", id(token))) + "'";
  };
  for (std::size_t t = 0; t < example.tokens.size() && shown < kTokens; ++t) {
    if (!example.trained[t]) continue;
    const float rest = shard.read_row(offset, ids.data(), log_probs.data());
    offset += shard.row_bytes();
    ++shown;
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::greater<>(), [&](std::size_t i) { return log_probs[i]; });
    out += fmt::format("  {} is", piece(example.tokens[t]));
    for (std::size_t i = 0; i < std::min<std::size_t>(order.size(), kLikeliest); ++i)
      out += fmt::format(" {} {:.3f},", piece(Token{ids[order[i]]}), std::exp(log_probs[order[i]]));
    out += fmt::format(" outside all {:.4f}\n", std::exp(rest));
  }
  return out;
}

}  // namespace

std::string render_example(const Example& example, const Tokenizer& tokenizer, InspectStyle style) {
  if (example.answers.empty()) return render_tokens(example.tokens, example.trained, tokenizer, style) + "\n";
  std::string out = render_tokens(example.tokens, std::vector<bool>(example.tokens.size(), false), tokenizer, style) + "\n";
  for (const AnswerTokens& answer : example.answers) {
    out += fmt::format("[answer of rank {}]\n", answer.rank);
    out += render_tokens(answer.tokens, answer.counted, tokenizer, style) + "\n";
  }
  return out;
}

std::string inspect(Loader& loader, int count, InspectStyle style) {
  std::string out;
  for (const Loader::SourceState& source : loader.sources()) {
    out += fmt::format("{}: {} row{} of {} in {} file{}, {}\n", source.path, source.rows, source.rows == 1 ? "" : "s",
                       name_of(source.kind), source.files, source.files == 1 ? "" : "s",
                       human_bytes(static_cast<std::uint64_t>(source.bytes)));
  }
  const std::string state = loader.state();
  for (int i = 0; i < count; ++i) {
    const auto example = loader.next_example();
    if (!example) break;
    out += fmt::format("\n--- {}: {} rows, {} trained tokens\n", loader.where(example->index), example->rows(),
                       example->trained_tokens());
    out += render_example(*example, loader.tokenizer(), style);
    if (example->teacher != nullptr) out += render_teacher(*example, loader.tokenizer());
  }
  out += "\n" + loader.report().text();
  loader.restore(state);
  return out;
}

}  // namespace puna
