// SPDX-License-Identifier: Apache-2.0
// The Hugging Face hub's address space: what a repository holds, what a file is, its bytes. Failures that may pass are tried again;
// the others become messages that say what to do.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hub/hub_http.h"
#include "hub/hub_name.h"

namespace puna {

struct HubOptions {
  std::string endpoint;  // "https://huggingface.co", without a slash at the end
  std::string token;     // or empty
  bool offline = false;
  const std::atomic<bool>* interrupted = nullptr;  // ends what is asked: Interrupted is thrown
};
// HF_ENDPOINT; HF_TOKEN, else the file `token` in HF_HOME (HF_TOKEN_PATH); HF_HUB_OFFLINE.
HubOptions hub_options();

struct HubRepository {
  std::string commit;
  std::vector<std::string> files;
};

struct HubFile {
  std::string etag;        // SHA-256 of a large file, git's SHA-1 of a small one
  std::int64_t size = -1;  // -1: the hub did not say
};

class HubClient {
 public:
  explicit HubClient(HubOptions options) : options_(std::move(options)), http_(options_.interrupted) {}

  const HubOptions& options() const { return options_; }
  // Throws kNotFound, kNetwork; kUsage where HF_HUB_OFFLINE forbids it.
  HubRepository repository(const HubName& name);
  HubFile file(const std::string& repository, const std::string& commit, const std::string& path);
  // One try at the bytes from `from` on; from nothing where the hub has no such bytes and does not say that the file ends there,
  // which the reply shows the sink. Returns what went wrong where another try may help; throws where it will not.
  std::optional<std::string> download(const std::string& repository, const std::string& commit, const std::string& path,
                                      std::int64_t from, const BodySink& sink);

 private:
  HubReply reliable(const HubRequest& request);
  std::string file_url(const std::string& repository, const std::string& commit, const std::string& path) const;

  HubOptions options_;
  Http http_;
};

// Waits before try number `attempt` (from 1): 0.25 s doubled each time, at most 8 s. Throws Interrupted where that is raised.
void wait_before_retry(int attempt, const std::atomic<bool>* interrupted);
constexpr int kHubTries = 5;  // in a row without a byte gained

// `"0123…"`, `W/"0123…"` -> `0123…`
std::string plain_etag(std::string_view header);
// The message for a reply that is an error. `token_given` chooses the advice.
[[noreturn]] void fail_hub_status(const HubReply& reply, const HubOptions& options, const std::string& repository,
                                  const std::string& what);

}  // namespace puna
