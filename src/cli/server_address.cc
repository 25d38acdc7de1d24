// SPDX-License-Identifier: Apache-2.0
#include "cli/server_address.h"

#include <charconv>
#include <string_view>

#include "base/error.h"

namespace puna {

std::string ServerAddress::url() const {
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("{}://{}:{}", tls ? "https" : "http", v6 ? "[" + host + "]" : host, port);
}

ServerAddress parse_server_address(const std::string& text, const std::string& where) {
  ServerAddress address;
  std::string_view left = text;
  if (left.starts_with("unix:")) {
    address.unix_path = left.substr(5);
    if (address.unix_path.empty()) fail(ErrorKind::kUsage, where, "'{}' names no socket: expected unix:PATH", text);
    return address;
  }
  address.tls = left.starts_with("https://");
  if (const std::size_t scheme = left.find("://"); scheme != std::string_view::npos) {
    address.port = address.tls ? 443 : 80;  // what a URL means everywhere
    left.remove_prefix(scheme + 3);
  }
  if (left.ends_with('/')) left.remove_suffix(1);
  const bool bracketed = left.starts_with('[') && left.find(']') != std::string_view::npos;
  const std::size_t host_end = bracketed ? left.find(']') + 1 : std::min(left.find(':'), left.size());
  const std::string_view host = bracketed ? left.substr(1, host_end - 2) : left.substr(0, host_end);
  if (!host.empty()) address.host = host;
  left.remove_prefix(host_end);
  if (left.empty()) return address;
  const auto [end, error] = std::from_chars(left.data() + 1, left.data() + left.size(), address.port);
  if (left.front() != ':' || error != std::errc() || end != left.data() + left.size() || address.port < 0 || address.port > 65535)
    fail(ErrorKind::kUsage, where, "'{}' is no address, expected HOST:PORT, a URL or unix:PATH", text);
  return address;
}

}  // namespace puna
