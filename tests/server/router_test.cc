// SPDX-License-Identifier: Apache-2.0
#include "server/router.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>

namespace puna {
namespace {

TEST(RouteTable, EveryRowIsWholeAndStandsOnce) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const Route& route : route_table()) {
    EXPECT_NE(route.handler, nullptr) << route.path;
    EXPECT_EQ(route.path.front(), '/') << route.path;
    EXPECT_TRUE(seen.emplace(route.method, route.path).second) << route.path;
    EXPECT_EQ(route.family, family_of(route.path)) << route.path;
  }
}

TEST(RouteTable, OnlyTheseNeedNoKey) {
  std::set<std::string_view> open;
  for (const Route& route : route_table()) {
    if (route.right == Right::kNone) open.insert(route.path);
  }
  EXPECT_EQ(open, (std::set<std::string_view>{"/", "/health", "/ready"}));
}

TEST(FindRoute, TakesAPathAsItIs) {
  const auto status = [](std::string_view method, std::string_view path) { return find_route(route_table(), method, path).status; };
  EXPECT_EQ(status("POST", "/v1/chat/completions"), 200);
  EXPECT_EQ(status("GET", "/v1/models/org/name"), 200);
  EXPECT_EQ(status("HEAD", "/health"), 200);
  for (const char* path : {"/v1/chat/completions/", "//v1/chat/completions", "/v1//chat/completions", "/V1/chat/completions",
                           "/v1/chat/completions%20", "/v1/chat%2fcompletions", "/%761/chat/completions", "/v1/./chat/completions",
                           "/v1/x/../chat/completions", "/v1/chat/completions;x", "/v1/chat/completions#", "v1/chat/completions",
                           "http://localhost/v1/chat/completions", "/v1/chat/completions\\", "", "*"}) {
    EXPECT_EQ(status("POST", path), 404) << path;
  }
}

TEST(FindRoute, AStarIsNotEmpty) {
  EXPECT_EQ(find_route(route_table(), "GET", "/v1/models/").status, 404);
  EXPECT_EQ(find_route(route_table(), "GET", "/puna/runs//metrics").status, 404);
  EXPECT_EQ(find_route(route_table(), "GET", "/puna/runs/a/metrics").status, 200);
}

TEST(FindRoute, SaysWhatAPathTakes) {
  const RouteMatch match = find_route(route_table(), "DELETE", "/puna/votes");
  EXPECT_EQ(match.status, 405);
  EXPECT_EQ(match.allowed, "GET, POST");
}

}  // namespace
}  // namespace puna
