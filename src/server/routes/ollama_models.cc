// SPDX-License-Identifier: Apache-2.0
// GET /api/tags, /api/ps and /api/version, POST /api/show: what models there are, and what each of them is.
#include <algorithm>
#include <array>
#include <map>
#include <span>

#include "base/error.h"
#include "base/sha256.h"
#include "server/routes/ollama_fields.h"
#include "server/routes/routes.h"

namespace puna::routes {
namespace {

using Clock = std::chrono::system_clock;

constexpr const char* kForEver = "9999-12-31T23:59:59Z";

// Tells states of a model apart, as Ollama's digest does; made of its name, size and date, not of its bytes.
std::string fingerprint(const ModelSource& source) {
  const std::string text = fmt::format("{}\n{}\n{}", source.id, source.bytes, source.created);
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.finish();
}

std::string_view container(CheckpointKind kind) {
  switch (kind) {
    case CheckpointKind::kGguf:
      return "gguf";
    case CheckpointKind::kHuggingFace:
      return "safetensors";
    case CheckpointKind::kMeta:
      return "pth";
    case CheckpointKind::kMemory:
      break;
  }
  return "";
}

// "8.0B", "260.0K"
std::string parameter_size(std::int64_t parameters) {
  const auto count = static_cast<double>(parameters);
  return count >= 1e9   ? fmt::format("{:.1f}B", count / 1e9)
         : count >= 1e6 ? fmt::format("{:.1f}M", count / 1e6)
                        : fmt::format("{:.1f}K", count / 1e3);
}

// The format that most bytes of weights have, in capitals.
std::string quantization_level(const Checkpoint& checkpoint) {
  std::map<std::string, std::size_t> bytes;
  for (const WeightRoleInfo& row : weight_roles()) {
    for (std::int64_t layer = 0; layer < (row.per_layer ? checkpoint.config.layers : 1); ++layer) {
      const Tensor& tensor = checkpoint.weights.at(row.role, layer);
      bytes[std::string(info(tensor.format).name)] += tensor.bytes.size();
    }
  }
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& row) { return row.second; });
  std::string level = most == bytes.end() ? "" : most->first;
  for (char& c : level) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return level;
}

// Of a model that is not open only the family is known.
Json details_json(const Checkpoint* checkpoint) {
  const bool open = checkpoint != nullptr;
  return {{"parent_model", ""},
          {"format", open ? container(checkpoint->kind) : ""},
          {"family", "llama"},
          {"families", Json::array({"llama"})},
          {"parameter_size", open ? parameter_size(checkpoint->config.parameters()) : ""},
          {"quantization_level", open ? quantization_level(*checkpoint) : ""}};
}

Json ollama_model_json(const ModelRegistry::Listed& listed) {
  const ModelSource& source = listed.source;
  return {{"name", source.id},
          {"model", source.id},
          {"modified_at", rfc3339(Clock::time_point(std::chrono::seconds(source.created)))},
          {"size", source.bytes},
          {"digest", fingerprint(source)},
          {"details", details_json(listed.model == nullptr ? nullptr : &listed.model->checkpoint())}};
}

Json model_info(const Checkpoint& checkpoint) {
  const ModelConfig& c = checkpoint.config;
  return {{"general.architecture", "llama"},
          {"general.parameter_count", c.parameters()},
          {"llama.attention.head_count", c.heads},
          {"llama.attention.head_count_kv", c.kv_heads},
          {"llama.attention.layer_norm_rms_epsilon", c.norm_eps},
          {"llama.block_count", c.layers},
          {"llama.context_length", c.context},
          {"llama.embedding_length", c.width},
          {"llama.feed_forward_length", c.feed_forward},
          {"llama.rope.dimension_count", c.head_width},
          {"llama.rope.freq_base", c.rope_theta},
          {"llama.vocab_size", c.vocabulary}};
}

Json capabilities(const Checkpoint& checkpoint) {
  Json able = Json::array({"completion", "embedding"});
  if (checkpoint.prompt_format && checkpoint.prompt_format->frame == Frame::kLlama3) able.push_back("tools");
  return able;
}

std::string parameters_text(const SamplerOptions& sampler) {
  return fmt::format("temperature {}\ntop_k {}\ntop_p {}\nmin_p {}\nrepeat_penalty {}", sampler.temperature, sampler.top_k,
                     sampler.top_p, sampler.min_p, sampler.repetition_penalty);
}

std::shared_ptr<const Checkpoint> open_source(const ModelSource& source) {
  try {
    return source.open();
  } catch (const Error& error) {
    fmt::print(stderr, "puna: {}: {}\n", source.id, error.what());  // with its path, which is for the operator only
    throw ApiError(500, "model_not_loadable", "model",
                   fmt::format("the model {} could not be read; the server's log says why", source.id));
  }
}

constexpr std::array<FieldRule, 3> kShowFields = {
    {{"model", FieldKind::kText, 1, 512}, {"name", FieldKind::kText, 1, 512}, {"verbose", FieldKind::kBoolean}}};

}  // namespace

void ollama_tags(Services& services, Asked exchange) {
  Json models = Json::array();
  for (const auto& listed : services.models.list()) models.push_back(ollama_model_json(listed));
  exchange->send_json({{"models", std::move(models)}});
}

void ollama_ps(Services& services, Asked exchange) {
  Json models = Json::array();
  for (const auto& listed : services.models.list()) {
    if (listed.model == nullptr) continue;
    Json model = ollama_model_json(listed);
    model.erase("modified_at");
    model["size"] = listed.model->planned_bytes();
    model["size_vram"] = 0;
    model["context_length"] = listed.model->context();
    model["expires_at"] = listed.expires < 0 ? kForEver : rfc3339(Clock::now() + std::chrono::seconds(listed.expires));
    models.push_back(std::move(model));
  }
  exchange->send_json({{"models", std::move(models)}});
}

std::span<const FieldRule> ollama_show_fields() { return kShowFields; }

void ollama_show(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kShowFields);
  const std::string name = known_model(services, model_field(body));
  for (const auto& listed : services.models.list()) {
    if (listed.source.id != name) continue;
    std::shared_ptr<const Checkpoint> opened;
    if (listed.model == nullptr) opened = open_source(listed.source);
    const Checkpoint& checkpoint = opened == nullptr ? listed.model->checkpoint() : *opened;
    return exchange->send_json({{"modelfile", "FROM " + name + "\n"},
                                {"parameters", parameters_text(services.sampler)},
                                {"template", checkpoint.chat_template},
                                {"details", details_json(&checkpoint)},
                                {"model_info", model_info(checkpoint)},
                                {"capabilities", capabilities(checkpoint)},
                                {"modified_at", rfc3339(Clock::time_point(std::chrono::seconds(listed.source.created)))}});
  }
  throw ApiError(404, "model_not_found", "model", fmt::format("model '{}' was deleted", name));
}

void ollama_version(Services& services, Asked exchange) { exchange->send_json({{"version", services.version}}); }

}  // namespace puna::routes
