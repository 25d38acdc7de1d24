// SPDX-License-Identifier: Apache-2.0
#include "train/reference_log_probs.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupted.h"
#include "base/sha256.h"
#include "tensor/atomic_file.h"
#include "train/data/little_endian.h"
#include "train/network.h"
#include "train/objectives/answers.h"

namespace puna {
namespace {

constexpr std::string_view kReferenceMagic = "PUNAREFS";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kFingerprint = 64, kHeader = 16 + kFingerprint + 8, kEntry = 24;

template <typename T>
void hash_value(Sha256& hash, const T& value) {
  hash.update(std::as_bytes(std::span(&value, 1)));
}

void hash_tensor(Sha256& hash, const Tensor& tensor) {
  constexpr std::size_t kPage = 4096, kPages = 4;
  const std::string_view format = info(tensor.format).name;
  hash.update(std::as_bytes(std::span(format)));
  for (int axis = 0; axis < tensor.shape.rank(); ++axis) hash_value(hash, tensor.shape[axis]);
  const std::size_t page = std::min(kPage, tensor.bytes.size()), last = tensor.bytes.size() - page;
  for (std::size_t i = 0; i < kPages; ++i) hash.update(tensor.bytes.subspan(last / (kPages - 1) * i, page));
  hash.update(tensor.row_scales);
}

}  // namespace

std::string fingerprint_of(const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config;
  Sha256 hash;
  for (const std::int64_t figure : {config.layers, config.width, config.heads, config.kv_heads, config.head_width,
                                    config.feed_forward, config.vocabulary, std::int64_t{config.tied_embeddings}})
    hash_value(hash, figure);
  hash_value(hash, config.norm_eps);
  for (const double frequency : rope_frequencies(config)) hash_value(hash, frequency);
  for (const WeightRoleInfo& role : weight_roles()) {
    for (std::int64_t layer = 0; layer < (role.per_layer ? config.layers : 1); ++layer)
      hash_tensor(hash, checkpoint.weights.at(role.role, layer));
  }
  return hash.finish();
}

ReferenceLogProbs::ReferenceLogProbs(std::string fingerprint, std::string where)
    : fingerprint_(std::move(fingerprint)), where_(std::move(where)) {
  PUNA_CHECK(fingerprint_.size() == kFingerprint, where_, "a fingerprint of {} digits", fingerprint_.size());
}

ReferenceLogProbs::ReferenceLogProbs(std::span<const std::byte> bytes, std::string where) : where_(std::move(where)) {
  const char* const text = reinterpret_cast<const char*>(bytes.data());
  if (bytes.size() < kHeader || std::string_view(text, kReferenceMagic.size()) != kReferenceMagic)
    fail(ErrorKind::kBadInput, where_, "holds no log-probabilities of a reference");
  const auto version = read_number<std::uint32_t>(&bytes[8]);
  if (version != kVersion) fail(ErrorKind::kUnsupported, where_, "is of version {}, expected {}", version, kVersion);
  fingerprint_.assign(text + 16, kFingerprint);
  const auto count = read_number<std::uint64_t>(&bytes[kHeader - 8]);
  const auto body = checked_multiply(count, kEntry);
  if (!body || *body != bytes.size() - kHeader)
    fail(ErrorKind::kBadInput, where_, "{} answers do not fit its {} bytes: it was cut short", count, bytes.size());
  entries_.reserve(static_cast<std::size_t>(count));
  for (std::size_t at = kHeader; at < bytes.size(); at += kEntry) {
    const Entry entry{{read_number<std::uint64_t>(&bytes[at]), read_number<std::uint64_t>(&bytes[at + 8])},
                      read_number<double>(&bytes[at + 16])};
    if (!std::isfinite(entry.log_prob) || (!entries_.empty() && !(entries_.back() < entry)))
      fail(ErrorKind::kBadInput, where_, "answer {} of {} is damaged: remove the file, and the reference is asked again",
           entries_.size() + 1, count);
    entries_.push_back(entry);
  }
}

void ReferenceLogProbs::write(const std::filesystem::path& file) const {
  const std::array<std::uint32_t, 2> version{kVersion, 0};
  const std::uint64_t count = entries_.size();
  AtomicFile out(file);
  out.write(kReferenceMagic);
  out.write(std::as_bytes(std::span(version)));
  out.write(fingerprint_);
  out.write(std::as_bytes(std::span(&count, 1)));
  static_assert(sizeof(Entry) == kEntry);
  out.write(std::as_bytes(std::span(entries_)));
  out.commit();
}

// The tokens that the answer's rows see, and its own.
std::array<std::uint64_t, 2> ReferenceLogProbs::key_of(const PackedBatch& batch, const Answer& answer) {
  const auto segment = std::ranges::find_if(batch.segments, [&](const PackedSegment& each) {
    return answer.first_row >= each.first_row && answer.end_row < each.first_row + each.rows;
  });
  PUNA_CHECK(segment != batch.segments.end(), "reference", "the answer of rows {} to {} lies in no segment", answer.first_row,
             answer.end_row);
  Sha256 hash;
  const auto tokens = [&](std::int64_t first, std::int64_t count) {
    hash_value(hash, count);
    hash.update(std::as_bytes(std::span(batch.tokens).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count))));
  };
  tokens(segment->prefix_row, segment->prefix_rows);
  tokens(segment->first_row, answer.end_row + 1 - segment->first_row);
  hash_value(hash, answer.rows);
  for (std::int64_t t = answer.first_row; t < answer.first_row + answer.rows; ++t)
    hash_value(hash, batch.weights[static_cast<std::size_t>(t)] != 0);
  const std::string digits = hash.finish();
  std::array<std::uint64_t, 2> key{};
  for (std::size_t i = 0; i < key.size(); ++i) std::from_chars(&digits[16 * i], &digits[16 * i] + 16, key[i], 16);
  return key;
}

const ReferenceLogProbs::Entry* ReferenceLogProbs::find(const PackedBatch& batch, const Answer& answer) const {
  const Entry wanted{key_of(batch, answer), 0};
  const auto found = std::ranges::lower_bound(entries_, wanted);
  return found != entries_.end() && *found == wanted ? &*found : nullptr;
}

void ReferenceLogProbs::add(const PackedBatch& batch, std::span<const double> log_probs) {
  PUNA_CHECK(log_probs.size() == batch.answers.size(), "reference", "{} log-probabilities of {} answers", log_probs.size(),
             batch.answers.size());
  for (std::size_t a = 0; a < log_probs.size(); ++a) {
    if (!std::isfinite(log_probs[a]))
      fail(ErrorKind::kBadInput, "dpo.reference", "gives an answer the log-probability {}: its weights are damaged", log_probs[a]);
    entries_.push_back({key_of(batch, batch.answers[a]), log_probs[a]});
  }
}

void ReferenceLogProbs::settle() {
  std::ranges::stable_sort(entries_);
  entries_.erase(std::unique(entries_.begin(), entries_.end()), entries_.end());
}

bool ReferenceLogProbs::knows(const PackedBatch& batch) const {
  return std::ranges::all_of(batch.answers, [&](const Answer& answer) { return find(batch, answer) != nullptr; });
}

std::vector<double> ReferenceLogProbs::of(const PackedBatch& batch) const {
  std::vector<double> log_probs;
  for (const Answer& answer : batch.answers) {
    const Entry* const entry = find(batch, answer);
    if (entry == nullptr) {
      fail(ErrorKind::kBadInput, where_,
           "does not know an answer of the data, which has changed since the reference was asked: remove the file and go on with "
           "--resume, and it is asked again");
    }
    log_probs.push_back(entry->log_prob);
  }
  return log_probs;
}

ReferenceLogProbs ask_reference(const ReferenceQuestions& questions, RunDevices& devices, const AskProgress& progress,
                                const std::atomic<bool>* interrupted) {
  const auto& [recipe, models, sequence_lengths, where] = questions;
  ReferenceLogProbs answers(fingerprint_of(*models.reference), where);
  std::vector<std::unique_ptr<Loader>> loaders;
  for (const std::int64_t length : sequence_lengths) {
    DataOptions options = in_order_once(data_options(recipe, models, false));
    options.sequence_length = length;
    loaders.push_back(open_loader(std::move(options), models));
  }
  if (!recipe.validation.empty()) loaders.push_back(open_loader(in_order_once(data_options(recipe, models, true)), models));
  std::int64_t all = 0, before = 0;
  for (const auto& loader : loaders) all += loader->rows();
  std::vector<std::unique_ptr<Network>> reference;  // of each rank
  for (int rank = 0; rank < devices.ranks(); ++rank)
    reference.push_back(
        std::make_unique<Network>(models.reference, read_only(), devices[rank], recipe.batch_tokens, Keep::kNothing));
  const auto ask = [&](const PackedBatch& batch) {
    return devices.each([&](int rank) {
      Network& own = *reference[static_cast<std::size_t>(rank)];
      return answer_log_probs(own.head, batch, own.forward(batch));
    });
  };
  for (const auto& loader : loaders) {
    for (StepBatches step = loader->next(recipe.batch_tokens); !step.batches.empty(); step = loader->next(recipe.batch_tokens)) {
      for (const PackedBatch& batch : step.batches) {
        stop_if(interrupted);
        if (!answers.knows(batch)) answers.add(batch, ask(batch));
      }
      const std::int64_t done = before + std::llround(loader->epochs() * static_cast<double>(loader->rows()));
      if (done < all) progress(done, all);
    }
    before += loader->rows();
    answers.settle();
  }
  progress(all, all);
  return answers;
}

}  // namespace puna
