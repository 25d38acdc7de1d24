// SPDX-License-Identifier: Apache-2.0
#include "server/router.h"

#include <string>

namespace puna {
namespace {

bool matches(std::string_view pattern, std::string_view path) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == path;
  const std::string_view before = pattern.substr(0, star), behind = pattern.substr(star + 1);
  return path.size() > before.size() + behind.size() && path.starts_with(before) && path.ends_with(behind);
}

}  // namespace

RouteMatch find_route(std::span<const Route> routes, std::string_view method, std::string_view path) {
  RouteMatch match;
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  for (const Route& route : routes) {
    if (!matches(route.path, path)) continue;
    if (route.method == wanted) return {.route = &route, .status = 200, .allowed = ""};
    match.status = 405;
    match.allowed.append(match.allowed.empty() ? "" : ", ").append(route.method);
  }
  if (match.status != 405) match.status = 404;
  return match;
}

ApiFamily family_of(std::string_view path) {
  if (path.starts_with("/v1/messages")) return ApiFamily::kAnthropic;
  return path.starts_with("/api/") ? ApiFamily::kOllama : ApiFamily::kOpenAi;
}

}  // namespace puna
