// SPDX-License-Identifier: Apache-2.0
// `puna bench`: tokens per second of prefill and of decoding, as llama-bench counts them: random token ids, logits of the last
// token only, decoding from an empty context or behind --filled positions, for one sequence or --batch of them at once. The median
// of the repeats after one that is not counted.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "base/random.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/random_model.h"
#include "cli/verb.h"
#include "kernels/device.h"

namespace puna {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchFlags {
  std::string model, shape, type = "q8_0";
  std::int64_t prompt = 512, decode = 64, batch = 1, filled = 0;
  int repeats = 3;
  bool json = false, type_given = false;
  EngineFlags engine;
};

struct Speeds {
  double prefill = 0, decode = 0;  // tokens per second; 0: not measured
  double load_ms = 0;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::shared_ptr<Checkpoint> model_to_measure(const BenchFlags& flags) {
  if (flags.model.empty() == flags.shape.empty()) fail(ErrorKind::kUsage, "bench", "give a MODEL, or --shape with --type");
  if (flags.type_given && flags.shape.empty())
    fail(ErrorKind::kUsage, "--type", "is for --shape: a MODEL is measured in the formats that it has");
  if (!flags.model.empty()) return open_model(flags.model);
  const ModelConfig config = shape_of_flag(flags.shape);
  ThreadPool pool(flags.engine.threads);
  return random_model(config, flags.type, pool);
}

// A sequence of the engine's cache, given back at the end.
class Sequence {
 public:
  explicit Sequence(Engine& engine) : engine_(engine), id_(engine.cache().add_sequence()) {}
  ~Sequence() { engine_.cache().remove_sequence(id_); }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;
  int id() const { return id_; }

 private:
  Engine& engine_;
  int id_;
};

std::vector<Token> random_tokens(std::int64_t count, std::int64_t vocabulary) {
  std::vector<Token> tokens;
  for (std::int64_t t = 0; t < count; ++t) {
    const std::uint64_t bits = random_bits(2, 0, static_cast<std::uint64_t>(t));
    tokens.push_back(static_cast<Token>(bits % static_cast<std::uint64_t>(vocabulary)));
  }
  return tokens;
}

double prefill_seconds(Engine& engine, const std::vector<Token>& tokens) {
  const Sequence sequence(engine);
  const Clock::time_point start = Clock::now();
  engine.append(sequence.id(), tokens);
  return seconds_since(start);
}

// Sequences of `filled` positions each, and one more.
class FilledSequences {
 public:
  FilledSequences(Engine& engine, const BenchFlags& flags, std::span<const Token> tokens) : engine_(engine) {
    for (std::int64_t i = 0; i < flags.batch; ++i) {
      sequences_.push_back(std::make_unique<Sequence>(engine));
      engine.append(sequences_.back()->id(), tokens.first(static_cast<std::size_t>(flags.filled + 1)));
      parts_.push_back({sequences_.back()->id(), 1});
      rows_.push_back(static_cast<std::int32_t>(i));
    }
  }

  // Every sequence's next token is the likeliest one, chosen where the logits are.
  double decode_seconds(std::int64_t steps) {
    std::vector<Token> next(parts_.size(), Token{1});
    const Clock::time_point start = Clock::now();
    for (std::int64_t step = 0; step < steps; ++step) {
      engine_.model().forward({.tokens = next, .parts = parts_, .logit_rows = rows_, .likeliest_only = true}, engine_.cache());
      const std::span<const std::int32_t> likeliest = engine_.model().likeliest();
      std::ranges::transform(likeliest, next.begin(), [](std::int32_t token) { return static_cast<Token>(token); });
    }
    return seconds_since(start);
  }
  void cut(std::int64_t length) {
    for (const Batch::Part& part : parts_) engine_.cache().truncate(part.sequence, length);
  }

 private:
  Engine& engine_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<Batch::Part> parts_;
  std::vector<std::int32_t> rows_;
};

// Tokens per second of the median run. The first run is a warm-up: it reads the weights into memory.
double median_rate(int repeats, std::int64_t tokens, ProgressBar& bar, const std::function<double()>& run) {
  if (tokens == 0) return 0;
  std::vector<double> seconds;
  for (int repeat = 0; repeat <= repeats; ++repeat, bar.advance(1)) {
    const double took = run();
    if (repeat > 0) seconds.push_back(took);
  }
  std::sort(seconds.begin(), seconds.end());
  const std::size_t middle = seconds.size() / 2;
  const double median = seconds.size() % 2 == 1 ? seconds[middle] : (seconds[middle - 1] + seconds[middle]) / 2;
  return static_cast<double>(tokens) / median;
}

std::int64_t peak_rss_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

void print(const BenchFlags& flags, const Engine& engine, const Speeds& speeds) {
  const std::int64_t rss = peak_rss_bytes();
  const std::string name = flags.model.empty() ? flags.shape + " " + flags.type : flags.model;
  if (flags.json) {
    const auto rate = [](double value) { return value > 0 ? Json(value) : Json(); };
    return write_json({{"prefill_tps", rate(speeds.prefill)},
                       {"decode_tps", rate(speeds.decode)},
                       {"peak_rss_bytes", rss},
                       {"load_ms", speeds.load_ms},
                       {"model", name},
                       {"weight_bytes", engine.checkpoint().weight_bytes},
                       {"prompt_tokens", flags.prompt},
                       {"decode_tokens", flags.decode},
                       {"batch", flags.batch},
                       {"filled", flags.filled},
                       {"device", engine.device()},
                       {"stages", engine.stages()},
                       {"ranks", engine.ranks()},
                       {"repeats", flags.repeats},
                       {"threads", engine.threads()},
                       {"kv", flags.engine.kv},
                       {"instruction_set", instruction_set()}});
  }
  const bool on_cpu = engine.device() == "cpu";
  std::string text =
      fmt::format("{}, {} of weights, {}", name, human_bytes(static_cast<std::uint64_t>(engine.checkpoint().weight_bytes)),
                  on_cpu ? fmt::format("{} threads, {}", engine.threads(), instruction_set()) : engine.device());
  if (engine.stages() > 1) text += fmt::format(", {} stages", engine.stages());
  if (engine.ranks() > 1) text += fmt::format(", {} ranks that sum over {}", engine.ranks(), engine.sums());
  text += "\n";
  if (speeds.prefill > 0) text += fmt::format("prefill  {:>9.2f} tokens/s  (a prompt of {})\n", speeds.prefill, flags.prompt);
  if (speeds.decode > 0)
    text += fmt::format("decode   {:>9.2f} tokens/s  ({} {}{})\n", speeds.decode, flags.decode,
                        flags.filled == 0 ? "from an empty context" : fmt::format("behind {} positions", flags.filled),
                        flags.batch == 1 ? "" : fmt::format(", {} sequences at once", flags.batch));
  text +=
      fmt::format("load     {:>9.1f} ms\nmemory   {:>9} at most\n", speeds.load_ms, human_bytes(static_cast<std::uint64_t>(rss)));
  write_text(text);
}

void bench(BenchFlags flags) {
  if (flags.prompt == 0 && flags.decode == 0) fail(ErrorKind::kUsage, "bench", "-p 0 and -n 0 leave nothing to measure");
  Speeds speeds;
  const Clock::time_point start = Clock::now();
  const std::shared_ptr<const Checkpoint> checkpoint = model_to_measure(flags);
  const std::int64_t longest = std::max(flags.prompt, flags.filled + flags.decode + 1);
  if (flags.engine.context == 0) flags.engine.context = longest;
  EngineOptions options = engine_options(flags.engine);
  options.sequences = static_cast<int>(flags.batch);
  options.logit_rows = flags.batch;
  Engine engine(checkpoint, options);
  speeds.load_ms = seconds_since(start) * 1000;
  const std::vector<Token> tokens = random_tokens(longest, checkpoint->config.vocabulary);
  const std::vector<Token> prompt(tokens.begin(), tokens.begin() + flags.prompt);
  const int parts = (flags.prompt > 0 ? 1 : 0) + (flags.decode > 0 ? 1 : 0);
  {
    ProgressBar bar("bench", static_cast<std::uint64_t>(parts) * static_cast<std::uint64_t>(flags.repeats + 1), "runs");
    speeds.prefill = median_rate(flags.repeats, flags.prompt, bar, [&] { return prefill_seconds(engine, prompt); });
    if (flags.decode > 0) {
      FilledSequences sequences(engine, flags, tokens);
      speeds.decode = median_rate(flags.repeats, flags.decode * flags.batch, bar, [&] {
        sequences.cut(flags.filled + 1);
        return sequences.decode_seconds(flags.decode);
      });
    }
  }
  print(flags, engine, speeds);
}

}  // namespace

VerbAction declare_bench(Command& command) {
  const auto flags = std::make_shared<BenchFlags>();
  constexpr std::int64_t kMost = 1 << 24;
  command.positional("MODEL", &flags->model, "a GGUF file, a model folder, or a name in the cache");
  command.flag("--shape", "1b|3b|8b|70b|405b", &flags->shape,
               "instead of MODEL: random weights of this Llama's shape, made in memory");
  command.flag("--type", "TYPE", &flags->type, "what the weights of --shape are stored as, as in puna quantize (default q8_0)")
      .given = &flags->type_given;
  command.flag("-p,--prompt-tokens", "N", &flags->prompt, "tokens to prefill; 0: not measured (default 512)").range = {0, kMost};
  command.flag("-n,--decode-tokens", "N", &flags->decode, "tokens to decode; 0: not measured (default 64)").range = {0, kMost};
  command.flag("-b,--batch", "N", &flags->batch, "sequences that are decoded at once (default 1)").range = {1, 4096};
  command.flag("--filled", "N", &flags->filled, "positions that each sequence has before it is decoded (default 0)").range = {
      0, kMost};
  command.flag("-r,--repeats", "N", &flags->repeats, "runs that count, after a warm-up (default 3)").range = {1, 1000};
  add_json(command, flags->json);
  add_engine_flags(command, flags->engine);
  return [flags] { bench(*flags); };
}

}  // namespace puna
