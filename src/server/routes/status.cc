// SPDX-License-Identifier: Apache-2.0
// Whether the server lives, whether it takes requests, what it counts, what it is; and its end.
#include <array>

#include "server/openapi.h"
#include "server/request_json.h"
#include "server/routes/routes.h"

namespace puna::routes {
namespace {

constexpr std::array<FieldRule, 1> kUnloadFields = {{{"model", FieldKind::kText, 1, 512, true, false}}};

}  // namespace

void health(Services&, Asked exchange) { exchange->send_json({{"status", "ok"}}); }

void ready(Services& services, Asked exchange) {
  if (services.draining) throw ApiError(503, "shutting_down", "", "the server is shutting down");
  exchange->send_json({{"status", "ready"}});
}

void metrics(Services& services, Asked exchange) {
  exchange->send({.status = 200,
                  .content_type = "text/plain; version=0.0.4; charset=utf-8",
                  .body = services.metrics.text(services.models, services.connections(), services.places)});
}

void props(Services& services, Asked exchange) {
  const SamplerOptions& sampler = services.sampler;
  Json roles = Json::array({"infer"});
  if (exchange->right() == Right::kManage) roles.push_back("manage");
  exchange->send_json({{"version", services.version},
                       {"default_model", services.models.find("")},
                       {"defaults",
                        {{"temperature", sampler.temperature},
                         {"top_p", sampler.top_p},
                         {"top_k", sampler.top_k},
                         {"min_p", sampler.min_p},
                         {"repetition_penalty", sampler.repetition_penalty}}},
                       {"roles", std::move(roles)},
                       {"runs", !services.runs.empty()},
                       {"votes", !services.votes.empty()}});
}

void openapi(Services& services, Asked exchange) { exchange->send_json(openapi_document(route_table(), services.version)); }

void stop(Services& services, Asked exchange) {
  exchange->send_json({{"status", "stopping"}});
  services.asked_to_stop = true;
}

std::span<const FieldRule> unload_fields() { return kUnloadFields; }

void unload(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kUnloadFields);
  const auto name = body.at("model").get<std::string>();
  if (services.models.find(name).empty())
    throw ApiError(404, "model_not_found", "model", fmt::format("there is no model \"{}\" here", name));
  exchange->send_json({{"model", services.models.find(name)}, {"unloaded", services.models.unload(name)}});
}

}  // namespace puna::routes
