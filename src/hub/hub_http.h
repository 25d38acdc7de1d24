// SPDX-License-Identifier: Apache-2.0
// One HTTP request through libcurl, redirects followed by hand: the hub sends large files to other hosts, and the token must not
// travel there. http and https only; from https never back to http.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace puna {

struct HubRequest {
  std::string url;
  bool head = false;
  std::string token;          // sent as a bearer token to the first URL's scheme, host and port only
  std::int64_t from = 0;      // Range: bytes=from-
  bool stay_on_host = false;  // a redirect to another host is the reply
};

struct HubReply {
  long status = 0;                             // 0: no reply; `problem` says why
  std::map<std::string, std::string> headers;  // names in lower case; of the last hop, X-Linked-* and X-Repo-Commit of every hop
  std::string body;                            // at most 64 MB, where no sink takes it
  std::string problem;                         // "Could not resolve host: …": worth another try
  const std::string& header(const std::string& name) const;  // or an empty text
  bool is_redirect() const { return status == 301 || status == 302 || status == 303 || status == 307 || status == 308; }
};

// Takes the body of a reply with status 200 or 206 as it comes. What it throws ends the transfer and comes out of get().
using BodySink = std::function<void(const HubReply& reply, std::string_view bytes)>;

class Http {
 public:
  // `interrupted`, where it is given, ends a request within a second of being raised: get() throws Interrupted.
  explicit Http(const std::atomic<bool>* interrupted = nullptr);
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  // Follows at most 10 redirects. Throws kNetwork for a redirect that must not be followed.
  HubReply get(const HubRequest& request, const BodySink& sink = {});

 private:
  HubReply one_hop(const HubRequest& request, const std::string& url, bool with_token, const BodySink& sink);

  const std::atomic<bool>* interrupted_;
  struct Handle;
  std::unique_ptr<Handle> handle_;
};

// "https://host:443" of a URL: what a token belongs to. Empty for something that is no http(s) URL.
std::string url_origin(const std::string& url);
// `location` as seen from `base`: a relative one becomes whole.
std::string resolve_url(const std::string& base, const std::string& location);
// A path with everything but letters, digits, "-._~" and slashes in percent form.
std::string escape_url_path(std::string_view path);

}  // namespace puna
