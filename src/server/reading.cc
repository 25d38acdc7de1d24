// SPDX-License-Identifier: Apache-2.0
#include "server/reading.h"

#include <algorithm>
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

// The texts of one request while they are read: as many at once as it has places for, so that a long list does not stand before
// everybody else's. Its jobs hold it.
template <typename Request, typename Events, typename Result>
class Reading : public std::enable_shared_from_this<Reading<Request, Events, Result>> {
 public:
  using Done = std::function<void(const std::vector<Result>&)>;

  Reading(std::shared_ptr<Exchange> exchange, std::shared_ptr<ServedModel> model, std::vector<Request> texts, Done done)
      : exchange_(std::move(exchange)),
        jobs_(std::move(model)),
        texts_(std::move(texts)),
        results_(texts_.size()),
        left_(texts_.size()),
        done_(std::move(done)) {}

  void start() {
    exchange_->on_gone([weak = this->weak_from_this()] {
      if (const auto self = weak.lock()) self->jobs_.cancel();
    });
    exchange_->places().need(1, "");  // a route that has texts read takes places: else none would ever be submitted
    const std::size_t most = std::min<std::size_t>(texts_.size(), static_cast<std::size_t>(jobs_.model().most_running()));
    exchange_->places().take_free(static_cast<std::int64_t>(most));
    const auto at_once = std::min(most, static_cast<std::size_t>(exchange_->places().count()));
    next_ = at_once;  // before the first is submitted: from there on it is the engine's thread's
    for (std::size_t i = 0; i < at_once; ++i) submit(i);
  }

 private:
  void submit(std::size_t i) {
    const auto self = this->shared_from_this();
    Events events;
    events.done = [self, i](Result result) { self->take(i, std::move(result)); };
    events.failed = [self](const Error& error) { self->fail(ApiError::from(error)); };
    jobs_.hold(jobs_.model().submit(std::move(texts_[i]), std::move(events)));
  }

  // What is thrown here must not reach the scheduler, which reads for others too.
  void take(std::size_t i, Result result) {
    results_[i] = std::move(result);
    if (--left_ > 0) return next_ < texts_.size() ? submit(next_++) : exchange_->places().give_back(1);
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
  std::vector<Request> texts_;
  std::vector<Result> results_;
  std::size_t next_ = 0, left_;
  Done done_;
};

template <typename Events, typename Result, typename Request>
void read(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<ServedModel>& model, const char* param,
          std::vector<Request> texts, std::function<void(const std::vector<Result>&)> done) {
  for (const Request& text : texts) check(text.tokens, *model, param);
  std::make_shared<Reading<Request, Events, Result>>(exchange, model, std::move(texts), std::move(done))->start();
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
