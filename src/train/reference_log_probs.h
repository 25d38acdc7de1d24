// SPDX-License-Identifier: Apache-2.0
// What a reference says of every answer of the data, asked once before the first step and kept in the run's folder, so that the
// reference is in memory no longer when the run trains.
// Answers are known by what they are: the key is a hash of the prompt's and the answer's tokens and of which of them count. So
// neither the order of the data, nor epochs, nor the cutting into batches matters, and data that has changed since is found out: an
// answer that was not asked about is refused. What an answer is given differs from what a pass over the step would give by F32
// rounding only: products of fewer than kPanelRows rows are summed in another order (kernels/matmul.h).
//   bytes 0..7    "PUNAREFS"
//   bytes 8..11   version, 1; then 4 zeros
//   bytes 16..79  fingerprint of the reference, 64 hexadecimal digits
//   bytes 80..87  number of answers N
//   then N times  a key (16 bytes, ascending) and the log-probability (F64); all little-endian
#pragma once

#include <array>
#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "train/batch.h"
#include "train/recipe.h"
#include "train/run_devices.h"
#include "train/run_start.h"

namespace puna {

// SHA-256 of the network's figures and of every weight's format, shape and four pages spread over its bytes: another model, or the
// same one trained further, is told apart without reading all of it.
std::string fingerprint_of(const Checkpoint& checkpoint);

class ReferenceLogProbs {
 public:
  // Knows no answer yet. `where` is the file's name, for messages.
  ReferenceLogProbs(std::string fingerprint, std::string where);
  // As write() left it. Throws kBadInput for bytes that do not hold together.
  ReferenceLogProbs(std::span<const std::byte> bytes, std::string where);

  void write(const std::filesystem::path& file) const;

  const std::string& fingerprint() const { return fingerprint_; }
  std::size_t size() const { return entries_.size(); }

  // log_probs [answers]. What is added is known after the next settle().
  void add(const PackedBatch& batch, std::span<const double> log_probs);
  void settle();
  bool knows(const PackedBatch& batch) const;
  // -> [answers]. Throws kBadInput for an answer that was not asked about.
  std::vector<double> of(const PackedBatch& batch) const;

 private:
  struct Entry {
    std::array<std::uint64_t, 2> key;
    double log_prob;
    bool operator==(const Entry& other) const { return key == other.key; }
    auto operator<=>(const Entry& other) const { return key <=> other.key; }
  };
  static std::array<std::uint64_t, 2> key_of(const PackedBatch& batch, const Answer& answer);
  const Entry* find(const PackedBatch& batch, const Answer& answer) const;

  std::string fingerprint_, where_;
  std::vector<Entry> entries_;  // ascending up to the last settle()
};

// done of all rows of the files; the last call has all.
using AskProgress = std::function<void(std::int64_t done, std::int64_t all)>;

// Asks models.reference about every answer of the data under each of the sequence lengths, and of the validation data; the
// reference's memory is freed again. Throws Interrupted, and what the loader throws.
struct ReferenceQuestions {
  const Recipe& recipe;
  const RunModels& models;
  std::span<const std::int64_t> sequence_lengths;
  std::string where;  // of the file to come
};
ReferenceLogProbs ask_reference(const ReferenceQuestions& questions, RunDevices& devices, const AskProgress& progress,
                                const std::atomic<bool>* interrupted);

}  // namespace puna
