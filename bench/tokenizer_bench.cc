// SPDX-License-Identifier: Apache-2.0
// Tokenizer: bytes per second of encode() over books, one thread, and the time to load each kind of file.
// The vocabulary is ../shared/data/llama3_tokenizer/tokenizer.model; without it nothing is measured.
#include <benchmark/benchmark.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "text/tokenizer.h"
#include "text/tokenizer_export.h"

namespace {

const std::filesystem::path kData = std::filesystem::path(PUNA_SOURCE_DIR).parent_path() / "shared" / "data";

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

const puna::Tokenizer* llama3() {
  static const auto tokenizer = std::filesystem::exists(kData / "llama3_tokenizer/tokenizer.model")
                                    ? puna::load_tokenizer_file(kData / "llama3_tokenizer/tokenizer.model")
                                    : nullptr;
  return tokenizer.get();
}

void encode(benchmark::State& state, const std::string& file) {
  const std::string text = read(kData / file);
  if (llama3() == nullptr || text.empty()) return state.SkipWithError("needs ../shared/data");
  for (auto _ : state) benchmark::DoNotOptimize(llama3()->encode(text));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(text.size()));
}

void decode(benchmark::State& state) {
  const std::string text = read(kData / "books/en_moby_dick.txt");
  if (llama3() == nullptr || text.empty()) return state.SkipWithError("needs ../shared/data");
  const auto tokens = llama3()->encode(text);
  for (auto _ : state) benchmark::DoNotOptimize(llama3()->decode(tokens));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(text.size()));
}

void one_letter(benchmark::State& state) {
  const std::string text(1 << 20, 'a');
  if (llama3() == nullptr) return state.SkipWithError("needs ../shared/data");
  for (auto _ : state) benchmark::DoNotOptimize(llama3()->encode(text));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(text.size()));
}

void load_tiktoken(benchmark::State& state) {
  if (llama3() == nullptr) return state.SkipWithError("needs ../shared/data");
  for (auto _ : state) benchmark::DoNotOptimize(puna::load_tokenizer_file(kData / "llama3_tokenizer/tokenizer.model"));
}

// The same vocabulary as the other two kinds of file hold it: 128,256 tokens and 280,147 merges.
void load_json(benchmark::State& state) {
  if (llama3() == nullptr) return state.SkipWithError("needs ../shared/data");
  const std::string json = puna::tokenizer_json_text(puna::export_gguf_vocabulary(*llama3(), "bench"));
  for (auto _ : state) benchmark::DoNotOptimize(puna::tokenizer_from_json(json, "bench"));
}

void load_gguf(benchmark::State& state) {
  if (llama3() == nullptr) return state.SkipWithError("needs ../shared/data");
  const puna::GgufVocabulary vocabulary = puna::export_gguf_vocabulary(*llama3(), "bench");
  for (auto _ : state) {
    state.PauseTiming();
    puna::GgufVocabulary copy = vocabulary;
    state.ResumeTiming();
    benchmark::DoNotOptimize(puna::tokenizer_from_gguf(std::move(copy), "bench"));
  }
}

void encode_sentencepiece(benchmark::State& state) {
  const std::string text = read(kData / "tinyshakespeare/input.txt") + read(kData / "books/en_alice.txt");
  if (!std::filesystem::exists(kData / "stories260K/tok512.model")) return state.SkipWithError("needs ../shared/data");
  const auto tokenizer = puna::load_tokenizer_file(kData / "stories260K/tok512.model");
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->encode(text));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(text.size()));
}

BENCHMARK_CAPTURE(encode, english, std::string("books/en_moby_dick.txt"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, spanish, std::string("books/es_quijote.txt"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, hindi, std::string("udhr/udhr_hin.txt"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, thai, std::string("udhr/udhr_tha.txt"))->Unit(benchmark::kMillisecond);
BENCHMARK(decode)->Unit(benchmark::kMillisecond);
BENCHMARK(one_letter)->Unit(benchmark::kMillisecond);
BENCHMARK(load_tiktoken)->Unit(benchmark::kMillisecond);
BENCHMARK(load_json)->Unit(benchmark::kMillisecond);
BENCHMARK(load_gguf)->Unit(benchmark::kMillisecond);
BENCHMARK(encode_sentencepiece)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
