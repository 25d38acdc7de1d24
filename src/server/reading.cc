// SPDX-License-Identifier: Apache-2.0
#include "server/reading.h"

#include <utility>

#include "server/job_group.h"

namespace puna {
namespace {

void check(std::span<const Token> tokens, const ServedModel& model, const char* param) {
  if (tokens.empty()) throw ApiError(400, "invalid_value", param, fmt::format("\"{}\" holds a text without tokens", param));
  if (static_cast<std::int64_t>(tokens.size()) <= model.context()) return;
  throw ApiError(400, "context_length_exceeded", param,
                 fmt::format("\"{}\" holds a text of {} tokens, and the context of {} holds {}: nothing is cut off in silence",
                             param, tokens.size(), model.id(), model.context()));
}

// The texts of one request while they are read. Its jobs hold it.
template <typename Result>
class Reading : public std::enable_shared_from_this<Reading<Result>> {
 public:
  using Done = std::function<void(const std::vector<Result>&)>;

  Reading(std::shared_ptr<Exchange> exchange, std::shared_ptr<ServedModel> model, std::size_t count, Done done)
      : exchange_(std::move(exchange)), jobs_(std::move(model)), results_(count), left_(count), done_(std::move(done)) {}

  template <typename Events, typename Request>
  void start(std::vector<Request> texts) {
    exchange_->on_gone([weak = this->weak_from_this()] {
      if (const auto self = weak.lock()) self->jobs_.cancel();
    });
    const auto self = this->shared_from_this();
    for (std::size_t i = 0; i < texts.size(); ++i) {
      Events events;
      events.done = [self, i](Result result) { self->take(i, std::move(result)); };
      events.failed = [self](const Error& error) { self->fail(ApiError::from(error)); };
      jobs_.hold(jobs_.model().submit(std::move(texts[i]), std::move(events)));
    }
  }

 private:
  // What is thrown here must not reach the scheduler, which reads for others too.
  void take(std::size_t i, Result result) {
    results_[i] = std::move(result);
    if (--left_ > 0) return;
    try {
      done_(results_);
    } catch (const std::exception& error) {
      fail(ApiError(500, "internal_error", "", "the server met a defect of its own; its log says more"));
      fmt::print(stderr, "puna: {} {}: {}\n", exchange_->id(), jobs_.model().id(), error.what());
    }
  }

  void fail(const ApiError& error) {
    exchange_->fail(error);
    jobs_.cancel();
  }

  std::shared_ptr<Exchange> exchange_;
  JobGroup jobs_;
  std::vector<Result> results_;
  std::size_t left_;
  Done done_;
};

template <typename Events, typename Result, typename Request>
void read(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<ServedModel>& model, const char* param,
          std::vector<Request> texts, std::function<void(const std::vector<Result>&)> done) {
  for (const Request& text : texts) check(text.tokens, *model, param);
  const auto reading = std::make_shared<Reading<Result>>(exchange, model, texts.size(), std::move(done));
  reading->template start<Events>(std::move(texts));
}

}  // namespace

void embed(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<ServedModel>& model, const char* param,
           std::vector<EmbeddingRequest> texts, std::function<void(const std::vector<std::vector<float>>&)> done) {
  read<EmbeddingEvents, std::vector<float>>(exchange, model, param, std::move(texts), std::move(done));
}

void score(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<ServedModel>& model, const char* param,
           std::vector<ScoreRequest> texts, std::function<void(const std::vector<std::vector<SampledToken>>&)> done) {
  read<ScoreEvents, std::vector<SampledToken>>(exchange, model, param, std::move(texts), std::move(done));
}

}  // namespace puna
