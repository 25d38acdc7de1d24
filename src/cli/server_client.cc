// SPDX-License-Identifier: Apache-2.0
#include "cli/server_client.h"

#include <curl/curl.h>

#include <memory>

#include "base/environment.h"
#include "base/error.h"

namespace puna {
namespace {

std::size_t append(char* bytes, std::size_t size, std::size_t count, void* text) {
  static_cast<std::string*>(text)->append(bytes, size * count);
  return size * count;
}

struct Freed {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// {"message": "…"} of the families of OpenAI and Anthropic, "…" of Ollama's; what else another server sends, as it is.
std::string message_of(const Json& error) {
  const Json& said = error.is_object() && error.contains("message") ? error["message"] : error;
  return said.is_string() ? said.get<std::string>() : dump_json(said);
}

// What stands in the brackets of a message.
std::string place_of(const ServerAddress& address) { return address.unix_path.empty() ? address.url() : address.unix_path; }

[[noreturn]] void fail_status(long status, const std::string& body, const std::string& where) {
  const Json reply = Json::parse(body, nullptr, false);
  std::string message = "HTTP status " + std::to_string(status);
  if (reply.is_object() && reply.contains("error")) message = message_of(reply["error"]);
  const ErrorKind kind = status == 401 || status == 403 ? ErrorKind::kUsage
                         : status == 404                ? ErrorKind::kNotFound
                                                        : ErrorKind::kNetwork;
  fail(kind, where, "{}{}", message, status == 401 ? ": set PUNA_API_KEY" : "");
}

}  // namespace

ServerClient::ServerClient(const std::string& host) : key_(environment("PUNA_API_KEY")) {
  const std::string named = host.empty() ? environment("PUNA_HOST") : host;
  if (!named.empty()) address_ = parse_server_address(named, host.empty() ? "PUNA_HOST" : "--host");
}

Json ServerClient::ask(const std::string& path, const Json* body) const {
  const std::unique_ptr<CURL, Freed> handle(curl_easy_init());
  PUNA_CHECK(handle != nullptr, "", "libcurl could not be started");
  const std::string url = address_.url() + path, where = place_of(address_);
  const std::string text = body == nullptr ? "" : dump_json(*body);
  curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
  if (!key_.empty()) list = curl_slist_append(list, ("Authorization: Bearer " + key_).c_str());
  const std::unique_ptr<curl_slist, Freed> headers(list);
  std::string reply;
  curl_easy_setopt(handle.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(handle.get(), CURLOPT_WRITEFUNCTION, append);
  curl_easy_setopt(handle.get(), CURLOPT_WRITEDATA, &reply);
  curl_easy_setopt(handle.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle.get(), CURLOPT_NOPROXY, "*");
  curl_easy_setopt(handle.get(), CURLOPT_CONNECTTIMEOUT, 5L);
  curl_easy_setopt(handle.get(), CURLOPT_TIMEOUT, 60L);
  if (!address_.unix_path.empty()) curl_easy_setopt(handle.get(), CURLOPT_UNIX_SOCKET_PATH, address_.unix_path.c_str());
  if (body != nullptr) curl_easy_setopt(handle.get(), CURLOPT_POSTFIELDS, text.c_str());
  if (const CURLcode code = curl_easy_perform(handle.get()); code != CURLE_OK) {
    fail(ErrorKind::kNetwork, where, "no server answers there ({}): start one with puna serve, or name it with --host",
         curl_easy_strerror(code));
  }
  long status = 0;
  curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status >= 400) fail_status(status, reply, where);
  return parse_json(reply, where);
}

void ServerClient::fail_foreign(const char* lacking) const {
  fail(ErrorKind::kNetwork, place_of(address_), "the reply is without {}: this is no puna serve, name one with --host", lacking);
}

}  // namespace puna
