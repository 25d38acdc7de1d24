// SPDX-License-Identifier: Apache-2.0
#include "cli/server_address.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace puna {
namespace {

std::string url(const std::string& text) { return parse_server_address(text, "test").url(); }

TEST(ServerAddress, ABareHostHasPunasPort) {
  EXPECT_EQ(url("host"), "http://host:8080");
  EXPECT_EQ(url(":81"), "http://127.0.0.1:81");
  EXPECT_EQ(url("[::1]"), "http://[::1]:8080");
  EXPECT_EQ(url("host:443"), "http://host:443");
}

TEST(ServerAddress, AUrlHasItsSchemesPort) {
  EXPECT_EQ(url("https://host"), "https://host:443");
  EXPECT_EQ(url("https://host/"), "https://host:443");
  EXPECT_EQ(url("http://host"), "http://host:80");
  EXPECT_EQ(url("http://[::1]/"), "http://[::1]:80");
  EXPECT_EQ(url("https://host:8080"), "https://host:8080");
}

TEST(ServerAddress, RefusesWhatIsNone) {
  for (const char* text : {"host:", "host:many", "host:65536", "http://host:80/path", "[::1]80"}) {
    expect_error(ErrorKind::kUsage, "is no address, expected HOST:PORT, a URL or unix:PATH", [&] { url(text); });
  }
  expect_error(ErrorKind::kUsage, "names no socket", [] { url("unix:"); });
}

}  // namespace
}  // namespace puna
