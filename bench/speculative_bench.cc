// SPDX-License-Identifier: Apache-2.0
// What proposals gain where a pass costs what it does for a large model, on texts of a trained one. There is no large trained model
// here, so the model inside the program is stretched: its weights stand in the corners of matrices of a 1B Llama's widths and
// depth, zeros fill the rest, and its answers stay what they were. Q8_0, 1.1 GB, all of it read for every pass.
//   1. the cost of a pass over 1 to 7 rows
//   2. answers plain, by look-up, with nano itself as the draft (the same function: a bound), and with nano in Q4_0
// Every round takes all ways in turn; medians of the rounds. An answer that is not the plain one ends the program.
// Arguments: tokens of an answer (48), rounds (5), threads (0: all).
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "infer/drafter.h"
#include "infer/generate.h"
#include "model/built_in.h"
#include "model/checkpoint.h"
#include "text/chat.h"

namespace puna {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// A copy of every weight in `format`, in the corner of its place in `config`, times factor(role).
std::shared_ptr<Checkpoint> copied(const Checkpoint& from, const ModelConfig& config, Format format,
                                   const std::function<double(const Shape&)>& factor) {
  auto copy = std::make_shared<Checkpoint>();
  copy->config = config;
  copy->tokenizer = from.tokenizer;
  copy->prompt_format = from.prompt_format;
  copy->where = "a copy of nano";
  copy->weights.layers.resize(static_cast<std::size_t>(config.layers));
  for (const WeightRoleInfo& role : weight_roles()) {
    for (std::int64_t layer = 0; layer < (role.per_layer ? config.layers : 1); ++layer) {
      const Shape shape = weight_shape(config, role.role);
      const Format own = shape.rank() == 1 ? Format::kF32 : format;
      const auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(format_bytes(own, shape.count())));
      const std::size_t row_bytes = bytes->size() / static_cast<std::size_t>(shape.rows());
      std::vector<float> row(static_cast<std::size_t>(shape.row_length()));
      const Tensor* const source = layer < from.config.layers || !role.per_layer ? &from.weights.at(role.role, layer) : nullptr;
      for (std::int64_t n = 0; n < shape.rows(); ++n) {
        std::ranges::fill(row, 0.0F);
        if (source != nullptr && n < source->shape.rows()) decode_row(*source, n, row.data());
        for (float& value : row) value *= static_cast<float>(factor(shape));
        info(own).encode(row.data(), bytes->data() + static_cast<std::size_t>(n) * row_bytes, shape.row_length());
      }
      copy->weights.at(role.role, layer) = {.name = "copy", .format = own, .shape = shape, .bytes = *bytes, .row_scales = {}};
      copy->weight_bytes += static_cast<std::int64_t>(bytes->size());
      copy->owners.push_back(bytes);
    }
  }
  return copy;
}

// The zeros make the mean square of a state smaller: norms make up for it, and their epsilon shrinks alike.
std::shared_ptr<Checkpoint> stretched(const Checkpoint& from) {
  ModelConfig config = from.config;
  config.layers = 16;
  config.width = 2048;
  config.heads = 32;
  config.kv_heads = config.heads * from.config.kv_heads / from.config.heads;
  config.feed_forward = 8192;
  const double part = static_cast<double>(from.config.width) / static_cast<double>(config.width);
  config.norm_eps = from.config.norm_eps * part;
  return copied(from, config, Format::kQ8_0, [&](const Shape& shape) { return shape.rank() == 1 ? std::sqrt(part) : 1.0; });
}

void print_pass_costs(Engine& engine, int rounds) {
  const int sequence = engine.cache().add_sequence();
  std::vector<Token> tokens(64, Token{100});
  engine.append(sequence, tokens);
  std::vector<std::vector<double>> seconds(kPanelRows);
  for (int round = 0; round <= 4 * rounds; ++round) {
    for (std::size_t rows = 1; rows < kPanelRows; ++rows) {
      const Clock::time_point start = Clock::now();
      engine.append_few(sequence, std::span(tokens).first(rows));
      if (round > 0) seconds[rows].push_back(seconds_since(start));
      engine.cache().truncate(sequence, 64);
    }
  }
  engine.cache().remove_sequence(sequence);
  for (std::size_t rows = 1; rows < kPanelRows; ++rows)
    fmt::print("pass of {} rows  {:7.2f} ms  {:.2f} of one row\n", rows, 1000 * median(seconds[rows]),
               median(seconds[rows]) / median(seconds[1]));
}

struct Way {
  std::string name;
  std::shared_ptr<Drafter> drafter;
  std::vector<double> rates = {};  // tokens per second, one per round
  std::int64_t drafted = 0, accepted = 0;
};

std::vector<Token> prompt_of(const Checkpoint& checkpoint, const std::string& question) {
  const std::vector<Message> messages{{.role = Role::kUser, .content = question, .tool_calls = {}, .tool_call_id = {}}};
  return encode_prompt(checkpoint.need_tokenizer(), render_prompt(checkpoint.need_prompt_format(), messages,
                                                                  {.tools = {}, .builtin_tools = {}, .date = "26 Jul 2024"}));
}

void print_answers(Engine& engine, std::vector<Way> ways, std::int64_t most, int rounds) {
  const std::vector<std::string> questions{"Tell me about the weather.", "What is the capital of France?", "Who are you?"};
  GenerateOptions options;
  options.sampler.temperature = 0;
  options.max_tokens = most;
  options.ignore_end = true;
  for (int round = 0; round < rounds; ++round) {
    std::vector<double> seconds(ways.size());
    for (const std::string& question : questions) {
      std::vector<Token> plain;
      for (std::size_t w = 0; w < ways.size(); ++w) {
        options.drafter = ways[w].drafter;
        const Generation generation = Session(engine).generate(prompt_of(engine.checkpoint(), question), options);
        if (w == 0) plain = generation.tokens;
        if (generation.tokens != plain) fail(ErrorKind::kInternal, ways[w].name, "is another answer than the plain one");
        seconds[w] += generation.decode_seconds;
        ways[w].drafted += generation.drafted;
        ways[w].accepted += generation.accepted;
      }
    }
    for (std::size_t w = 0; w < ways.size(); ++w)
      ways[w].rates.push_back(static_cast<double>(most) * static_cast<double>(questions.size()) / seconds[w]);
  }
  for (const Way& way : ways)
    fmt::print("{:<14} {:6.2f} tokens/s  {:.2f} of plain  {} of {} proposals taken\n", way.name, median(way.rates),
               median(way.rates) / median(ways[0].rates), way.accepted, way.drafted);
}

void run(std::int64_t tokens, int rounds, int threads) {
  const std::shared_ptr<const Checkpoint> nano = open_checkpoint(kBuiltInPath);
  const EngineOptions options{.threads = threads, .context = 1024, .logit_rows = kPanelRows - 1};
  Engine engine(stretched(*nano), options);
  const auto q4_0 = copied(*nano, nano->config, Format::kQ4_0, [](const Shape&) { return 1.0; });
  print_pass_costs(engine, rounds);
  print_answers(engine,
                {{"plain", nullptr},
                 {"look-up", lookup_drafter()},
                 {"draft nano", model_drafter(std::make_shared<Engine>(nano, options))},
                 {"draft in Q4_0", model_drafter(std::make_shared<Engine>(q4_0, options))}},
                tokens, rounds);
}

}  // namespace
}  // namespace puna

int main(int argc, char** argv) {
  const auto argument = [&](int index, int otherwise) { return index < argc ? std::atoi(argv[index]) : otherwise; };
  try {
    puna::run(argument(1, 48), argument(2, 5), argument(3, 0));
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
