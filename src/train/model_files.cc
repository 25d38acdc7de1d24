// SPDX-License-Identifier: Apache-2.0
#include "train/model_files.h"

#include <memory>
#include <string>
#include <vector>

#include "quant/hugging_face_export.h"
#include "quant/weight_encoder.h"

namespace puna {

void write_trained_model(const std::filesystem::path& folder, ThreadPool& pool, const RankedParameters& parameters,
                         const Checkpoint& start) {
  const std::shared_ptr<Checkpoint> view = parameters.view();
  view->tokenizer = start.tokenizer;
  view->chat_template = start.chat_template;
  view->prompt_format = start.prompt_format;
  const std::vector<WeightPlan> plan =
      plan_weights(*view, [](const Tensor& tensor, WeightRole, std::int64_t) { return tensor.format; });
  WeightEncoder encoder(pool, *view, RopePairing::kHalves, "checkpoint");
  std::vector<std::string> notes;
  write_hugging_face_checkpoint(folder, *view, plan, encoder, notes);
}

}  // namespace puna
