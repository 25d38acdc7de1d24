// SPDX-License-Identifier: Apache-2.0
#include "train/distill_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/interrupted.h"
#include "kernels/gpu.h"
#include "train/data/teacher_shard.h"
#include "train/network.h"
#include "train/run_devices.h"
#include "train/run_plan.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

void check_folder(const DistillDataOptions& options) {
  std::error_code error;
  if (!options.overwrite && fs::exists(options.out) && !fs::is_empty(options.out, error))
    fail(ErrorKind::kUsage, options.out.string(),
         "is not empty: --force overwrites its files, or choose another folder with --out");
}

void check_memory(const Recipe& recipe, const Checkpoint& teacher, std::span<const Gpu* const> gpus) {
  const TrainMemory memory = plan_reader_memory(teacher, recipe.batch_tokens, gpus, 1);
  if (memory.total() <= memory.available) return;
  fail(ErrorKind::kNoRoom, "distill-data",
       "the teacher would not fit:\n{}what makes it smaller: --set batch_tokens={}, a quantized one", memory.text(),
       recipe.sequence_length);
}

// A segment with trained rows as a document: what its rows see, and their targets. Nothing behind the last trained one matters.
struct Document {
  std::vector<Token> tokens;
  std::vector<bool> trained;
};
Document document_of(const PackedBatch& batch, const PackedSegment& segment) {
  Document document;
  for (std::int64_t t = segment.prefix_row; t < segment.prefix_row + segment.prefix_rows; ++t)
    document.tokens.push_back(batch.tokens[static_cast<std::size_t>(t)]);
  document.tokens.push_back(batch.tokens[static_cast<std::size_t>(segment.first_row)]);
  document.trained.resize(document.tokens.size());
  for (std::int64_t t = segment.first_row; t < segment.first_row + segment.rows; ++t) {
    document.tokens.push_back(batch.targets[static_cast<std::size_t>(t)]);
    document.trained.push_back(batch.weights[static_cast<std::size_t>(t)] != 0);
  }
  while (!document.trained.empty() && !document.trained.back()) {
    document.tokens.pop_back();
    document.trained.pop_back();
  }
  return document;
}

class DataWriter {
 public:
  DataWriter(Network& teacher, const fs::path& file, std::int64_t top_k, DistillDataReport& report)
      : teacher_(teacher), shard_(file, teacher.head.vocabulary(), top_k), top_k_(top_k), report_(report) {}

  void add(const PackedBatch& batch) {
    std::vector<std::int32_t> rows;
    std::vector<Document> documents;
    for (const PackedSegment& segment : batch.segments) {
      Document document = document_of(batch, segment);
      if (document.tokens.empty()) continue;
      for (std::int64_t t = segment.first_row; t < segment.first_row + segment.rows; ++t) {
        if (batch.weights[static_cast<std::size_t>(t)] != 0) rows.push_back(static_cast<std::int32_t>(t));
      }
      documents.push_back(std::move(document));
    }
    auto next = documents.begin();
    std::int64_t left = 0;  // rows of the document that was begun last
    teacher_.head.top_k(teacher_.forward(batch), rows, top_k_, [&](std::int64_t count, const TopKRows& top) {
      for (std::int64_t r = 0; r < count; ++r, --left) {
        if (left == 0) left = begin(*next++);
        add_row(top, r);
      }
    });
  }

  void finish() {
    shard_.finish();
    report_.bytes += shard_.bytes();
  }

 private:
  std::int64_t begin(const Document& document) {
    shard_.add_document(document.tokens, document.trained);
    ++report_.documents;
    report_.tokens += static_cast<std::int64_t>(document.tokens.size());
    return std::ranges::count(document.trained, true);
  }

  void add_row(const TopKRows& top, std::int64_t r) {
    const float* const log_probs = top.log_probs + r * top.k;
    if (!std::isfinite(log_probs[0]) || std::isnan(top.rest[r]))
      fail(ErrorKind::kBadInput, teacher_.parameters.checkpoint().where, "its logits are no numbers: the weights are damaged");
    shard_.add_row(top.ids + r * top.k, log_probs, top.rest[r]);
    ++report_.trained_tokens;
    report_.rest += std::exp(static_cast<double>(top.rest[r]));
  }

  Network& teacher_;
  TeacherShardWriter shard_;
  std::int64_t top_k_;
  DistillDataReport& report_;
};

// The entries of the data, then those of the validation data, each with the name of its file.
struct Part {
  std::unique_ptr<Loader> loader;
  std::string file;
};
std::vector<Part> open_parts(const Recipe& recipe, const RunModels& models, const fs::path& out, DistillDataReport& report) {
  std::vector<Part> parts;
  for (const bool validation : {false, true}) {
    const DataOptions all = in_order_once(data_options(recipe, models, validation));
    std::vector<std::string>& files = validation ? report.validation : report.data;
    for (std::size_t i = 0; i < all.sources.size(); ++i) {
      DataOptions one = all;
      one.sources = {all.sources[i]};
      files.push_back((out / fmt::format("{}-{}.bin", validation ? "validation" : "data", i)).string());
      parts.push_back({open_loader(std::move(one), models), files.back()});
    }
  }
  return parts;
}

}  // namespace

DistillDataReport write_distill_data(const Recipe& recipe, const RunModels& models, ThreadPool& pool,
                                     const DistillDataOptions& options) {
  PUNA_CHECK(models.teacher != nullptr, "distill-data", "no teacher");
  if (device_choice(recipe.device, "device").count() > 1)
    fail(ErrorKind::kUnsupported, "device", "is '{}', but a teacher is asked on one device: --set device=cpu, cuda or cuda:N",
         recipe.device);
  const std::int64_t vocabulary = models.teacher->config.vocabulary;
  if (options.top_k < 1 || options.top_k > vocabulary)
    fail(ErrorKind::kUsage, "--top-k", "is {}, expected 1 to the vocabulary's {}", options.top_k, vocabulary);
  check_folder(options);
  const RunDevices devices(recipe, pool);
  check_memory(recipe, *models.teacher, devices.gpus());
  DistillDataReport report;
  const std::vector<Part> parts = open_parts(recipe, models, options.out, report);
  std::error_code error;
  fs::create_directories(options.out, error);
  if (error) fail(ErrorKind::kBadInput, options.out.string(), "cannot be made: {}", error.message());
  Network teacher(models.teacher, read_only(), devices[0], recipe.batch_tokens, Keep::kNothing);
  // Whole sequences, so that no document is cut where a step ends.
  const std::int64_t step_tokens = recipe.batch_tokens / recipe.sequence_length * recipe.sequence_length;
  std::int64_t all = 0, before = 0;
  for (const Part& part : parts) all += part.loader->rows();
  for (const auto& [loader, file] : parts) {
    DataWriter writer(teacher, file, options.top_k, report);
    for (StepBatches step = loader->next(step_tokens); !step.batches.empty(); step = loader->next(step_tokens)) {
      for (const PackedBatch& batch : step.batches) {
        stop_if(options.interrupted);
        writer.add(batch);
      }
      if (options.progress) options.progress(before + std::llround(loader->epochs() * static_cast<double>(loader->rows())), all);
    }
    writer.finish();
    before += loader->rows();
    if (loader->report().dropped() > 0) report.rows += loader->report().text();
  }
  if (report.trained_tokens > 0) report.rest /= static_cast<double>(report.trained_tokens);
  return report;
}

}  // namespace puna
