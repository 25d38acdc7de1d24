// SPDX-License-Identifier: Apache-2.0
#include "server/access.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cctype>

#include "base/error.h"

namespace puna {
namespace {

constexpr std::size_t kShortestKey = 16;
constexpr std::size_t kMostBuckets = 10'000;

// "localhost:8080" -> "localhost", "[::1]:80" -> "[::1]"; what is no port stays.
std::string_view without_port(std::string_view host) {
  const std::size_t colon = std::min(host.rfind(':'), host.size());
  const std::string_view name = host.substr(0, colon), port = host.substr(std::min(colon + 1, host.size()));
  const bool is_port = std::ranges::all_of(port, [](unsigned char c) { return std::isdigit(c) != 0; });
  return is_port && (name.ends_with(']') || name.find(':') == std::string_view::npos) ? name : host;
}

// Without port and brackets, in lower case.
std::string host_name(std::string_view host) {
  host = without_port(host);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  std::string name(host);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

// "https://example.org:80" -> "example.org:80"
std::string_view authority(std::string_view origin) {
  const std::size_t slashes = origin.find("://");
  return slashes == std::string_view::npos ? std::string_view() : origin.substr(slashes + 3);
}

bool holds(const std::vector<std::string>& list, std::string_view value) {
  return std::ranges::any_of(list, [&](const std::string& item) { return item == "*" || item == value; });
}

std::string_view given_key(const HttpRequest& request) {
  const std::string_view header = request.header("authorization");
  constexpr std::string_view kBearer = "Bearer ";
  if (header.size() > kBearer.size() && (header.starts_with(kBearer) || header.starts_with("bearer ")))
    return header.substr(kBearer.size());
  return request.header("x-api-key");
}

}  // namespace

bool is_loopback(std::string_view host) {
  const std::string name = host_name(host);
  if (name == "localhost" || name == "::1") return true;
  if (!name.starts_with("127.") || std::ranges::count(name, '.') != 3) return false;
  return std::ranges::all_of(name, [](unsigned char c) { return std::isdigit(c) != 0 || c == '.'; });
}

Access::Access(const AccessOptions& options, const std::string& listens_on, bool loopback) : options_(options) {
  for (const auto& [keys, right] :
       {std::pair(&options.infer_keys, Right::kInfer), std::pair(&options.manage_keys, Right::kManage)}) {
    for (const std::string& key : *keys) {
      if (key.size() < kShortestKey)
        fail(ErrorKind::kUsage, "--api-key", "a key has {} characters, expected at least {}", key.size(), kShortestKey);
      keys_.push_back({digest(key), right});
    }
  }
  if (keys_.empty() && !loopback) {
    fail(ErrorKind::kUsage, "--host",
         "{} can be reached from other machines, and no key is set: give one with --api-key-file, or listen on 127.0.0.1",
         listens_on);
  }
  // Behind a key and beyond loopback a server has names that it cannot know; a page that was lured here has no key.
  any_host_ = !loopback && options.hosts.empty();
  options_.hosts.push_back(host_name(listens_on));
  options_.infer_keys.clear();
  options_.manage_keys.clear();
}

Access::Digest Access::digest(std::string_view key) {
  Digest bytes{};
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), bytes.data());  // NOLINT: bytes of a text
  return bytes;
}

Right Access::right_of(const HttpRequest& request) const {
  if (keys_.empty()) return Right::kManage;
  const Digest given = digest(given_key(request));
  unsigned found = 0;
  for (const Key& key : keys_) {  // all of them, whichever fits, and no branch on what fits: the time says nothing
    const unsigned same = CRYPTO_memcmp(key.digest.data(), given.data(), given.size()) == 0 ? 1 : 0;
    found |= same << static_cast<unsigned>(key.right);
  }
  return found >> static_cast<unsigned>(Right::kManage) != 0 ? Right::kManage : found != 0 ? Right::kInfer : Right::kNone;
}

ApiError lacks_rights() { return {403, "insufficient_permissions", "", "this key may ask models, and not manage them"}; }

std::optional<ApiError> Access::refusal(const HttpRequest& request, Right needed) {
  if (!host_is_known(request)) {
    return ApiError(403, "host_not_allowed", "Host",
                    "this server does not answer to the name in the Host header: allow it with --allow-host NAME");
  }
  if (!origin_is_known(request)) {
    return ApiError(403, "origin_not_allowed", "Origin",
                    "pages from that origin may not call this server: allow them with --allow-origin ORIGIN");
  }
  if (needed == Right::kNone) return std::nullopt;
  const Right right = right_of(request);
  if (right == Right::kNone) {
    return ApiError(
        401, "invalid_api_key", "",
        given_key(request).empty() ? "no key: send \"Authorization: Bearer KEY\"" : "the key is not one of this server's");
  }
  if (right < needed) return lacks_rights();
  if (takes_too_many(request.peer))
    return ApiError(429, "rate_limit_exceeded", "", fmt::format("more than {} requests in a minute", options_.requests_per_minute))
        .with_header("Retry-After", "5");
  return std::nullopt;
}

bool Access::host_is_known(const HttpRequest& request) const {
  const std::string name = host_name(request.header("host"));
  return any_host_ || request.peer == "unix" || is_loopback(name) || holds(options_.hosts, name);
}

bool Access::origin_is_known(const HttpRequest& request) const {
  const std::string_view origin = request.header("origin");
  if (origin.empty()) return true;
  return authority(origin) == request.header("host") || is_loopback(authority(origin)) || holds(options_.origins, origin);
}

std::string Access::allowed_origin(const HttpRequest& request) const {
  const std::string_view origin = request.header("origin");
  return !origin.empty() && origin_is_known(request) ? std::string(origin) : std::string();
}

bool Access::takes_too_many(const std::string& peer) {
  if (options_.requests_per_minute <= 0) return false;
  const std::scoped_lock lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  const double most = options_.requests_per_minute;
  if (buckets_.size() > kMostBuckets) buckets_.clear();
  Bucket& bucket = buckets_.try_emplace(peer, Bucket{most, now}).first->second;
  bucket.tokens = std::min(most, bucket.tokens + std::chrono::duration<double>(now - bucket.filled).count() * most / 60);
  bucket.filled = now;
  if (bucket.tokens < 1) return true;
  bucket.tokens -= 1;
  return false;
}

}  // namespace puna
