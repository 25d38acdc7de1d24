// SPDX-License-Identifier: Apache-2.0
// What surprises: GGUF files have their norms as F32, because llama.cpp's kernels want them so; folders get them back in the format
// of the matrices where every value fits, so that a folder survives the way there and back.
#include "quant/convert.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <span>

#include "base/error.h"
#include "base/progress.h"
#include "quant/config_figures.h"
#include "quant/gguf_export.h"
#include "quant/hugging_face_export.h"
#include "quant/meta_export.h"
#include "quant/mix.h"
#include "quant/output_path.h"
#include "quant/weight_encoder.h"
#include "tensor/gguf.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

bool is_blocked(Format format) { return info(format).block_values > 1; }

// The format a matrix can have in the target: its own, or the nearest that the target holds.
Format matrix_format(Format own, WeightRole role, CheckpointKind kind) {
  const bool feed_forward = role == WeightRole::kGate || role == WeightRole::kUp || role == WeightRole::kDown;
  if (kind == CheckpointKind::kGguf) return own == Format::kF8E4M3 ? Format::kBF16 : own;
  if (is_blocked(own)) return Format::kF16;
  if (kind == CheckpointKind::kMeta && own == Format::kF8E4M3 && !feed_forward) return Format::kBF16;
  return own;
}

bool survives(const Tensor& tensor, Format format) {
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.count())), back(values.size());
  std::vector<std::byte> narrow(values.size() * sizeof(float));
  decode_row(tensor, 0, values.data());
  info(format).encode(values.data(), narrow.data(), tensor.shape.count());
  info(format).decode(narrow.data(), back.data(), tensor.shape.count());
  return values == back;
}

std::vector<WeightPlan> plan_conversion(const Checkpoint& in, CheckpointKind kind) {
  std::vector<WeightPlan> plan = plan_weights(in, [&](const Tensor& tensor, WeightRole role, std::int64_t) {
    if (is_norm(role)) return kind == CheckpointKind::kGguf ? Format::kF32 : tensor.format;
    return matrix_format(tensor.format, role, kind);
  });
  if (kind == CheckpointKind::kGguf) return plan;
  const Format common = common_float_format(in, plan);
  for (WeightPlan& weight : plan) {
    const Tensor& tensor = in.weights.at(weight.role, weight.layer);
    if (is_norm(weight.role) && tensor.format == Format::kF32 && survives(tensor, common)) weight.format = common;
  }
  return plan;
}

std::string_view title(CheckpointKind kind) {
  return kind == CheckpointKind::kGguf ? "GGUF" : kind == CheckpointKind::kMeta ? "Meta's folders" : "Hugging Face folders";
}

// Matrices that the target cannot hold as they are.
void note_losses(const Checkpoint& in, std::span<const WeightPlan> plan, CheckpointKind kind, ConvertReport& report) {
  std::map<std::pair<Format, Format>, int> changes;
  for (const WeightPlan& weight : plan) {
    const Tensor& tensor = in.weights.at(weight.role, weight.layer);
    if (!is_norm(weight.role) && tensor.format != weight.format) ++changes[{tensor.format, weight.format}];
  }
  for (const auto& [change, count] : changes) {
    report.lossless = false;
    report.notes.push_back(fmt::format("{} matrices were decoded from {} and rounded to {}, as {} cannot hold them{}", count,
                                       info(change.first).name, info(change.second).name, title(kind),
                                       change.first == Format::kF8E4M3 ? " there" : ""));
  }
}

// general.file_type: the source's own, else that of the format most matrices have.
int file_type_of(const Checkpoint& in, std::span<const WeightPlan> plan) {
  if (in.kind == CheckpointKind::kGguf) {
    if (const auto own = gguf_file_of(in).find_integer("general.file_type")) return static_cast<int>(*own);
  }
  std::map<Format, std::int64_t> values;
  for (const WeightPlan& weight : plan) {
    if (!is_norm(weight.role)) values[weight.format] += in.weights.at(weight.role, weight.layer).shape.count();
  }
  const auto most =
      std::max_element(values.begin(), values.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  int file_type = -1;
  for (const QuantType& type : quant_types()) {
    if (type.base == most->first) file_type = type.gguf_file_type;  // the last of a base is its medium mix
  }
  return file_type;
}

std::int64_t bytes_under(const fs::path& path) {
  if (!fs::is_directory(path)) return static_cast<std::int64_t>(fs::file_size(path));
  std::int64_t bytes = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) bytes += static_cast<std::int64_t>(entry.file_size());
  return bytes;
}

void write_target(ThreadPool& pool, const Checkpoint& in, const fs::path& out, CheckpointKind kind, ConvertReport& report,
                  const std::atomic<bool>* interrupted) {
  const std::vector<WeightPlan> plan = plan_conversion(in, kind);
  note_losses(in, plan, kind, report);
  if (in.reward_head && kind != CheckpointKind::kHuggingFace) report.notes.emplace_back(kScoreLeftOut);
  check_room(out, planned_bytes(in, plan));
  const RopePairing pairing = kind == CheckpointKind::kHuggingFace ? RopePairing::kHalves : RopePairing::kNeighbours;
  WeightEncoder encoder(pool, in, pairing, "convert", interrupted);
  if (kind == CheckpointKind::kGguf) {
    write_gguf_checkpoint(out, in, plan, file_type_of(in, plan), encoder);
    report.bytes_out = bytes_under(out);
    return;
  }
  FolderDraft draft(out);
  if (kind == CheckpointKind::kHuggingFace) {
    write_hugging_face_checkpoint(draft.path(), in, plan, encoder, report.notes);
  } else {
    write_meta_checkpoint(draft.path(), in, plan, encoder, report.notes);
  }
  report.bytes_out = bytes_under(draft.path());
  draft.commit();
}

}  // namespace

ConvertReport convert_checkpoint(ThreadPool& pool, const Checkpoint& in, const fs::path& out, CheckpointKind kind, bool overwrite,
                                 const std::atomic<bool>* interrupted) {
  const auto start = std::chrono::steady_clock::now();
  if (out.extension() == ".gguf") kind = CheckpointKind::kGguf;
  if (kind == CheckpointKind::kMemory) fail(ErrorKind::kUsage, out.string(), "expected gguf, hf or meta as the target");
  check_output(in, out, kind != CheckpointKind::kGguf, overwrite);
  ConvertReport report;
  write_target(pool, in, out, kind, report, interrupted);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace puna
