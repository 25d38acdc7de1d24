// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <random>
#include <thread>
#include <utility>

#include "base/error.h"
#include "server/exchange.h"
#include "server/router.h"
#include "server/server_metrics.h"
#include "server/services.h"
#include "server/worker_pool.h"

namespace puna {
namespace {

constexpr int kWorkers = 2;
constexpr auto kTick = std::chrono::milliseconds(50);

std::string request_id() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("req_{:016x}{:08x}", random(), random() >> 32);
}

// Where each API's clients look for it.
const char* id_header(ApiFamily family) { return family == ApiFamily::kAnthropic ? "request-id" : "X-Request-Id"; }

bool only_here(const ListenerOptions& options) { return !options.unix_path.empty() || is_loopback(options.host); }

}  // namespace

// Destroyed from the last to the first: workers and models let go of their replies before the listener goes.
struct Server::Impl {
  explicit Impl(const ServerOptions& its_options)
      : options(its_options),
        access(options.access, options.listener.host, only_here(options.listener)),
        listener(options.listener,
                 {.head = [this](const HttpRequest& request) { return refuse_head(request); },
                  .request = [this](HttpRequest request,
                                    std::shared_ptr<HttpReply> reply) { take(std::move(request), std::move(reply)); },
                  .malformed =
                      [this](const HttpRequest& request, int status, const std::string& message) {
                        return refused(request, {status, "malformed_request", "", message});
                      }}),
        models(options.models, options.registry),
        store(options.store) {
    services.connections = [this] { return listener.connections(); };
  }

  ServerOptions options;
  Access access;
  Metrics metrics;
  Listener listener;
  Services services{.models = models,
                    .metrics = metrics,
                    .sampler = options.sampler,
                    .runs = options.runs,
                    .votes = options.votes,
                    .date = options.date,
                    .version = options.version,
                    .connections = {},
                    .store = store,
                    .places = Places(options.most_in_flight)};
  ModelRegistry models;
  ModelStore store;
  WorkerPool workers{kWorkers};

  std::optional<HttpResponse> refuse_head(const HttpRequest& request);
  HttpResponse refused(const HttpRequest& request, const ApiError& error);
  std::optional<ApiError> refusal(const HttpRequest& request);
  void take(HttpRequest request, std::shared_ptr<HttpReply> reply);
  HttpHeaders headers_for(const HttpRequest& request) const;
  void handle(const Route& route, const std::shared_ptr<Exchange>& exchange);
};

HttpHeaders Server::Impl::headers_for(const HttpRequest& request) const {
  HttpHeaders headers = {{"X-Content-Type-Options", "nosniff"}, {"Cache-Control", "no-store"}};
  if (const std::string origin = access.allowed_origin(request); !origin.empty()) {
    headers.emplace_back("Access-Control-Allow-Origin", origin);
    headers.emplace_back("Vary", "Origin");
  }
  return headers;
}

// All that can be said before the body is read.
std::optional<HttpResponse> Server::Impl::refuse_head(const HttpRequest& request) {
  const auto error = refusal(request);
  return error ? std::optional(refused(request, *error)) : std::nullopt;
}

// In the shape of the family that the path belongs to.
HttpResponse Server::Impl::refused(const HttpRequest& request, const ApiError& error) {
  HttpHeaders headers = headers_for(request);
  const std::string id = request_id();
  const ApiFamily family = family_of(request.path);
  HttpResponse response = error_response(family, error, id);
  headers.emplace_back(id_header(family), id);
  response.headers.insert(response.headers.end(), headers.begin(), headers.end());
  metrics.count_request("refused", error.status(), 0);
  return response;
}

std::optional<ApiError> Server::Impl::refusal(const HttpRequest& request) {
  const bool preflight = request.method == "OPTIONS";
  const RouteMatch match =
      find_route(route_table(), preflight ? request.header("access-control-request-method") : request.method, request.path);
  const Right needed = preflight ? Right::kNone : match.route == nullptr ? Right::kInfer : match.route->right;
  if (auto refused = access.refusal(request, needed)) return refused;
  if (preflight) return std::nullopt;
  if (match.status == 405) {
    return ApiError(405, "method_not_allowed", "", fmt::format("{} is not taken here: use {}", request.method, match.allowed))
        .with_header("Allow", match.allowed);
  }
  if (match.route == nullptr)
    return ApiError(404, "unknown_url", "", "there is nothing at this path; GET /openapi.json lists all there is");
  if (!match.route->answers) return std::nullopt;
  if (services.draining)
    return ApiError(503, "shutting_down", "", "the server is shutting down").with_header("x-should-retry", "false");
  if (services.places.taken() >= services.places.most()) return services.places.overloaded(1);
  return std::nullopt;
}

void Server::Impl::take(HttpRequest request, std::shared_ptr<HttpReply> reply) {
  HttpHeaders headers = headers_for(request);
  if (request.method == "OPTIONS") {
    headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    headers.emplace_back("Access-Control-Allow-Headers", "*, Authorization");
    headers.emplace_back("Access-Control-Max-Age", "600");
    return reply->send({.status = 204, .content_type = "", .body = "", .headers = std::move(headers)});
  }
  const Route& route = *find_route(route_table(), request.method, request.path).route;
  const std::string id = request_id();
  headers.emplace_back(id_header(route.family), id);
  // There was room when its head came; while its body did, others may have taken it.
  Places::Held places = route.answers ? services.places.take() : Places::Held();
  const bool full = route.answers && places.count() == 0;
  const Right right = access.right_of(request);
  const auto exchange = std::make_shared<Exchange>(std::move(request), std::move(reply),
                                                   Exchange::Origin{.id = id,
                                                                    .route = std::string(route.path),
                                                                    .family = route.family,
                                                                    .right = right,
                                                                    .headers = std::move(headers),
                                                                    .places = std::move(places)},
                                                   metrics);
  if (full) return exchange->fail(services.places.overloaded(1));
  if (route.quick) return handle(route, exchange);
  workers.post([this, &route, exchange] { handle(route, exchange); });
}

// The one place where what a route throws becomes an answer.
void Server::Impl::handle(const Route& route, const std::shared_ptr<Exchange>& exchange) {
  try {
    route.handler(services, exchange);
  } catch (const ApiError& error) {
    exchange->fail(error);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kInternal) fmt::print(stderr, "puna: {} {}: {}\n", exchange->id(), route.path, error.what());
    exchange->fail(ApiError::from(error));
  } catch (const std::exception& error) {
    fmt::print(stderr, "puna: {} {}: {}\n", exchange->id(), route.path, error.what());
    exchange->fail(ApiError(500, "internal_error", "", "the server met a defect of its own; its log says more"));
  }
}

Server::Server(const ServerOptions& options) : impl_(std::make_unique<Impl>(options)) {}

Server::~Server() { impl_->listener.stop(); }

std::string Server::url() const { return impl_->listener.url(); }

void Server::load_first() { impl_->models.load_first(); }

void Server::start() { impl_->listener.start(); }

std::int64_t Server::run(const std::function<bool()>& asked_to_stop, const std::function<bool()>& asked_twice) {
  while (!asked_to_stop() && !impl_->services.asked_to_stop) {
    std::this_thread::sleep_for(kTick);
    impl_->models.unload_idle();
  }
  impl_->services.draining = true;
  impl_->listener.drain();
  const auto end = std::chrono::steady_clock::now() + impl_->options.drain_time;
  while (std::chrono::steady_clock::now() < end && !asked_twice()) {
    if (impl_->services.places.requests() == 0 && impl_->listener.connections() == 0) break;
    std::this_thread::sleep_for(kTick);
  }
  return impl_->services.places.requests();
}

}  // namespace puna
