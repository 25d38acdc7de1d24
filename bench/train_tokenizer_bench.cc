// SPDX-License-Identifier: Apache-2.0
// Training a tokenizer of 32,000 tokens on 128 MB of English-like text: reading the file, counting and merging.
// The text is drawn from the pieces of the English books of ../shared/data, with the frequencies they have there; every 64th is a
// word nobody has written, two of them joined, so that the number of different words keeps growing as it does in real text.
// $PUNA_BENCH_TEXT names a file to be trained on instead. Without either nothing is measured.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/random.h"
#include "text/bpe_trainer.h"
#include "text/split_pattern.h"

namespace {

const std::filesystem::path kBooks = std::filesystem::path(PUNA_SOURCE_DIR).parent_path() / "shared" / "data" / "books";
constexpr std::size_t kTextBytes = 128'000'000;
constexpr std::size_t kReadBytes = std::size_t{1} << 20;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string drawn_text() {
  std::string books;
  for (const char* name : {"en_alice", "en_frankenstein", "en_moby_dick", "en_pride_prejudice", "en_sherlock"}) {
    books += read(kBooks / (std::string(name) + ".txt"));
  }
  std::vector<std::string_view> pieces;
  puna::split_text(puna::SplitPattern::kLlama3, books, [&](std::string_view piece) { pieces.push_back(piece); });
  std::string text;
  text.reserve(kTextBytes + 100);
  for (std::uint64_t i = 0; !pieces.empty() && text.size() < kTextBytes; ++i) {
    const std::uint64_t bits = puna::random_bits(1, 0, i);
    text += pieces[bits % pieces.size()];
    if (bits >> 58 != 0) continue;
    const std::string_view second = pieces[(bits >> 20) % pieces.size()];
    text += second.substr(second.front() == ' ' ? 1 : 0);
  }
  return text;
}

const std::filesystem::path& text_file() {
  static const std::filesystem::path path = [] {
    if (const char* given = std::getenv("PUNA_BENCH_TEXT")) return std::filesystem::path(given);
    const auto made = std::filesystem::temp_directory_path() / "puna_train_tokenizer_bench.txt";
    std::ofstream(made, std::ios::binary) << drawn_text();
    return made;
  }();
  return path;
}

void train(benchmark::State& state) {
  if (std::filesystem::file_size(text_file()) == 0) return state.SkipWithError("needs ../shared/data/books or $PUNA_BENCH_TEXT");
  puna::ThreadPool pool(static_cast<int>(state.range(0)));
  puna::BpeTrainingReport report;
  for (auto _ : state) {
    puna::BpeTrainer trainer({}, pool);
    std::ifstream file(text_file(), std::ios::binary);
    std::string part(kReadBytes, '\0');
    while (file.read(part.data(), static_cast<std::streamsize>(part.size())), file.gcount() > 0) {
      trainer.add(std::string_view(part).substr(0, static_cast<std::size_t>(file.gcount())));
    }
    benchmark::DoNotOptimize(trainer.train());
    report = trainer.report();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * report.bytes));
  state.counters["words"] = static_cast<double>(report.words);
  state.counters["merges"] = static_cast<double>(report.merges);
}

BENCHMARK(train)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime()->MeasureProcessCPUTime();

}  // namespace

BENCHMARK_MAIN();
