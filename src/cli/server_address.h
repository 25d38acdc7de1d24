// SPDX-License-Identifier: Apache-2.0
// Where a server is, as people write it.
#pragma once

#include <string>

namespace puna {

constexpr const char* kDefaultHost = "127.0.0.1";
constexpr int kDefaultPort = 8080;

struct ServerAddress {
  std::string host = kDefaultHost;
  int port = kDefaultPort;
  std::string unix_path;  // instead of both
  bool tls = false;
  std::string url() const;  // "http://127.0.0.1:8080"
};

// "127.0.0.1:8080", "host", ":8080", "[::1]:8080", "http://host:8080", "unix:/path". A URL without a port means
// 80, or 443 for https. Throws kUsage naming `where`.
ServerAddress parse_server_address(const std::string& text, const std::string& where);

}  // namespace puna
