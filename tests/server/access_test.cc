// SPDX-License-Identifier: Apache-2.0
#include "server/access.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace puna {
namespace {

const std::string kKey = "a key of enough letters";
const std::string kManageKey = "another key of enough letters";

HttpRequest request(HttpHeaders headers) {
  HttpRequest asked{
      .method = "GET", .path = "/v1/models", .query = "", .headers = std::move(headers), .body = "", .peer = "127.0.0.1"};
  if (asked.header("host").empty()) asked.headers.emplace_back("host", "localhost:8080");
  return asked;
}

int status(Access& access, HttpHeaders headers, Right needed = Right::kInfer) {
  const auto refusal = access.refusal(request(std::move(headers)), needed);
  return refusal ? refusal->status() : 200;
}

TEST(Access, WithoutKeysListensHereOnly) {
  EXPECT_NO_THROW(Access({}, "127.0.0.1", true));
  expect_error(ErrorKind::kUsage, "no key is set", [] { Access({}, "0.0.0.0", false); });
  expect_error(ErrorKind::kUsage, "expected at least 16", [] { Access({.infer_keys = {"short"}}, "0.0.0.0", false); });
  EXPECT_NO_THROW(Access({.infer_keys = {kKey}}, "0.0.0.0", false));
}

TEST(Access, KnowsLoopback) {
  for (const char* host : {"127.0.0.1", "127.8.8.8", "localhost", "LOCALHOST:80", "[::1]", "[::1]:8080", "127.0.0.1:1"})
    EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"", "0.0.0.0", "10.0.0.1", "127.0.0.1.evil.org", "localhost.evil.org", "127.1", "[::2]", "1270.0.1.1x"})
    EXPECT_FALSE(is_loopback(host)) << host;
}

TEST(Access, KeysComeInTwoHeaders) {
  Access access({.infer_keys = {kKey}}, "127.0.0.1", true);
  EXPECT_EQ(status(access, {}), 401);
  EXPECT_EQ(status(access, {{"authorization", "Bearer " + kKey}}), 200);
  EXPECT_EQ(status(access, {{"x-api-key", kKey}}), 200);
  for (const std::string& wrong : {kKey + "x", kKey.substr(1), kKey.substr(0, kKey.size() - 1), std::string(), std::string("x")}) {
    EXPECT_EQ(status(access, {{"authorization", "Bearer " + wrong}}), 401) << wrong;
    EXPECT_EQ(status(access, {{"x-api-key", wrong}}), 401) << wrong;
  }
  EXPECT_EQ(status(access, {{"authorization", "Basic " + kKey}}), 401);
  EXPECT_EQ(status(access, {}, Right::kNone), 200);
}

TEST(Access, SomeKeysMayNotManage) {
  Access access({.infer_keys = {kKey}, .manage_keys = {kManageKey}}, "127.0.0.1", true);
  EXPECT_EQ(status(access, {{"x-api-key", kKey}}, Right::kManage), 403);
  EXPECT_EQ(status(access, {{"x-api-key", kManageKey}}, Right::kManage), 200);
  EXPECT_EQ(status(access, {{"x-api-key", kManageKey}}, Right::kInfer), 200);
}

TEST(Access, AnswersToItsOwnNamesOnly) {
  Access access({.hosts = {"box.lan"}}, "127.0.0.1", true);
  for (const char* host : {"localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "box.lan", "BOX.LAN:80"})
    EXPECT_EQ(status(access, {{"host", host}}), 200) << host;
  for (const char* host :
       {"evil.org", "evil.org:8080", "localhost.evil.org", "127.0.0.1.evil.org", "box.lan.evil.org", "box.lan@evil.org", "10.0.0.1",
        "[::2]", "[::1].evil.org", "localhost:80@evil.org", "[", "localhost:8x", "localhost:8080:1", "localhost,evil.org"})
    EXPECT_EQ(status(access, {{"host", host}}), 403) << host;
  EXPECT_EQ(status(access, {{"host", "evil.org"}}, Right::kNone), 403);
}

TEST(Access, PagesFromElsewhereMayNotCall) {
  Access access({.origins = {"https://app.example"}}, "127.0.0.1", true);
  for (const char* origin : {"http://localhost:8080", "http://127.0.0.1:3000", "http://[::1]:1", "https://app.example"})
    EXPECT_EQ(status(access, {{"origin", origin}}), 200) << origin;
  for (const char* origin : {"null", "https://evil.org", "http://localhost.evil.org", "https://app.example.evil.org",
                             "http://app.example", "https://app.example:444", "file://"})
    EXPECT_EQ(status(access, {{"origin", origin}}), 403) << origin;
  EXPECT_EQ(access.allowed_origin(request({{"origin", "https://app.example"}})), "https://app.example");
  EXPECT_EQ(access.allowed_origin(request({{"origin", "https://evil.org"}})), "");
}

TEST(Access, TakesSoManyRequestsInAMinute) {
  Access access({.requests_per_minute = 3}, "127.0.0.1", true);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(status(access, {}), 200);
  EXPECT_EQ(status(access, {}), 429);
  EXPECT_EQ(status(access, {}, Right::kNone), 200);
}

}  // namespace
}  // namespace puna
