// SPDX-License-Identifier: Apache-2.0
#include "cli/load_generator.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <memory>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "cli/event_lines.h"

namespace puna {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kLargestBody = 16U << 20;
constexpr int kMostUnreached = 100;           // requests in a row that reach no server
constexpr int kLongestWaitMilliseconds = 50;  // after which an interrupt is seen

struct CurlFreed {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

struct FreedMulti {  // CURL and CURLM are the same type
  void operator()(CURLM* handle) const { curl_multi_cleanup(handle); }
};

// One client: its connection, and the request it is at.
struct Client {
  std::unique_ptr<CURL, CurlFreed> handle;
  Clock::time_point start;  // of the load
  std::string body, whole;  // of the request; of an answer that is no stream
  EventLines lines;
  LoadSample sample;
  double last = -1;  // when the last text came
  std::int64_t texts = 0;
  bool streams = false, ended = false;  // ended: [DONE] came

  double now() const { return std::chrono::duration<double>(Clock::now() - start).count(); }
};

void take_usage(LoadSample& sample, const Json& value) {
  if (!value.contains("usage") || !value.at("usage").is_object()) return;
  const auto count = [&](const char* name) {
    const auto found = value.at("usage").find(name);
    return found != value.at("usage").end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
  };
  sample.prompt_tokens = count("prompt_tokens");
  sample.completion_tokens = count("completion_tokens");
}

// Whether there is a text, or a tool call, in one event's first choice.
bool holds_text(const Json& value) {
  if (!value.contains("choices") || !value.at("choices").is_array() || value.at("choices").empty()) return false;
  const Json& choice = value.at("choices").front();
  if (!choice.is_object() || !choice.contains("delta") || !choice.at("delta").is_object()) return false;
  const Json& delta = choice.at("delta");
  if (delta.contains("tool_calls")) return true;
  return delta.contains("content") && delta.at("content").is_string() && !delta.at("content").get_ref<const std::string&>().empty();
}

void take_event(Client& client, std::string_view data) {
  if (data == "[DONE]") {
    client.ended = true;
    return;
  }
  const Json value = Json::parse(data, nullptr, false);
  if (!value.is_object()) {
    client.sample.problem = "an event that is no JSON object";
    return;
  }
  if (value.contains("error")) client.sample.problem = "an error within the answer";
  take_usage(client.sample, value);
  if (!holds_text(value)) return;
  const double now = client.now();
  if (client.texts++ == 0) {
    client.sample.first = now;
  } else {
    client.sample.gaps.push_back(static_cast<float>(now - client.last));
  }
  client.last = now;
}

std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* context) {
  auto& client = *static_cast<Client*>(context);
  if (!client.streams) {
    if (client.whole.size() + size > kLargestBody) return 0;
    client.whole.append(bytes, size);
    return size;
  }
  return client.lines.push({bytes, size}, [&](std::string_view data) { take_event(client, data); }) ? size : 0;
}

// What can be said of a request when its transfer is over.
void conclude(Client& client, CURLcode code) {
  LoadSample& sample = client.sample;
  long status = 0;
  curl_easy_getinfo(client.handle.get(), CURLINFO_RESPONSE_CODE, &status);
  sample.status = static_cast<int>(status);
  sample.ended = client.now();
  if (code != CURLE_OK && sample.problem.empty()) sample.problem = curl_easy_strerror(code);
  if (sample.problem.empty() && status != 200) sample.problem = "HTTP status " + std::to_string(status);
  if (!sample.problem.empty()) return;
  if (client.streams) {
    if (!client.ended) sample.problem = "the stream ended before [DONE]";
    if (sample.completion_tokens == 0) sample.completion_tokens = client.texts;  // a server that tells no usage
    return;
  }
  const Json value = Json::parse(client.whole, nullptr, false);
  if (!value.is_object()) {
    sample.problem = "an answer that is no JSON object";
  } else {
    take_usage(sample, value);
  }
}

class Load {
 public:
  Load(const LoadOptions& options, const LoadEvents& events) : options_(options), events_(events) {
    curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
    list = curl_slist_append(list, "Expect:");  // or longer bodies wait for a 100
    if (!options.key.empty()) list = curl_slist_append(list, ("Authorization: Bearer " + options.key).c_str());
    headers_.reset(list);
    PUNA_CHECK(multi_ != nullptr, "load", "libcurl could not be started");
    curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(options.clients));
    clients_.resize(static_cast<std::size_t>(options.clients));
    for (Client& client : clients_) {
      client.start = start_;
      client.handle.reset(curl_easy_init());
      PUNA_CHECK(client.handle != nullptr, "load", "libcurl could not be started");
      free_.push_back(&client);
    }
  }

  ~Load() {
    for (Client& client : clients_) curl_multi_remove_handle(multi_.get(), client.handle.get());
  }

  std::vector<LoadSample> run() {
    int running = 0;
    while (!interrupted()) {
      begin_due();
      curl_multi_perform(multi_.get(), &running);
      if (take_ended()) continue;  // there are free clients
      if (running == 0 && !more()) break;
      curl_multi_poll(multi_.get(), nullptr, 0, wait_milliseconds(), nullptr);
    }
    return std::move(samples_);
  }

 private:
  bool interrupted() const { return events_.interrupted != nullptr && *events_.interrupted; }
  double now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  bool more() const {
    const bool in_time = options_.seconds <= 0 || now() < options_.seconds;
    return in_time && unreached_ < kMostUnreached && (options_.requests <= 0 || sent_ < options_.requests);
  }

  // Only as long as nothing is due.
  int wait_milliseconds() const {
    if (options_.rate <= 0 || free_.empty() || !more()) return kLongestWaitMilliseconds;
    return std::clamp(static_cast<int>(std::ceil((due_ - now()) * 1000)), 0, kLongestWaitMilliseconds);
  }

  void begin_due() {
    while (!free_.empty() && more()) {
      double began = now();
      if (options_.rate > 0) {
        if (due_ > began) return;
        began = due_;
        const double uniform = random_uniform(options_.seed, ~std::uint64_t{0}, static_cast<std::uint64_t>(sent_));
        due_ -= std::log(1 - uniform) / options_.rate;
      }
      Client& client = *free_.front();
      free_.pop_front();
      begin(client, began);
    }
  }

  void begin(Client& client, double began) {
    const Json body = events_.body(sent_++);
    client.body = dump_json(body);
    client.whole.clear();
    client.lines = {};
    client.sample = {.began = began};
    client.last = -1;
    client.texts = 0;
    client.ended = false;
    client.streams = body.value("stream", false);
    CURL* curl = client.handle.get();
    curl_easy_reset(curl);  // keeps its connection
    const std::string url = options_.address.url() + "/v1/chat/completions";
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers_.get());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, client.body.c_str());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(client.body.size()));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &client);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, &client);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(options_.timeout * 1000));
    if (!options_.address.unix_path.empty()) curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, options_.address.unix_path.c_str());
    curl_multi_add_handle(multi_.get(), curl);
  }

  bool take_ended() {
    bool any = false;
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      Client* client = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &client);
      const CURLcode code = message->data.result;
      curl_multi_remove_handle(multi_.get(), client->handle.get());
      conclude(*client, code);
      unreached_ = client->sample.status == 0 ? unreached_ + 1 : 0;
      samples_.push_back(std::move(client->sample));
      free_.push_back(client);
      any = true;
      if (events_.ended) events_.ended(static_cast<std::int64_t>(samples_.size()));
    }
    return any;
  }

  const LoadOptions& options_;
  const LoadEvents& events_;
  Clock::time_point start_ = Clock::now();
  std::unique_ptr<curl_slist, CurlFreed> headers_;
  std::unique_ptr<CURLM, FreedMulti> multi_{curl_multi_init()};
  std::vector<Client> clients_;
  std::deque<Client*> free_;
  std::vector<LoadSample> samples_;
  std::int64_t sent_ = 0;
  int unreached_ = 0;
  double due_ = 0;
};

}  // namespace

std::vector<LoadSample> run_load(const LoadOptions& options, const LoadEvents& events) { return Load(options, events).run(); }

}  // namespace puna
