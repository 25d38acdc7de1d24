// SPDX-License-Identifier: Apache-2.0
// Asks a running `puna serve` for something: PUNA_HOST says where it is, PUNA_API_KEY with which key.
#pragma once

#include <string>

#include "base/json.h"
#include "cli/server_address.h"

namespace puna {

class ServerClient {
 public:
  // `host` as parse_server_address() takes it; empty: PUNA_HOST, or the default address.
  explicit ServerClient(const std::string& host);

  // Throws kNetwork where nobody answers, kUsage for 401 and 403, kNotFound for 404, kNetwork for another refusal: with its
  // message.
  Json get(const std::string& path) const { return ask(path, nullptr); }
  Json post(const std::string& path, const Json& body) const { return ask(path, &body); }

  // Throws kNetwork for a reply that is not one of `puna serve`: it is without `lacking`.
  [[noreturn]] void fail_foreign(const char* lacking) const;

  const ServerAddress& address() const { return address_; }
  const std::string& key() const { return key_; }

 private:
  Json ask(const std::string& path, const Json* body) const;

  ServerAddress address_;
  std::string key_;
};

}  // namespace puna
