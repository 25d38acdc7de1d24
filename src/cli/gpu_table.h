// SPDX-License-Identifier: Apache-2.0
// How a model fits on several GPUs that need not be here: the memory plan of `puna show --gpus`, number by number.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/checkpoint.h"
#include "model/memory_plan.h"

namespace puna {

struct GpuQuestion {
  std::vector<int> gpus;    // how many, one row of the table each
  int stages = 1;           // that share them (--pipeline)
  std::int64_t memory = 0;  // bytes of one GPU
  Format kv_format = Format::kF16;
  std::int64_t context = 0;  // positions over all sequences
};
// "1,2,4,8" and "80GB"; throw kUsage.
std::vector<int> gpu_counts(std::string_view text);
std::int64_t memory_size(std::string_view text);

struct GpuRow {
  int gpus;
  std::string why_not;  // the network is not split over them; "": it is
  MemoryPlan plan;      // of the GPU that has most
};
// Weights are counted as the files have them: a GPU's form of quantized ones is up to 3 % larger.
std::vector<GpuRow> plan_gpus(const Checkpoint& checkpoint, const GpuQuestion& question);

std::string gpu_table_text(const Checkpoint& checkpoint, const GpuQuestion& question);
Json gpu_table_json(const Checkpoint& checkpoint, const GpuQuestion& question);
Json plan_to_json(const MemoryPlan& plan);

}  // namespace puna
