// SPDX-License-Identifier: Apache-2.0
// A case of tests/golden/train: model, packed batch and objective as its JSON says them, ready to train.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "model/gradient_pass.h"
#include "model/parameters.h"
#include "shared_data.h"
#include "tensor/safetensors.h"
#include "train/batch.h"
#include "train/objectives/objective.h"
#include "train/output_head.h"

namespace puna {

// A model with everything that computes it.
struct TestNetwork {
  TestNetwork(std::shared_ptr<const Checkpoint> checkpoint, const TrainChoice& choice, Device device, Keep keep,
              std::int64_t max_rows = 64)
      : parameters(std::move(checkpoint), choice, device),
        pass(parameters, device, max_rows, keep),
        head(parameters, device, max_rows) {}
  Parameters parameters;
  GradientPass pass;
  OutputHead head;
};

inline PassRows rows_of(const PackedBatch& batch) {
  return {.tokens = batch.tokens, .positions = batch.positions, .segments = batch.segments};
}

// The batches of one step with their totals.
inline StepBatches step_of(std::vector<PackedBatch> batches) {
  StepBatches step;
  std::vector<std::int64_t> groups;
  for (const PackedBatch& batch : batches) {
    for (const float weight : batch.weights) step.trained_tokens += static_cast<double>(weight);
    for (const Answer& answer : batch.answers) groups.push_back(answer.group);
  }
  std::ranges::sort(groups);
  step.groups = std::ranges::unique(groups).begin() - groups.begin();
  step.batches = std::move(batches);
  return step;
}

// Gradients of all batches added up; the step's report.
inline LossReport compute_step(TestNetwork& network, Objective& objective, const StepBatches& step, Device device) {
  network.parameters.zero_gradients(device);
  LossReport report;
  for (const PackedBatch& batch : step.batches) {
    const std::span<const float> hidden = network.pass.forward(rows_of(batch));
    report += objective.gradient(batch, step, hidden, network.pass.dhidden());
    network.pass.backward(network.pass.dhidden());
  }
  return report;
}

inline PackedBatch batch_from(const Json& json) {
  PackedBatch batch;
  for (const Json& token : json["tokens"]) batch.tokens.push_back(Token{token.get<std::int32_t>()});
  for (const Json& token : json["targets"]) batch.targets.push_back(Token{token.get<std::int32_t>()});
  batch.positions = json["positions"].get<std::vector<std::int32_t>>();
  batch.weights = json["weights"].get<std::vector<float>>();
  for (const Json& s : json["segments"]) batch.segments.push_back({s[0], s[1], s[2], s[3]});
  for (const Json& a : json["answers"]) {
    batch.answers.push_back({a["first_row"], a["rows"], a["end_row"], a["group"], a["rank"], a["reference_log_prob"]});
  }
  return batch;
}

inline ObjectiveOptions options_from(const Json& json) {
  ObjectiveOptions options;
  options.beta = json.value("beta", 0.1);
  options.nll_weight = json.value("nll_weight", 0.0);
  options.nll_all_rows = json.value("nll_all_rows", false);
  options.length_normalised = json.value("length_normalised", false);
  options.ratio = json.value("ratio", 0.5);
  options.temperature = json.value("temperature", 1.0);
  const std::string direction = json.value("direction", "forward");
  options.direction = direction == "forward"   ? KlDirection::kForward
                      : direction == "reverse" ? KlDirection::kReverse
                                               : KlDirection::kSymmetric;
  return options;
}

// Values of parameters from a file of tensors with their names.
inline void load_values(Parameters& parameters, const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  for (const Tensor& tensor : file.tensors()) {
    Parameter& parameter = parameters.find(tensor.name);
    const std::int64_t length = tensor.shape.row_length();
    for (std::int64_t n = 0; n < tensor.shape.rows(); ++n) decode_row(tensor, n, parameter.value.data() + n * length);
  }
}

struct GoldenCase {
  explicit GoldenCase(const std::string& name, int threads = 2) : pool(threads) {
    json = parse_json(read_text(golden("train/" + name + ".json")), name);
    const ObjectiveInfo& info = find_objective(json["objective"].get<std::string>());
    const auto checkpoint = open_checkpoint(golden("train/" + json["model"].get<std::string>()));
    TrainChoice choice{.extra = info.extra(checkpoint->config)};
    const Json& options = json["options"];
    if (options.contains("rank")) {
      choice.trained = Trained::kAdapters;
      choice.lora.rank = options["rank"].get<std::int64_t>();
      choice.lora.alpha = options["alpha"].get<double>();
      choice.lora.roles.clear();
      for (const Json& target : options["targets"]) {
        choice.lora.roles.push_back(adapted_role_from_name(target.get<std::string>()).value());
      }
    }
    student = std::make_unique<TestNetwork>(checkpoint, choice, device, Keep::kAllActivations);
    if (choice.trained == Trained::kAdapters) {
      load_values(student->parameters, golden("train/adapter/adapter_model.safetensors"));
    }
    if (!choice.extra.empty()) load_values(student->parameters, golden("train/reward_head.safetensors"));
    ObjectiveContext context{student->parameters, student->head, device, 64, options_from(options)};
    if (info.needs_teacher) {
      teacher = std::make_unique<TestNetwork>(open_checkpoint(golden("train/teacher")), TrainChoice{.trained = Trained::kNothing},
                                              device, Keep::kNothing);
      context.teacher = &teacher->pass;
      context.teacher_head = &teacher->head;
    }
    objective = info.make(context);
    step = step_of({batch_from(json["batch"])});
  }

  LossReport compute() { return compute_step(*student, *objective, step, device); }

  Json json;
  ThreadPool pool;
  Device device{pool};
  std::unique_ptr<TestNetwork> student, teacher;
  std::unique_ptr<Objective> objective;
  StepBatches step;
};

}  // namespace puna
