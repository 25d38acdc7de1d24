// SPDX-License-Identifier: Apache-2.0
// From a path to its handler. A path is what it is: nothing is decoded, folded or shortened, so no spelling gets around a check,
// and what no route names is refused, first for want of a key.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "server/access.h"
#include "server/api_error.h"
#include "server/exchange.h"
#include "server/request_json.h"
#include "server/services.h"

namespace puna {

using Handler = void (*)(Services&, const std::shared_ptr<Exchange>&);
using FieldTable = std::span<const FieldRule> (*)();

struct Route {
  std::string_view method;
  std::string_view path;  // '*' stands for one part or more, which is not empty: "/v1/models/*"
  ApiFamily family = ApiFamily::kOpenAi;
  Right right = Right::kInfer;
  bool answers = false;  // asks a model: takes one of the places of requests in flight
  bool quick = false;    // takes no time, and may run on the network's thread
  Handler handler = nullptr;
  FieldTable fields = nullptr;   // that its body is checked against; none: it takes no body
  const char* answer = nullptr;  // the schema of its answer (response_schemas.h), where it is JSON
  const char* event = nullptr;   // and of each event, or line, where it streams
};

// All routes there are (routes/route_table.cc).
std::span<const Route> route_table();

// The route of a request, or why there is none: 404, or 405 with what the path takes. HEAD is GET.
struct RouteMatch {
  const Route* route = nullptr;
  int status = 200;
  std::string allowed;  // methods, where the status is 405
};
RouteMatch find_route(std::span<const Route> routes, std::string_view method, std::string_view path);

// The family that a path's refusals have, also where no route has it.
ApiFamily family_of(std::string_view path);

}  // namespace puna
