// SPDX-License-Identifier: Apache-2.0
// A training run as its YAML file says it. One list of fields per struct (recipe_fields() and its like) serves the reader, the
// --key=value overrides, the help, the reference page and the resolved copy that is saved with a run.
// Nested keys are dotted names here: "optimizer.learning_rate". Sizes of batches are counted in tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace puna {

struct DataRecipe {
  std::string path;           // a file, folder or pattern
  std::string kind = "auto";  // train/data's kinds
  double weight = 0;          // share of the mixture, relative to the others; 0 for all: by size
};

// What changes after a number of steps; what is not given stays.
struct StageRecipe {
  std::string name;
  std::int64_t steps = 0;
  std::int64_t sequence_length = 0;  // 0: as before
  std::int64_t step_tokens = 0;      // 0: as before
  double learning_rate = 0;          // at the end of the stage, reached linearly; 0: the schedule goes on
  bool anneal = false;               // linearly to zero over this stage
  double rope_theta = 0;             // 0: as before
  double rope_scaling_factor = 0;    // 0: as before
  std::vector<double> data_weights;  // one per entry of data; empty: as before
  double gate_loss = 0;    // the stage ends well only if held-out loss at the first length is at most this much above its start
  double gate_needle = 0;  // … and this share of needles is found at the new length
  bool average = false;    // Polyak average of the stage's checkpoints becomes the result
};

struct Recipe {
  std::string description;
  std::string model, tokenizer, objective = "next_token", out;
  std::int64_t seed = 1;
  int threads = 0;
  std::string device = "cpu";

  struct NewModel {
    std::string shape;  // "1b", …
    std::int64_t depth = 0, layers = 0, width = 0, heads = 0, kv_heads = 0, feed_forward = 0, vocabulary = 0, context = 0;
    double rope_theta = 500000;
    bool tied_embeddings = true;
  } new_model;

  std::vector<DataRecipe> data, validation;
  struct Reading {
    bool strict = false, pack = true, whole_documents = false, last_turn_only = false, train_format_tokens = false;
    bool blank_line_documents = false, plain_strings = false;
    std::string over_long = "drop", at_end = "repeat", date;
  } reading;

  std::int64_t sequence_length = 2048, step_tokens = 16384, batch_tokens = 4096;
  std::int64_t steps = 0;
  double epochs = 0;
  std::vector<StageRecipe> stages;

  struct Optimizer {
    double learning_rate = 1e-4, final_learning_rate = 0.1, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 1;
    double warmup = 0.03, decay = 0.2;
    std::string schedule = "cosine";
    bool eight_bit = false;
  } optimizer;

  struct Lora {
    std::int64_t rank = 0;
    double alpha = 16;
    std::vector<std::string> targets{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  } lora;
  std::string weights = "f32", recompute = "none";

  struct Reward {
    std::string rows = "tree";
  } reward;
  struct Dpo {
    double beta = 0.1, nll_weight = 0.2;
    bool length_normalised = false, nll_format_tokens = true, precompute_reference = false;
    std::string reference;
  } dpo;
  struct Distillation {
    std::string teacher, direction = "forward";
    double ratio = 0.5, temperature = 1;
  } distillation;

  struct Watch {
    std::int64_t log_every = 1, evaluate_every = 0, evaluate_tokens = 65536, sample_every = 0, checkpoint_every = 0, keep = 2,
                 sample_tokens = 64;
    std::vector<std::string> samples;
    bool keep_best = true;
    std::string on_nan = "stop";
    double spike = 0;
  } watch;
};

// Where a field's value lies, by type.
using FieldValue = std::variant<std::string*, double*, std::int64_t*, int*, bool*, std::vector<std::string>*, std::vector<double>*,
                                std::vector<DataRecipe>*, std::vector<StageRecipe>*>;
struct RecipeField {
  std::string_view name, about;
  FieldValue value;
  std::string_view choices;  // "stop|skip|roll_back"; empty: any
};
std::vector<RecipeField> recipe_fields(Recipe& recipe);
std::vector<RecipeField> data_fields(DataRecipe& data);
std::vector<RecipeField> stage_fields(StageRecipe& stage);

// Reads YAML; `where` is the file's name for messages. Unknown keys, wrong types and values outside the choices are refused
// (kBadInput) with the line and, for names, the nearest that exists.
Recipe parse_recipe(std::string_view yaml, const std::string& where);

// "optimizer.learning_rate=1e-5", "data=[a.jsonl, b.jsonl]", "data.0.weight=2". Throws kUsage.
void override_recipe(Recipe& recipe, std::string_view assignment);

// All fields with their values as YAML that parse_recipe() reads back equal.
std::string recipe_text(const Recipe& recipe);

// What can be known before anything starts: impossible figures and combinations. Throws kUsage naming the field.
void check_recipe(const Recipe& recipe);

// The recipes inside the program: recipes/*.yaml at build time.
struct ShippedRecipe {
  std::string_view name, text;
};
std::span<const ShippedRecipe> shipped_recipes();
// A path, or the name of a shipped recipe: its text and what to call it in messages. Throws kNotFound naming the nearest.
std::pair<std::string, std::string> read_recipe(const std::string& name_or_path);

}  // namespace puna
