// SPDX-License-Identifier: Apache-2.0
// The one list of what a recipe can say.
#include "train/recipe.h"

namespace puna {

std::vector<RecipeField> recipe_fields(Recipe& r) {
  return {
      {"description", "what the recipe is for", &r.description, ""},
      {"model", "the checkpoint to start from: a path, or a name in the cache; empty makes a new one", &r.model, ""},
      {"tokenizer", "the tokenizer of a new model, or another one for the checkpoint: a path", &r.tokenizer, ""},
      {"objective", "what is learned", &r.objective, "next_token|sft|reward|dpo|distillation"},
      {"out", "the folder of the run; must not hold another run", &r.out, ""},
      {"seed", "of everything random: order of data, new weights, adapters", &r.seed, ""},
      {"threads", "0: one per processor", &r.threads, ""},
      {"device", "where the run computes: cpu, cuda, cuda:N for GPU N; split over several: cuda:0-3, cuda:0,2, cuda:all, cpu:N",
       &r.device, ""},

      {"new_model.shape", "a known shape: 1b, 3b, 8b, 70b, 405b", &r.new_model.shape, ""},
      {"new_model.depth", "one number for the whole shape: layers; width is 64 times as many", &r.new_model.depth, ""},
      {"new_model.layers", "blocks of attention and feed-forward", &r.new_model.layers, ""},
      {"new_model.width", "of the residual stream", &r.new_model.width, ""},
      {"new_model.heads", "query heads", &r.new_model.heads, ""},
      {"new_model.kv_heads", "key and value heads; divides heads; 0: as many as heads", &r.new_model.kv_heads, ""},
      {"new_model.feed_forward", "0: 8/3 of the width, rounded up to a multiple of 32", &r.new_model.feed_forward, ""},
      {"new_model.vocabulary", "0: the tokenizer's", &r.new_model.vocabulary, ""},
      {"new_model.context", "positions the model says it was made for; 0: sequence_length", &r.new_model.context, ""},
      {"new_model.rope_theta", "base of the rotary frequencies", &r.new_model.rope_theta, ""},
      {"new_model.tied_embeddings", "one matrix for input and output", &r.new_model.tied_embeddings, ""},

      {"data", "files, folders or patterns to learn from, each with kind and weight", &r.data, ""},
      {"validation", "the same, held out: its loss is measured and never learned from", &r.validation, ""},
      {"reading.strict", "refuse the first bad row instead of counting it", &r.reading.strict, ""},
      {"reading.pack", "several examples in one row, blind to each other", &r.reading.pack, ""},
      {"reading.whole_documents", "leave documents longer than a row whole or out, never cut", &r.reading.whole_documents, ""},
      {"reading.last_turn_only", "learn the last assistant turn of a conversation only", &r.reading.last_turn_only, ""},
      {"reading.train_format_tokens", "let headers and end tokens count in preferences", &r.reading.train_format_tokens, ""},
      {"reading.blank_line_documents", "in text files, blank lines end a document", &r.reading.blank_line_documents, ""},
      {"reading.plain_strings", "prompts and answers that are texts continue each other; else they are turns of a chat",
       &r.reading.plain_strings, ""},
      {"reading.date", "today's date in prompts that tell it, as 26 Jul 2024; empty leaves it out", &r.reading.date, ""},
      {"reading.over_long", "an example longer than a row", &r.reading.over_long, "drop|truncate|error"},
      {"reading.at_end", "when the data has been read once", &r.reading.at_end, "repeat|stop"},

      {"sequence_length", "tokens of the longest row", &r.sequence_length, ""},
      {"step_tokens", "tokens of one optimizer step", &r.step_tokens, ""},
      {"batch_tokens", "tokens computed at once: memory grows with it, results do not change", &r.batch_tokens, ""},
      {"steps", "optimizer steps; 0: from epochs or stages", &r.steps, ""},
      {"epochs", "times through the data; 0: from steps", &r.epochs, ""},
      {"stages", "parts of the run that change length, rotary base, rate, mixture or batch", &r.stages, ""},

      {"optimizer.learning_rate", "at its highest", &r.optimizer.learning_rate, ""},
      {"optimizer.final_learning_rate", "at the end, as a share of the highest", &r.optimizer.final_learning_rate, ""},
      {"optimizer.schedule", "how the rate falls", &r.optimizer.schedule, "constant|linear|cosine|wsd"},
      {"optimizer.warmup", "steps of linear rise from 0; below 1: a share of all steps", &r.optimizer.warmup, ""},
      {"optimizer.decay", "wsd: steps of linear fall at the end; below 1: a share of all steps", &r.optimizer.decay, ""},
      {"optimizer.beta1", "AdamW's memory of the gradient", &r.optimizer.beta1, ""},
      {"optimizer.beta2", "AdamW's memory of its square", &r.optimizer.beta2, ""},
      {"optimizer.eps", "keeps the root of the squares away from 0", &r.optimizer.eps, ""},
      {"optimizer.weight_decay", "of matrices; decoupled", &r.optimizer.weight_decay, ""},
      {"optimizer.clip", "largest norm of the whole gradient; 0: no limit", &r.optimizer.clip, ""},
      {"optimizer.eight_bit", "keep AdamW's states in 8 bits", &r.optimizer.eight_bit, ""},

      {"lora.rank", "0 trains all weights; otherwise adapters of this rank, over weights of any format", &r.lora.rank, ""},
      {"lora.alpha", "adapters are scaled by alpha / rank", &r.lora.alpha, ""},
      {"lora.targets", "the projections with adapters", &r.lora.targets, ""},
      {"weights",
       "storage of the trained weights in the products; masters are F32. On a GPU also the precision of gradients' products",
       &r.weights, "f32|bf16"},
      {"recompute", "keep only each block's input and compute the rest again", &r.recompute, "none|blocks"},

      {"reward.rows", "answers see the prompt alone, or in one row also those before them, as in the Llama 3 paper", &r.reward.rows,
       "tree|paper"},
      {"dpo.beta", "strength of the tie to the reference", &r.dpo.beta, ""},
      {"dpo.nll_weight", "of the chosen answer's own loss", &r.dpo.nll_weight, ""},
      {"dpo.nll_format_tokens", "let headers and end tokens count in that loss", &r.dpo.nll_format_tokens, ""},
      {"dpo.length_normalised", "divide log-probabilities by the answer's length", &r.dpo.length_normalised, ""},
      {"dpo.reference", "the reference model; empty: the start of this run", &r.dpo.reference, ""},
      {"dpo.precompute_reference", "ask the reference once, before the first step: it takes no memory while the run trains",
       &r.dpo.precompute_reference, ""},
      {"distillation.teacher", "a model of the same vocabulary; empty: the data is that of puna distill-data",
       &r.distillation.teacher, ""},
      {"distillation.direction", "of the divergence", &r.distillation.direction, "forward|reverse|symmetric"},
      {"distillation.ratio", "share of the divergence; the rest is cross-entropy", &r.distillation.ratio, ""},
      {"distillation.temperature", "of teacher and student", &r.distillation.temperature, ""},

      {"watch.log_every", "steps between lines of metrics.jsonl", &r.watch.log_every, ""},
      {"watch.evaluate_every", "steps between measurements on validation; 0: at the end only", &r.watch.evaluate_every, ""},
      {"watch.evaluate_tokens", "of validation that are measured, from its beginning", &r.watch.evaluate_tokens, ""},
      {"watch.sample_every", "steps between samples; 0: none", &r.watch.sample_every, ""},
      {"watch.samples", "prompts to sample from", &r.watch.samples, ""},
      {"watch.sample_tokens", "tokens of a sample", &r.watch.sample_tokens, ""},
      {"watch.checkpoint_every", "steps between checkpoints; 0: at the end only", &r.watch.checkpoint_every, ""},
      {"watch.keep", "checkpoints to keep", &r.watch.keep, ""},
      {"watch.keep_best", "and the one with the lowest held-out loss", &r.watch.keep_best, ""},
      {"watch.on_nan", "when a loss or gradient is not a number, or a spike is seen", &r.watch.on_nan, "stop|skip|roll_back"},
      {"watch.spike", "a step whose loss or gradient norm is this many standard deviations above the last 128; 0: off",
       &r.watch.spike, ""},
  };
}

std::vector<RecipeField> data_fields(DataRecipe& d) {
  return {
      {"path", "a file, folder or pattern", &d.path, ""},
      {"kind", "auto, or what the rows are", &d.kind, ""},
      {"weight", "share of the mixture, relative to the others; none given: by size", &d.weight, ""},
  };
}

std::vector<RecipeField> stage_fields(StageRecipe& s) {
  return {
      {"name", "for people", &s.name, ""},
      {"steps", "of this stage", &s.steps, ""},
      {"sequence_length", "0: as before", &s.sequence_length, ""},
      {"step_tokens", "0: as before", &s.step_tokens, ""},
      {"learning_rate", "reached linearly at the stage's end; 0: the schedule goes on", &s.learning_rate, ""},
      {"anneal", "bring the learning rate linearly to zero over this stage", &s.anneal, ""},
      {"rope_theta", "base of the rotary frequencies; 0: as before", &s.rope_theta, ""},
      {"rope_scaling_factor", "Llama 3.1's scaling of the frequencies by this factor; 0: as before", &s.rope_scaling_factor, ""},
      {"data_weights", "one per entry of data; empty: as before", &s.data_weights, ""},
      {"gate_loss", "go on only if the held-out loss at the first length rose by no more than this; 0: no gate", &s.gate_loss, ""},
      {"gate_needle", "go on only if this share of needles is found at the stage's length; 0: no gate", &s.gate_needle, ""},
      {"average", "the average of the stage's checkpoints becomes its result", &s.average, ""},
  };
}

}  // namespace puna
