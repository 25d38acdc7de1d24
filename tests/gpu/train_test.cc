// SPDX-License-Identifier: Apache-2.0
// Training on the GPU against the same training on the CPU: gradients tensor by tensor, losses step by step, and that a stopped run
// continues bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "expect_error.h"
#include "gpu/gpu_fixture.h"
#include "model/adapter_file.h"
#include "model/ranked_parameters.h"
#include "model/tiny_checkpoint.h"
#include "train/distill_data.h"
#include "train/golden_case.h"
#include "train/network.h"
#include "train/optimizer.h"
#include "train/trainer_fixture.h"

namespace puna {
namespace {

// Widths that quantized formats of 32 values allow.
ModelConfig narrow_config(bool tied) {
  ModelConfig config = small_config();
  config.layers = 2;
  config.tied_embeddings = tied;
  return config;
}

// A document, and a prompt with two answers that do not see each other.
PackedBatch packed_batch() {
  PackedBatch batch;
  batch.tokens = random_tokens(17, 40);
  batch.targets = random_tokens(17, 40, 8);
  batch.positions = {0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8};
  batch.segments = {{0, 5}, {5, 4}, {9, 3, 5, 4}, {12, 5, 5, 4}};
  batch.weights = {1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1};
  return batch;
}

PackedBatch answers_batch() {
  PackedBatch batch = packed_batch();
  batch.answers = {{.first_row = 9, .rows = 3, .end_row = 11, .group = 0, .rank = 0, .reference_log_prob = -9},
                   {.first_row = 12, .rows = 5, .end_row = 16, .group = 0, .rank = 1, .reference_log_prob = -20}};
  return batch;
}

// What a network learns.
struct Lesson {
  std::string objective = "next_token";
  ObjectiveOptions options = {};
  std::shared_ptr<const Checkpoint> teacher = nullptr;
};

// A network with an objective, on one device.
struct Learner {
  Learner(const std::shared_ptr<const Checkpoint>& checkpoint, TrainChoice choice, Device device_in, Keep keep,
          const Lesson& lesson = {})
      : device(device_in), network(checkpoint, with_extra(std::move(choice), *checkpoint, lesson.objective), device, keep) {
    ObjectiveContext context{network.parameters, network.head, device, 64, lesson.options};
    if (lesson.teacher) {
      teacher = std::make_unique<TestNetwork>(lesson.teacher, read_only(), device, Keep::kNothing);
      context.teacher = &teacher->pass;
      context.teacher_head = &teacher->head;
    }
    objective = find_objective(lesson.objective).make(context);
    for (std::size_t i = 0; i < network.parameters.all().size(); ++i) {  // an adapter that does nothing has no gradient
      Parameter& parameter = network.parameters.all()[i];
      if (!parameter.name.ends_with("lora_B.weight")) continue;
      const std::vector<float> drawn = normal_values(parameter.shape.count(), i, 0.3);
      device.copy_in(parameter.value.data(), drawn.data(), parameter.value.size_bytes());
    }
  }

  static TrainChoice with_extra(TrainChoice choice, const Checkpoint& checkpoint, const std::string& objective_name) {
    choice.extra = find_objective(objective_name).extra(checkpoint.config);
    return choice;
  }

  LossReport compute(const StepBatches& step) { return compute_step(network, *objective, step, device); }

  std::vector<float> on_host(std::span<const float> values) const {
    std::vector<float> copy(values.size());
    device.copy_out(copy.data(), values.data(), values.size_bytes());
    return copy;
  }

  Device device;
  TestNetwork network;
  std::unique_ptr<TestNetwork> teacher;
  std::unique_ptr<Objective> objective;
};

class TrainingOnGpu : public GpuTest {
 protected:
  // Loss and every gradient of one step.
  void expect_gradients(Learner& of_cpu, Learner& of_gpu, const StepBatches& step, double tolerance) {
    const double want = of_cpu.compute(step).loss, got = of_gpu.compute(step).loss;
    EXPECT_NEAR(got, want, tolerance * want);
    for (std::size_t i = 0; i < of_cpu.network.parameters.all().size(); ++i) {
      const Parameter &expected = of_cpu.network.parameters.all()[i], &found = of_gpu.network.parameters.all()[i];
      EXPECT_EQ(found.name, expected.name);
      EXPECT_LE(relative_error(of_gpu.on_host(found.gradient), as_doubles(of_cpu.on_host(expected.gradient))), tolerance)
          << found.name;
    }
  }
  void expect_gradients(Format format, const TrainChoice& choice, double tolerance, Keep keep = Keep::kAllActivations,
                        const std::string& objective = "next_token", bool tied = false) {
    const auto checkpoint = tiny_checkpoint(narrow_config(tied), format);
    Learner of_cpu(checkpoint, choice, cpu, keep, {objective}), of_gpu(checkpoint, choice, device, keep, {objective});
    const bool preferences = find_objective(objective).reads_answers;
    expect_gradients(of_cpu, of_gpu, step_of({preferences ? answers_batch() : packed_batch()}), tolerance);
  }
};

// The same weights in F32.
std::shared_ptr<Checkpoint> decoded(const std::shared_ptr<Checkpoint>& checkpoint) {
  const auto copy = std::make_shared<Checkpoint>(*checkpoint);
  for (const WeightRoleInfo& role : weight_roles()) {
    for (std::int64_t layer = 0; layer < (role.per_layer ? copy->config.layers : 1); ++layer) {
      Tensor& tensor = copy->weights.at(role.role, layer);
      const auto values = std::make_shared<std::vector<float>>(as_size(tensor.shape.count()));
      const std::int64_t length = tensor.shape.row_length();
      for (std::int64_t n = 0; n < tensor.shape.rows(); ++n) decode_row(tensor, n, values->data() + n * length);
      tensor.format = Format::kF32;
      tensor.bytes = std::as_bytes(std::span(*values));
      copy->owners.push_back(values);
    }
  }
  return copy;
}

TrainChoice adapters() { return {.trained = Trained::kAdapters, .lora = {.rank = 4, .alpha = 8}}; }

TEST_F(TrainingOnGpu, GradientsOfAllWeightsAreTheProcessors) {
  expect_gradients(Format::kF32, {}, 1e-4);
  expect_gradients(Format::kF32, {}, 1e-4, Keep::kBlockInputs, "next_token", true);
}

TEST_F(TrainingOnGpu, GradientsOfAdaptersAreTheProcessors) {
  expect_gradients(Format::kF32, adapters(), 1e-4);
  expect_gradients(Format::kF32, adapters(), 1e-4, Keep::kBlockInputs);
}

// The processor would round activations to 8 bits, the GPU rounds them to 16: both are held against none.
TEST_F(TrainingOnGpu, GradientsOfAdaptersOverQuantizedWeightsAreThoseOverTheSameWeights) {
  for (const Format format : {Format::kQ8_0, Format::kQ4_0}) {
    const auto checkpoint = tiny_checkpoint(narrow_config(false), format);
    Learner over_floats(decoded(checkpoint), adapters(), cpu, Keep::kAllActivations);
    Learner of_gpu(checkpoint, adapters(), device, Keep::kAllActivations);
    expect_gradients(over_floats, of_gpu, step_of({packed_batch()}), 1e-2);
  }
}

TEST_F(TrainingOnGpu, GradientsOfPreferencesAreTheProcessors) {
  expect_gradients(Format::kF32, adapters(), 1e-4, Keep::kAllActivations, "dpo");
  expect_gradients(Format::kF32, adapters(), 1e-4, Keep::kAllActivations, "reward");
}

// The teacher is of another shape.
TEST_F(TrainingOnGpu, GradientsOfDistillationAreTheProcessors) {
  ModelConfig larger = tiny_config();
  larger.vocabulary = narrow_config(false).vocabulary;
  const auto student = tiny_checkpoint(narrow_config(false), Format::kF32), teacher = tiny_checkpoint(larger, Format::kF32);
  for (const KlDirection direction : {KlDirection::kForward, KlDirection::kReverse, KlDirection::kSymmetric}) {
    const Lesson lesson{"distillation", {.ratio = 0.7, .temperature = 1.5, .direction = direction}, teacher};
    for (const TrainChoice& choice : {TrainChoice{}, adapters()}) {
      Learner of_cpu(student, choice, cpu, Keep::kAllActivations, lesson);
      Learner of_gpu(student, choice, device, Keep::kAllActivations, lesson);
      expect_gradients(of_cpu, of_gpu, step_of({packed_batch()}), 2e-4);
    }
  }
}

TEST_F(TrainingOnGpu, LogitsAndTheirGradientTakeWhatIsPlanned) {
  if (is_emulated()) GTEST_SKIP() << "its memory is the processor's";
  ModelConfig config = small_config();
  config.vocabulary = 65536;
  const std::int64_t rows = 2048;  // half a gigabyte of logits
  Parameters parameters(tiny_checkpoint(config, Format::kF32), read_only(), device);
  const std::int64_t before = gpu()->free_memory();
  OutputHead head(parameters, device, rows), teacher(parameters, device, rows);
  const GpuArray<float> hidden(device, normal_values(3 * config.width, 1));
  const std::vector<std::int32_t> indices{0, 1, 2}, targets{5, 65535, 0};
  const std::vector<float> weights{1, 1, 1};
  std::vector<double> log_probs(3), divergences(3);
  head.distill({hidden.span(), indices, targets}, OutputHead::Teacher{teacher, hidden.span(), 0.5, 1, KlDirection::kForward},
               weights, {}, {log_probs, divergences});
  for (const double divergence : divergences) EXPECT_NEAR(divergence, 0, 1e-6);
  const std::int64_t planned = OutputHead::bytes(config, rows, true, true) + OutputHead::bytes(config, rows, false, true);
  EXPECT_NEAR(static_cast<double>(before - gpu()->free_memory()), static_cast<double>(planned), 64 << 20);
}

TEST_F(TrainingOnGpu, GradientsOfRoundedWeightsAreNearTheProcessors) {
  gpu()->library().set_gradient_format(gpu()->context(), Format::kBF16);
  expect_gradients(Format::kF32, {.compute = Format::kBF16}, 4e-2);
  gpu()->library().set_gradient_format(gpu()->context(), Format::kF32);
}

TEST_F(TrainingOnGpu, StepsFollowTheProcessors) {
  const auto checkpoint = tiny_checkpoint(narrow_config(true), Format::kF32);
  const StepBatches step = step_of({packed_batch()});
  for (const bool eight_bit : {false, true}) {
    Learner of_cpu(checkpoint, {}, cpu, Keep::kAllActivations), of_gpu(checkpoint, {}, device, Keep::kAllActivations);
    AdamW cpu_optimizer(of_cpu.network.parameters, {.eight_bit = eight_bit}, cpu);
    AdamW gpu_optimizer(of_gpu.network.parameters, {.eight_bit = eight_bit}, device);
    for (int i = 0; i < (eight_bit ? 3 : 20); ++i) {
      const double want = of_cpu.compute(step).loss, got = of_gpu.compute(step).loss;
      EXPECT_NEAR(got, want, 2e-4 * want) << "step " << i;
      const double want_norm = cpu_optimizer.gradient_norm(), got_norm = gpu_optimizer.gradient_norm();
      EXPECT_NEAR(got_norm, want_norm, 1e-3 * want_norm) << "step " << i;
      cpu_optimizer.step(3e-3, want_norm);
      gpu_optimizer.step(3e-3, got_norm);
    }
  }
}

// Larger than a piece that is drawn at once, and not a multiple of one.
TEST_F(TrainingOnGpu, NewWeightsAreThoseOfTheProcessor) {
  auto empty = std::make_shared<Checkpoint>();
  empty->config = small_config();
  empty->config.vocabulary = 70001;
  empty->config.tied_embeddings = true;
  const TrainChoice choice{.compute = Format::kBF16, .new_weights = true};
  const Parameters of_cpu(empty, choice, cpu), of_gpu(empty, choice, device);
  EXPECT_EQ(first_difference(*RankedParameters(of_gpu).view(), *RankedParameters(of_cpu).view()), "");
  EXPECT_EQ(Parameters::host_copy_bytes(empty->config, choice), RankedParameters(of_gpu).view()->weight_bytes);
}

class RunsOnGpu : public TrainerTest {
 protected:
  void SetUp() override {
    if (the_gpu.get() == nullptr) GTEST_SKIP() << "no GPU: " << find_gpus().why_none;
  }
};

TEST_F(RunsOnGpu, AStoppedRunContinuesBitForBit) {
  const std::vector<std::string> options{"device=cuda", "steps=4", "weights=bf16", "optimizer.eight_bit=true"};
  Watcher whole, first, second;
  const RunResult straight = run(recipe("straight", options), whole);
  first.stop_after = 2;
  run(recipe("stopped", options), first);
  const RunResult resumed = run(recipe("stopped", options), second, true);
  for (std::int64_t step = 3; step <= 4; ++step) EXPECT_EQ(second.losses.at(step), whole.losses.at(step)) << step;
  expect_equal_checkpoints(straight.checkpoint, resumed.checkpoint);
}

TEST_F(RunsOnGpu, AveragesSamplesAndAdaptsAsTheProcessorDoes) {
  const auto base = [&](const std::string& device) {
    Recipe staged = recipe("base-" + device, {"device=" + device, "watch.samples=[the cat]", "watch.sample_every=4",
                                              "watch.sample_tokens=4", "watch.evaluate_tokens=64"});
    staged.steps = 0;
    override_recipe(staged, "stages=[{name: one, steps: 4, average: true}]");
    return staged;
  };
  Watcher of_cpu, of_gpu;
  const RunResult start = run(base("cpu"), of_cpu), other = run(base("cuda"), of_gpu);
  for (std::int64_t step = 1; step <= 4; ++step) EXPECT_NEAR(of_gpu.losses.at(step), of_cpu.losses.at(step), 1e-4) << step;
  EXPECT_NEAR(*other.held_out_loss, *start.held_out_loss, 1e-4);
  EXPECT_EQ(of_gpu.samples.size(), 1u);

  const auto lora = [&](const std::string& device) {
    return recipe("lora-" + device, {"device=" + device, "model=" + start.checkpoint.string(), "tokenizer=", "new_model.layers=0",
                                     "lora.rank=4", "steps=3", "watch.evaluate_tokens=64"});
  };
  Watcher cpu_adapters, gpu_adapters;
  run(lora("cpu"), cpu_adapters);
  const RunResult tuned = run(lora("cuda"), gpu_adapters);
  for (std::int64_t step = 1; step <= 3; ++step)
    EXPECT_NEAR(gpu_adapters.losses.at(step), cpu_adapters.losses.at(step), 1e-4) << step;
  EXPECT_EQ(read_adapter(tuned.checkpoint).matrices.size(), 7u * 2u);
}

// From a teacher in the GPU's memory, and from what one has said there.
TEST_F(RunsOnGpu, DistilsAsTheProcessorDoes) {
  Watcher learning;
  const std::string teacher = run(recipe("teacher", {"steps=10"}), learning).checkpoint.string();
  const auto student = [&](const std::string& out, std::vector<std::string> options) {
    options.insert(options.begin(), {"objective=distillation", "seed=5", "steps=4", "new_model.width=16", "distillation.ratio=0.8",
                                     "distillation.temperature=2", "distillation.direction=symmetric", "watch.evaluate_tokens=64"});
    return recipe(out, options);
  };
  const std::string asking = "distillation.teacher=" + teacher;
  Watcher of_cpu, of_gpu, of_kept_cpu, of_kept_gpu;
  run(student("cpu", {"device=cpu", asking}), of_cpu);
  run(student("cuda", {"device=cuda", asking}), of_gpu);
  const auto learn_kept = [&](const std::string& device, Watcher& watcher) {
    const Recipe recipe = student("unused", {"device=" + device, asking});
    const DistillDataReport report =
        write_distill_data(recipe, models(recipe), pool_, {.top_k = 16, .out = path("taught-" + device)});
    run(student("kept-" + device,
                {"device=" + device, "data=[" + report.data[0] + "]", "validation=[" + report.validation[0] + "]"}),
        watcher);
    return report;
  };
  const DistillDataReport on_cpu = learn_kept("cpu", of_kept_cpu), on_gpu = learn_kept("cuda", of_kept_gpu);
  EXPECT_EQ(on_gpu.trained_tokens, on_cpu.trained_tokens);
  EXPECT_EQ(on_gpu.bytes, on_cpu.bytes);
  EXPECT_NEAR(on_gpu.rest, on_cpu.rest, 1e-5);
  for (std::int64_t step = 1; step <= 4; ++step) {
    EXPECT_NEAR(of_gpu.losses.at(step), of_cpu.losses.at(step), 1e-4) << step;
    EXPECT_NEAR(of_kept_gpu.losses.at(step), of_kept_cpu.losses.at(step), 1e-3) << step;  // of F16 log-probabilities
  }
}

TEST_F(RunsOnGpu, AStoppedDistillationContinuesBitForBit) {
  Watcher whole, first, second;
  const std::string teacher = run(recipe("teacher", {"steps=4"}), whole).checkpoint.string();
  const std::vector<std::string> options{"device=cuda", "objective=distillation", "steps=4", "weights=bf16",
                                         "distillation.teacher=" + teacher};
  const RunResult straight = run(recipe("straight", options), whole);
  first.stop_after = 2;
  run(recipe("stopped", options), first);
  const RunResult resumed = run(recipe("stopped", options), second, true);
  for (std::int64_t step = 3; step <= 4; ++step) EXPECT_EQ(second.losses.at(step), whole.losses.at(step)) << step;
  expect_equal_checkpoints(straight.checkpoint, resumed.checkpoint);
}

TEST_F(RunsOnGpu, ItsMemoryIsPlannedOnTheGpu) {
  const Recipe of_gpu = recipe("run", {"device=cuda"});
  const TrainMemory memory =
      plan_train_memory(of_gpu, models(of_gpu), find_objective(of_gpu.objective), std::vector<const Gpu*>{the_gpu.get().get()});
  EXPECT_NE(memory.text().find("free on " + the_gpu.get()->info().name), std::string::npos) << memory.text();
  const std::int64_t before = the_gpu.get()->free_memory();
  ThreadPool pool(1);
  Network network(models(of_gpu).start, train_choice(of_gpu, models(of_gpu).start->config, find_objective("next_token")),
                  Device{pool, the_gpu.get().get()}, of_gpu.batch_tokens, kept_activations(of_gpu));
  const AdamW optimizer(network.parameters, {}, Device{pool, the_gpu.get().get()});
  EXPECT_NEAR(static_cast<double>(before - the_gpu.get()->free_memory()), static_cast<double>(memory.total()), 64 << 20);
}

}  // namespace
}  // namespace puna
