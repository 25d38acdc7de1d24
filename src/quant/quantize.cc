// SPDX-License-Identifier: Apache-2.0
#include "quant/quantize.h"

#include <chrono>
#include <map>

#include "base/error.h"
#include "quant/gguf_export.h"
#include "quant/hugging_face_export.h"
#include "quant/output_path.h"
#include "quant/weight_encoder.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

void check_name(const fs::path& out, bool folder) {
  if (!folder || out.extension() != ".gguf") return;
  fail(ErrorKind::kUsage, out.string(),
       "fp8 writes a Hugging Face folder, as GGUF has no E4M3: give a name that does not end in .gguf");
}

void write_folder(const fs::path& out, const Checkpoint& in, std::span<const WeightPlan> plan, WeightEncoder& encoder) {
  FolderDraft draft(out);
  std::vector<std::string> notes;  // the one thing that can be missing, a tokenizer, is no news to who has none
  write_hugging_face_checkpoint(draft.path(), in, plan, encoder, notes);
  draft.commit();
}

QuantizeReport count_tensors(const Checkpoint& in, std::span<const WeightPlan> plan) {
  QuantizeReport report;
  std::map<Format, std::int64_t> counts;
  std::int64_t values = 0;
  for (const WeightPlan& weight : plan) {
    ++counts[weight.format];
    values += in.weights.at(weight.role, weight.layer).shape.count();
  }
  report.tensors.assign(counts.begin(), counts.end());
  report.bytes_in = in.weight_bytes;
  report.bytes_out = planned_bytes(in, plan);
  report.bits_per_weight = 8.0 * static_cast<double>(report.bytes_out) / static_cast<double>(values);
  return report;
}

}  // namespace

QuantizeReport quantize_checkpoint(ThreadPool& pool, const Checkpoint& in, const fs::path& out, const QuantType& type,
                                   bool overwrite, const std::atomic<bool>* interrupted) {
  const auto start = std::chrono::steady_clock::now();
  const bool folder = type.base == Format::kF8E4M3;
  check_name(out, folder);
  check_output(in, out, folder, overwrite);
  const std::vector<WeightPlan> plan = plan_weights(
      in, [&](const Tensor&, WeightRole role, std::int64_t layer) { return mixed_format(type, in.config, role, layer); });
  QuantizeReport report = count_tensors(in, plan);
  if (in.reward_head && !folder) report.notes.emplace_back(kScoreLeftOut);
  check_room(out, report.bytes_out);
  WeightEncoder encoder(pool, in, folder ? RopePairing::kHalves : RopePairing::kNeighbours, "quantize", interrupted);
  if (folder) {
    write_folder(out, in, plan, encoder);
  } else {
    write_gguf_checkpoint(out, in, plan, type.gguf_file_type, encoder);
  }
  report.relative_error = encoder.relative_error();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace puna
