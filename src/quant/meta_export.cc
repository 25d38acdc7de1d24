// SPDX-License-Identifier: Apache-2.0
#include "quant/meta_export.h"

#include <array>
#include <cstddef>

#include "base/error.h"
#include "base/json.h"
#include "model/checkpoint_reading.h"
#include "quant/config_figures.h"
#include "quant/folder_tokenizer.h"
#include "quant/rope_export.h"
#include "tensor/atomic_file.h"
#include "tensor/pth.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

std::int64_t two_thirds(std::int64_t width) { return static_cast<std::int64_t>(2.0 * 4.0 * static_cast<double>(width) / 3.0); }

std::int64_t feed_forward_width(std::int64_t width, const FeedForwardFigures& figures) {
  const auto hidden = static_cast<std::int64_t>(figures.multiplier * static_cast<double>(two_thirds(width)));
  return (hidden + figures.multiple - 1) / figures.multiple * figures.multiple;
}

void add_rope(const Checkpoint& in, Json& params) {
  const ModelConfig& config = in.config;
  if (config.rope_linear_factor != 1) {
    fail(ErrorKind::kUnsupported, in.where, "linear RoPE scaling has no place in Meta's params.json: convert to hf or gguf");
  }
  params["rope_theta"] = shortest_figure(config.rope_theta);
  const auto scaling = rope_scaling_figures(config, in.where);
  params["use_scaled_rope"] = scaling.has_value();
  if (!scaling) return;
  const RopeScaling published;
  if (scaling->low_frequency_factor != published.low_frequency_factor || scaling->original_context != published.original_context) {
    fail(ErrorKind::kUnsupported, in.where,
         "RoPE scaling with low_freq_factor {} and original context {}: Meta's code has {} and {} as constants; convert to hf or "
         "gguf",
         scaling->low_frequency_factor, scaling->original_context, published.low_frequency_factor, published.original_context);
  }
  params["rope_scaling_factor"] = shortest_figure(scaling->factor);
  if (scaling->high_frequency_factor != published.high_frequency_factor) {
    params["rope_high_freq_factor"] = shortest_figure(scaling->high_frequency_factor);
  }
}

// Meta's own files leave the factor to the code: so does this one where the reader fills in the same.
void forget_published_factor(Json& params) {
  if (!params.contains("rope_scaling_factor")) return;
  Json without = params;
  without.erase("rope_scaling_factor");
  const ModelConfig read = parse_meta_params(without.dump(), "params.json");
  if (read.rope_scaling && shortest_figure(read.rope_scaling->factor) == params["rope_scaling_factor"]) params = without;
}

// "3_feed_forward.w2_0": layer 3, matrix w2, rank 0.
std::string scale_name(const WeightPlan& weight) {
  std::string matrix = weight.role == WeightRole::kGate ? "w1" : weight.role == WeightRole::kUp ? "w3" : "w2";
  return fmt::format("{}_feed_forward.{}_0", weight.layer, matrix);
}

void write_scales(const fs::path& path, const Checkpoint& in, std::span<const WeightPlan> plan) {
  std::vector<PthEntry> entries;
  std::vector<std::span<const std::byte>> scales;
  for (const WeightPlan& weight : plan) {
    if (weight.format != Format::kF8E4M3) continue;
    const Tensor& tensor = in.weights.at(weight.role, weight.layer);
    entries.push_back({scale_name(weight), Format::kF32, Shape{tensor.shape.rows()}});
    scales.push_back(tensor.row_scales);
  }
  if (!entries.empty()) write_pth(path, entries, [&](std::size_t index) { return scales[index]; });
}

}  // namespace

FeedForwardFigures feed_forward_figures(std::int64_t width, std::int64_t feed_forward) {
  struct Published {
    std::int64_t width, feed_forward;
    FeedForwardFigures figures;
  };
  static constexpr std::array<Published, 5> kPublished = {{{2048, 8192, {1.5, 256}},
                                                           {3072, 8192, {1, 256}},
                                                           {4096, 14336, {1.3, 1024}},
                                                           {8192, 28672, {1.3, 4096}},
                                                           {16384, 53248, {1.2, 4096}}}};
  for (const Published& row : kPublished) {
    if (row.width == width && row.feed_forward == feed_forward) return row.figures;
  }
  if (const FeedForwardFigures plain; feed_forward_width(width, plain) == feed_forward) return plain;
  // A multiplier that ends just below F, rounded up to a small power of two that divides F.
  FeedForwardFigures figures{(static_cast<double>(feed_forward) - 0.5) / static_cast<double>(two_thirds(width)), 1};
  while (figures.multiple < 256 && feed_forward % (2 * figures.multiple) == 0) figures.multiple *= 2;
  if (figures.multiple == 1)
    figures.multiplier = (static_cast<double>(feed_forward) + 0.5) / static_cast<double>(two_thirds(width));
  return figures;
}

std::string meta_params_text(const Checkpoint& in, std::vector<std::string>& notes) {
  const ModelConfig& config = in.config;
  if (config.heads * config.head_width != config.width) {
    fail(ErrorKind::kUnsupported, in.where, "{} heads of width {} do not add up to the model's width, {}, as Meta's code expects",
         config.heads, config.head_width, config.width);
  }
  const FeedForwardFigures figures = feed_forward_figures(config.width, config.feed_forward);
  Json params = {{"dim", config.width},
                 {"ffn_dim_multiplier", figures.multiplier},
                 {"multiple_of", figures.multiple},
                 {"n_heads", config.heads},
                 {"n_kv_heads", config.kv_heads},
                 {"n_layers", config.layers},
                 {"norm_eps", shortest_figure(config.norm_eps)},
                 {"vocab_size", config.vocabulary}};
  add_rope(in, params);
  forget_published_factor(params);
  const ModelConfig read = parse_meta_params(params.dump(), "params.json");
  PUNA_CHECK(read.feed_forward == config.feed_forward, "params.json", "the figures give a feed-forward width of {}, expected {}",
             read.feed_forward, config.feed_forward);
  if (read.context != config.context) {
    notes.push_back(fmt::format("the context of {} positions was left out: params.json has no place for it, and readers take {}",
                                config.context, read.context));
  }
  return params.dump(2) + "\n";
}

void write_meta_checkpoint(const fs::path& folder, const Checkpoint& in, std::span<const WeightPlan> plan, WeightEncoder& encoder,
                           std::vector<std::string>& notes) {
  AtomicFile params(folder / "params.json");
  params.write(meta_params_text(in, notes));
  params.commit();
  if (in.config.tied_embeddings) {
    notes.push_back("output.weight was left out, as it is the token embedding: Meta's own code wants it written twice");
  }
  write_meta_tokenizer(folder, in, notes);
  std::vector<PthEntry> entries;
  for (const WeightPlan& weight : plan) {
    const Tensor& tensor = in.weights.at(weight.role, weight.layer);
    entries.push_back({weight_name(weight.role, &WeightRoleInfo::meta, weight.layer), weight.format, tensor.shape});
  }
  write_pth(folder / "consolidated.00.pth", entries, [&](std::size_t index) { return encoder.encode(plan[index]); });
  write_scales(folder / "fp8_scales_0.pt", in, plan);
}

}  // namespace puna
