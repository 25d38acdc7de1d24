// SPDX-License-Identifier: Apache-2.0
// `puna train-tokenizer`: a vocabulary of one's own from text. Reads what training reads: text files, rows of JSON in any of the
// known shapes, compressed or not. Every document, message and answer is a text of its own.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "tensor/atomic_file.h"
#include "text/bpe_trainer.h"
#include "text/tokenizer_export.h"
#include "train/data/data_report.h"
#include "train/data/row.h"
#include "train/data/row_file.h"
#include "train/data/source_files.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

struct TrainTokenizerFlags {
  std::vector<std::string> inputs, special;
  std::string out = "tokenizer.json";
  std::uint64_t vocabulary = 32000;
  std::uint64_t min_frequency = 2;
  double memory_gb = 2;
  int reserved = 0, threads = 0;
  bool only_special = false, force = false, json = false;
};

BpeTrainerOptions trainer_options(const TrainTokenizerFlags& flags) {
  if (!(flags.memory_gb > 0 && flags.memory_gb <= 1e6)) {
    fail(ErrorKind::kUsage, "--memory", "{} GB for the words, expected more than 0", flags.memory_gb);
  }
  BpeTrainerOptions options;
  options.vocabulary_size = flags.vocabulary;
  options.min_frequency = flags.min_frequency;
  options.word_memory = static_cast<std::uint64_t>(flags.memory_gb * 1e9);
  options.specials = flags.only_special ? std::vector<std::string>() : llama31_special_tokens(flags.reserved);
  options.specials.insert(options.specials.end(), flags.special.begin(), flags.special.end());
  return options;
}

std::vector<fs::path> input_files(const TrainTokenizerFlags& flags) {
  std::vector<fs::path> files;
  for (const std::string& input : flags.inputs) {
    const std::vector<fs::path> found = source_files(input);
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

void check_out(const TrainTokenizerFlags& flags, const std::vector<fs::path>& inputs) {
  if (fs::is_directory(flags.out)) fail(ErrorKind::kUsage, flags.out, "is a folder: give the name of the file to write");
  check_not_read(flags.out, inputs);
  if (fs::exists(flags.out) && !flags.force) fail(ErrorKind::kUsage, flags.out, "exists already: --force overwrites it");
}

class TextReader {
 public:
  explicit TextReader(BpeTrainer& trainer) : trainer_(trainer) {}

  void read(const fs::path& path, ProgressBar& bar) {
    const RowFile file(path, DataKind::kAuto, DataOptions());
    if (file.holds_tokens()) {
      fail(ErrorKind::kUnsupported, path.string(), "holds tokens, not text: give the text that it was made from");
    }
    const std::uint64_t size = fs::file_size(path), rows = static_cast<std::uint64_t>(file.rows());
    for (std::uint64_t row = 0; row < rows; ++row) {
      read_row(file, static_cast<std::int64_t>(row));
      bar.set(done_ +
              static_cast<std::uint64_t>(static_cast<double>(size) * static_cast<double>(row + 1) / static_cast<double>(rows)));
    }
    done_ += size;
  }

  const DataReport& report() const { return report_; }

 private:
  void read_row(const RowFile& file, std::int64_t index) {
    if (file.kind() == DataKind::kText) {
      trainer_.add(file.row(index));
      if (file.ends_document(index)) trainer_.end_document();
      report_.add_used();
      return;
    }
    try {
      add(read_json_row(file.kind(), file.row(index), true));
      report_.add_used();
    } catch (const RowError& error) {
      report_.add(error.reason(), [&] { return file.where(index) + ": " + error.what(); });
    }
  }

  void add(const Row& row) {
    for (const TextPart& part : row.parts) trainer_.add(part.text);
    trainer_.end_document();
    add(row.messages);
    for (const std::vector<Message>& answer : row.answers) add(answer);
    for (const std::string& answer : row.text_answers) add(answer);
  }
  void add(const std::vector<Message>& messages) {
    for (const Message& message : messages) {
      add(message.content);
      for (const ToolCall& call : message.tool_calls) add(dump_json(call.arguments));
    }
  }
  void add(const std::string& text) {
    trainer_.add(text);
    trainer_.end_document();
  }

  BpeTrainer& trainer_;
  DataReport report_;
  std::uint64_t done_ = 0;  // bytes of files, as they lie on the disk
};

DataReport read_inputs(const std::vector<fs::path>& files, BpeTrainer& trainer) {
  std::uint64_t bytes = 0;
  for (const fs::path& file : files) bytes += fs::file_size(file);
  TextReader reader(trainer);
  ProgressBar bar("reading", bytes, "bytes");
  for (const fs::path& file : files) reader.read(file, bar);
  return reader.report();
}

struct Outcome {
  int tokens = 0;
  std::size_t specials = 0;
  double seconds = 0;
};

void report(const TrainTokenizerFlags& flags, const BpeTrainingReport& trained, const DataReport& rows, const Outcome& outcome) {
  if (flags.json) {
    return write_json({{"path", flags.out},
                       {"tokens", outcome.tokens},
                       {"merges", trained.merges},
                       {"special_tokens", outcome.specials},
                       {"bytes", trained.bytes},
                       {"words", trained.words},
                       {"forgotten_words", trained.forgotten_words},
                       {"rows", rows.to_json()},
                       {"seconds", outcome.seconds}});
  }
  std::string text =
      fmt::format("{}: {} tokens ({} merges, {} special) from {} of text, {} different words, in {:.1f} s\n", flags.out,
                  outcome.tokens, trained.merges, outcome.specials, human_bytes(trained.bytes), trained.words, outcome.seconds);
  if (static_cast<std::uint64_t>(outcome.tokens) < flags.vocabulary) {
    text += fmt::format("note: no pair is left that occurs {} times: the text is too small for {} tokens\n", flags.min_frequency,
                        flags.vocabulary);
  }
  if (trained.forgotten_words > 0) {
    text += fmt::format("note: {} rare words were forgotten to stay within {} GB: --memory allows more\n", trained.forgotten_words,
                        flags.memory_gb);
  }
  if (rows.dropped() > 0) text += rows.text();
  write_text(text);
}

void train_tokenizer(const TrainTokenizerFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<fs::path> files = input_files(flags);
  check_out(flags, files);
  ThreadPool pool(flags.threads);
  BpeTrainerOptions options = trainer_options(flags);
  std::optional<ProgressBar> bar;
  options.progress = [&](std::size_t made, std::size_t wanted) {
    if (!bar) bar.emplace("merging", wanted, "merges");
    bar->set(made);
  };
  BpeTrainer trainer(options, pool);
  const DataReport rows = read_inputs(files, trainer);
  const auto tokenizer = trainer.train();
  bar.reset();
  if (trainer.report().words == 0) {
    fail(ErrorKind::kBadInput, flags.inputs.front(), "there is no text to train on: every row is empty or cannot be used\n{}",
         rows.text());
  }
  AtomicFile file(flags.out);
  file.write(tokenizer_json_text(export_gguf_vocabulary(*tokenizer, flags.out)));
  file.commit();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  report(flags, trainer.report(), rows, {tokenizer->size(), options.specials.size(), seconds});
}

}  // namespace

VerbAction declare_train_tokenizer(Command& command) {
  const auto flags = std::make_shared<TrainTokenizerFlags>();
  command.positional("INPUT", &flags->inputs, "text or JSON files, folders, patterns; .gz and .zst too").required = true;
  command.flag("-o,--out", "FILE", &flags->out, "the file to write (default tokenizer.json)");
  command.flag("--vocab", "N", &flags->vocabulary, "tokens, with the 256 bytes and the special ones (default 32000)");
  command.flag("--min-frequency", "N", &flags->min_frequency, "join no pair that occurs less often (default 2)");
  command.flag("--special", "NAME", &flags->special, "one more special token; may be repeated");
  command.flag("--reserved", "N", &flags->reserved, "how many <|reserved_special_token_N|> to make, at most 248 (default 0)");
  command.flag("--only-special", &flags->only_special, "without the special tokens of Llama 3.1");
  command.flag("--memory", "GB", &flags->memory_gb, "for words: beyond it the rarest are forgotten (default 2)");
  command.flag("--force", &flags->force, "overwrite the file");
  add_threads(command, flags->threads);
  add_json(command, flags->json);
  return [flags] { train_tokenizer(*flags); };
}

}  // namespace puna
