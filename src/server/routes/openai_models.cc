// SPDX-License-Identifier: Apache-2.0
// GET /v1/models and /v1/models/NAME.
#include "server/routes/routes.h"

namespace puna::routes {
namespace {

std::string_view state_name(ModelRegistry::State state) {
  switch (state) {
    case ModelRegistry::State::kAvailable:
      return "available";
    case ModelRegistry::State::kLoading:
      return "loading";
    case ModelRegistry::State::kLoaded:
      return "loaded";
  }
  return "";
}

Json model_json(const ModelRegistry::Listed& listed) {
  Json own = {{"state", state_name(listed.state)}, {"bytes", listed.source.bytes}};
  if (listed.model != nullptr) {
    const Checkpoint& checkpoint = listed.model->checkpoint();
    own["context"] = listed.model->context();
    own["trained_context"] = checkpoint.config.context;
    own["vocabulary"] = checkpoint.config.vocabulary;
    own["weight_bytes"] = checkpoint.weight_bytes;
    own["prompt_format"] = checkpoint.prompt_format ? Json(checkpoint.prompt_format->name) : Json();
  }
  return {{"id", listed.source.id},
          {"object", "model"},
          {"created", listed.source.created},
          {"owned_by", "puna"},
          {"puna", std::move(own)}};
}

// A model with adapters, in OpenAI's way of writing of what it was made.
Json adapter_json(const ModelRegistry::Listed& listed, const AdapterSource& adapter) {
  Json model = model_json(listed);
  model["id"] = listed.source.id + ":" + adapter.name;
  model["parent"] = listed.source.id;
  return model;
}

}  // namespace

void list_models(Services& services, Asked exchange) {
  Json data = Json::array();
  for (const auto& listed : services.models.list()) {
    data.push_back(model_json(listed));
    for (const AdapterSource& adapter : listed.source.adapters) data.push_back(adapter_json(listed, adapter));
  }
  exchange->send_json({{"object", "list"}, {"data", std::move(data)}});
}

void show_model(Services& services, Asked exchange) {
  const std::string name = exchange->path_rest(), id = services.models.find(name);
  for (const auto& listed : services.models.list()) {
    if (listed.source.id != id) continue;
    for (const AdapterSource& adapter : listed.source.adapters) {
      if (name.ends_with(":" + adapter.name)) return exchange->send_json(adapter_json(listed, adapter));
    }
    return exchange->send_json(model_json(listed));
  }
  throw ApiError(404, "model_not_found", "model", fmt::format("there is no model \"{}\" here", name.substr(0, 200)));
}

}  // namespace puna::routes
