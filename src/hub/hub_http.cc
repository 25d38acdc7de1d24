// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/interrupted.h"

namespace puna {
namespace {

constexpr std::size_t kLargestBody = 64U << 20;
constexpr int kRedirects = 10;
constexpr long kConnectTimeoutSeconds = 20;
constexpr long kStallSeconds = 60;  // without a byte: the connection is given up, and the caller tries again

struct Transfer {
  HubReply reply;
  const BodySink* sink;
  std::exception_ptr thrown;
};

std::string trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.remove_suffix(1);
  return std::string(text);
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  const std::string_view line(data, size);
  const std::size_t colon = line.find(':');
  if (line.starts_with("HTTP/")) {  // the only place that says the status before the body comes; also behind "100 Continue"
    transfer.reply.headers.clear();
    const std::size_t space = line.find(' ');
    transfer.reply.status = space == std::string_view::npos ? 0 : std::strtol(std::string(line.substr(space)).c_str(), nullptr, 10);
    return size;
  }
  if (colon == std::string_view::npos) return size;
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  transfer.reply.headers[name] = trimmed(line.substr(colon + 1));
  return size;
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  try {
    const bool wanted = transfer.reply.status == 200 || transfer.reply.status == 206;
    if (wanted && *transfer.sink) {
      (*transfer.sink)(transfer.reply, {data, size});
    } else {
      if (transfer.reply.body.size() + size > kLargestBody) return 0;
      transfer.reply.body.append(data, size);
    }
    return size;
  } catch (...) {
    transfer.thrown = std::current_exception();
    return 0;  // libcurl ends the transfer; the exception goes on from one_hop()
  }
}

int on_progress(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const std::atomic<bool>*>(context)->load() ? 1 : 0;  // 1 ends the transfer
}

struct CurlText {
  char* text = nullptr;
  ~CurlText() { curl_free(text); }
};

struct CurlUrl {
  CURLU* url = curl_url();
  ~CurlUrl() { curl_url_cleanup(url); }
  bool set(const std::string& text) { return curl_url_set(url, CURLUPART_URL, text.c_str(), 0) == CURLUE_OK; }
  std::string get(CURLUPart part, unsigned int flags = 0) {
    CurlText value;
    return curl_url_get(url, part, &value.text, flags) == CURLUE_OK ? value.text : "";
  }
};

}  // namespace

struct Http::Handle {
  CURL* curl = nullptr;
};

const std::string& HubReply::header(const std::string& name) const {
  static const std::string none;
  const auto found = headers.find(name);
  return found == headers.end() ? none : found->second;
}

Http::Http(const std::atomic<bool>* interrupted) : interrupted_(interrupted), handle_(std::make_unique<Handle>()) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  handle_->curl = ready == CURLE_OK ? curl_easy_init() : nullptr;
  if (handle_->curl == nullptr) fail(ErrorKind::kInternal, "libcurl", "cannot be started");
}

Http::~Http() { curl_easy_cleanup(handle_->curl); }

HubReply Http::one_hop(const HubRequest& request, const std::string& url, bool with_token, const BodySink& sink) {
  CURL* curl = handle_->curl;
  curl_easy_reset(curl);
  Transfer transfer{{}, &sink, nullptr};
  char problem[CURL_ERROR_SIZE] = "";
  curl_slist* headers = nullptr;
  if (with_token) headers = curl_slist_append(headers, ("Authorization: Bearer " + request.token).c_str());
  const std::string range = std::to_string(request.from) + "-";
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_NOBODY, request.head ? 1L : 0L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectTimeoutSeconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, kStallSeconds);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "puna/" PUNA_VERSION);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  if (interrupted_ != nullptr) {
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, const_cast<std::atomic<bool>*>(interrupted_));
  }
  if (request.from > 0) curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());
  const CURLcode code = curl_easy_perform(curl);
  curl_slist_free_all(headers);
  stop_if(interrupted_);
  if (transfer.thrown) std::rethrow_exception(transfer.thrown);
  if (code != CURLE_OK) transfer.reply.problem = problem[0] != '\0' ? problem : curl_easy_strerror(code);
  return std::move(transfer.reply);
}

HubReply Http::get(const HubRequest& request, const BodySink& sink) {
  const std::string origin = url_origin(request.url);
  if (origin.empty()) fail(ErrorKind::kUsage, request.url, "this is no http or https address: check HF_ENDPOINT");
  std::string url = request.url;
  std::map<std::string, std::string> linked;  // what the hub's own hops said of the file
  for (int hop = 0; hop <= kRedirects; ++hop) {
    const bool at_home = url_origin(url) == origin;
    HubReply reply = one_hop(request, url, at_home && !request.token.empty(), sink);
    for (const char* name : {"x-linked-etag", "x-linked-size", "x-repo-commit"}) {
      if (at_home && !reply.header(name).empty()) linked[name] = reply.header(name);
    }
    for (const auto& [name, value] : linked) reply.headers[name] = value;
    if (!reply.is_redirect() || !reply.problem.empty()) return reply;
    const std::string next = resolve_url(url, reply.header("location"));
    const std::string next_origin = url_origin(next);
    if (next_origin.empty())
      fail(ErrorKind::kNetwork, url, "redirects to '{}', which is no http address", reply.header("location"));
    if (url.starts_with("https:") && next.starts_with("http:")) {
      fail(ErrorKind::kNetwork, url, "redirects from https to http, to {}: refused", next_origin);
    }
    if (request.stay_on_host && next_origin != origin) return reply;
    url = next;
  }
  fail(ErrorKind::kNetwork, request.url, "more than {} redirects", kRedirects);
}

std::string url_origin(const std::string& url) {
  CurlUrl parsed;
  if (!parsed.set(url)) return "";
  const std::string scheme = parsed.get(CURLUPART_SCHEME), host = parsed.get(CURLUPART_HOST);
  if ((scheme != "http" && scheme != "https") || host.empty()) return "";
  std::string origin = scheme + "://" + host + ":" + parsed.get(CURLUPART_PORT, CURLU_DEFAULT_PORT);
  std::transform(origin.begin(), origin.end(), origin.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return origin;
}

std::string resolve_url(const std::string& base, const std::string& location) {
  CurlUrl parsed;
  if (location.empty() || !parsed.set(base) || !parsed.set(location)) return "";
  return parsed.get(CURLUPART_URL);
}

std::string escape_url_path(std::string_view path) {
  std::string escaped;
  for (const char c : path) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_' || c == '~' || c == '/';
    escaped += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return escaped;
}

}  // namespace puna
