// SPDX-License-Identifier: Apache-2.0
// Who may ask for what. Without keys everybody who reaches the socket may do everything, so the server then listens on loopback or
// a Unix socket only, and answers only names that mean this machine: a page from elsewhere whose name is made to point here (DNS
// rebinding) is refused by its Host header, and a page that calls here by its Origin header.
#pragma once

#include <array>
#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/api_error.h"
#include "server/http.h"

namespace puna {

// What a route takes: nothing (health), a key, or a key to manage: to load, download and delete models, and to see training runs.
enum class Right { kNone, kInfer, kManage };

// 403 for a key that may ask models only.
ApiError lacks_rights();

struct AccessOptions {
  std::vector<std::string> infer_keys = {}, manage_keys = {};
  std::vector<std::string> hosts = {};  // that a Host header may name beside loopback and the address that is listened on; "*": any
  std::vector<std::string> origins = {};  // of pages elsewhere that may call: "https://example.org"; "*": any
  int requests_per_minute = 0;            // of one client; 0: no limit
};

class Access {
 public:
  // `listens_on` is the listener's host, `loopback` whether nobody else reaches it. Throws kUsage for a listener beyond loopback
  // without a key, and for a key of fewer than 16 characters.
  Access(const AccessOptions& options, const std::string& listens_on, bool loopback);

  // nullopt where the request may go on. Keys come as "Authorization: Bearer KEY" or "x-api-key: KEY".
  std::optional<ApiError> refusal(const HttpRequest& request, Right needed);
  // What its key allows; kManage where no keys were set.
  Right right_of(const HttpRequest& request) const;
  // The value of Access-Control-Allow-Origin for this request, or empty.
  std::string allowed_origin(const HttpRequest& request) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Key {
    Digest digest;  // SHA-256: keys themselves are not kept
    Right right;
  };
  struct Bucket {
    double tokens = 0;
    std::chrono::steady_clock::time_point filled;
  };
  static Digest digest(std::string_view key);
  bool host_is_known(const HttpRequest& request) const;
  bool origin_is_known(const HttpRequest& request) const;
  bool takes_too_many(const std::string& peer);

  AccessOptions options_;
  bool any_host_;
  std::vector<Key> keys_;
  std::mutex mutex_;
  std::unordered_map<std::string, Bucket> buckets_;  // by peer
};

// Whether an address means this machine only: 127.0.0.0/8, ::1, localhost.
bool is_loopback(std::string_view host);

}  // namespace puna
