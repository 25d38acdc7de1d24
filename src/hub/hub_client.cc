// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_client.h"

#include <charconv>
#include <chrono>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include "base/environment.h"
#include "base/error.h"
#include "base/interrupted.h"
#include "base/json.h"
#include "hub/hub_cache.h"

namespace puna {
namespace {

std::string first_line(const std::filesystem::path& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
  return line;
}

bool may_pass(const HubReply& reply) {
  return !reply.problem.empty() || reply.status == 0 || reply.status == 408 || reply.status == 429 || reply.status >= 500;
}

std::string reason(const HubReply& reply) {
  return reply.problem.empty() ? fmt::format("the hub answered {}", reply.status) : reply.problem;
}

std::int64_t to_size(const std::string& text) {
  std::int64_t size = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  return error == std::errc() && end == text.data() + text.size() && size >= 0 ? size : -1;
}

}  // namespace

HubOptions hub_options() {
  HubOptions options;
  options.endpoint = environment("HF_ENDPOINT");
  if (options.endpoint.empty()) options.endpoint = "https://huggingface.co";
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  options.token = environment("HF_TOKEN");
  if (options.token.empty()) {
    const std::string path = environment("HF_TOKEN_PATH");
    options.token = first_line(path.empty() ? hub_home() / "token" : std::filesystem::path(path));
  }
  const std::string offline = environment("HF_HUB_OFFLINE");
  options.offline = offline == "1" || offline == "true" || offline == "TRUE" || offline == "yes" || offline == "YES" ||
                    offline == "ON" || offline == "on";
  return options;
}

void wait_before_retry(int attempt, const std::atomic<bool>* interrupted) {
  for (int quarters = 1 << std::min(attempt - 1, 5); quarters > 0; --quarters) {
    stop_if(interrupted);
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
  }
}

std::string plain_etag(std::string_view header) {
  if (header.starts_with("W/")) header.remove_prefix(2);
  if (header.size() >= 2 && header.front() == '"' && header.back() == '"') header = header.substr(1, header.size() - 2);
  return std::string(header);
}

void fail_hub_status(const HubReply& reply, const HubOptions& options, const std::string& repository, const std::string& what) {
  const std::string page = options.endpoint + "/" + repository;
  const std::string& code = reply.header("x-error-code");
  const char* token = options.token.empty() ? "no token was sent: set HF_TOKEN" : "the token in HF_TOKEN was sent";
  if (code == "GatedRepo" || (reply.status == 403 && code.empty())) {
    fail(ErrorKind::kNetwork, repository,
         "{}: the hub answered {}, the model is gated: accept its licence at {} and set HF_TOKEN to a "
         "token of that account ({})",
         what, reply.status, page, token);
  }
  if (code == "RevisionNotFound")
    fail(ErrorKind::kNotFound, repository, "{}: there is no such revision: see {}/tree/main", what, page);
  if (code == "EntryNotFound") fail(ErrorKind::kNotFound, repository, "{}: there is no such file: see {}/tree/main", what, page);
  if (reply.status == 404 || reply.status == 401 || code == "RepoNotFound") {
    fail(reply.status == 404 ? ErrorKind::kNotFound : ErrorKind::kNetwork, repository,
         "{}: the hub answered {}: check the name at {}; a private or gated model needs HF_TOKEN ({})", what, reply.status, page,
         token);
  }
  fail(ErrorKind::kNetwork, repository, "{}: the hub answered {}, expected 200: try again later", what, reply.status);
}

HubReply HubClient::reliable(const HubRequest& request) {
  if (options_.offline)
    fail(ErrorKind::kUsage, "HF_HUB_OFFLINE", "is set, so {} is not asked: unset it to download", options_.endpoint);
  for (int attempt = 1;; ++attempt) {
    HubReply reply = http_.get(request);
    if (!may_pass(reply)) return reply;
    if (attempt == kHubTries) {
      fail(ErrorKind::kNetwork, options_.endpoint, "{}, {} times: check the network, or HF_ENDPOINT", reason(reply), attempt);
    }
    wait_before_retry(attempt, options_.interrupted);
  }
}

std::string HubClient::file_url(const std::string& repository, const std::string& commit, const std::string& path) const {
  return options_.endpoint + "/" + repository + "/resolve/" + escape_url_path(commit) + "/" + escape_url_path(path);
}

HubRepository HubClient::repository(const HubName& name) {
  const std::string place = name.repository + ":" + name.revision;
  std::string revision = escape_url_path(name.revision);
  for (std::size_t at; (at = revision.find('/')) != std::string::npos;) revision.replace(at, 1, "%2F");
  HubRequest request;
  request.url = options_.endpoint + "/api/models/" + name.repository + "/revision/" + revision;
  request.token = options_.token;
  const HubReply reply = reliable(request);
  if (reply.status != 200) fail_hub_status(reply, options_, name.repository, "asking for revision " + name.revision);
  const Json info = parse_json(reply.body, place);
  HubRepository repository;
  repository.commit = json_at<std::string>(info, "sha", place);
  if (!is_safe_etag(repository.commit)) fail(ErrorKind::kNetwork, place, "'{}' is no commit: refused", repository.commit);
  if (!info.contains("siblings") || !info.at("siblings").is_array()) fail(ErrorKind::kNetwork, place, "the hub listed no files");
  for (const Json& sibling : info.at("siblings")) {
    const std::string file = json_at<std::string>(sibling, "rfilename", place);
    if (!is_safe_repository_path(file)) {
      fail(ErrorKind::kNetwork, place, "the file name '{}' leads out of the repository or holds control characters: refused", file);
    }
    repository.files.push_back(file);
  }
  return repository;
}

HubFile HubClient::file(const std::string& repository, const std::string& commit, const std::string& path) {
  HubRequest request;
  request.url = file_url(repository, commit, path);
  request.head = true;
  request.token = options_.token;
  request.stay_on_host = true;  // the hub's own reply names the file; where its bytes are comes with the download
  const HubReply reply = reliable(request);
  if (reply.status != 200 && !reply.is_redirect()) fail_hub_status(reply, options_, repository, path);
  HubFile file;
  const std::string& linked = reply.header("x-linked-etag");
  file.etag = plain_etag(linked.empty() ? reply.header("etag") : linked);
  const std::string& size = reply.header("x-linked-size");
  if (!size.empty())
    file.size = to_size(size);
  else if (reply.status == 200)
    file.size = to_size(reply.header("content-length"));
  if (!is_safe_etag(file.etag))
    fail(ErrorKind::kNetwork, repository, "{}: the hub sent the ETag '{}', expected a hash", path, file.etag);
  return file;
}

std::optional<std::string> HubClient::download(const std::string& repository, const std::string& commit, const std::string& path,
                                               std::int64_t from, const BodySink& sink) {
  HubRequest request;
  request.url = file_url(repository, commit, path);
  request.token = options_.token;
  request.from = from;
  HubReply reply = http_.get(request, sink);
  if (reply.status == 416 && from > 0) {
    if (reply.header("content-range") == fmt::format("bytes */{}", from)) return std::nullopt;  // all of it is there
    request.from = 0;  // what is there is longer than the file, or the server does not say: once more, from nothing
    reply = http_.get(request, sink);
  }
  if (may_pass(reply)) return reason(reply);
  if (reply.status != 200 && reply.status != 206) fail_hub_status(reply, options_, repository, path);
  return std::nullopt;
}

}  // namespace puna
