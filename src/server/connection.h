// SPDX-License-Identifier: Apache-2.0
// One client's connection: requests one after the other, each answered before the next is read. Everything here runs on the
// network's thread; replies come to it by asio::post. Included by listener.cc alone.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cctype>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "server/listener_options.h"

namespace puna::network {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using ErrorCode = boost::system::error_code;
using Socket = asio::generic::stream_protocol::socket;

class AnyConnection {
 public:
  virtual ~AnyConnection() = default;
  virtual void drain() = 0;
  virtual void close() = 0;
};

// What all connections share. It outlives them.
struct Hub {
  ListenerOptions options;
  ListenerEvents events;
  std::unordered_set<AnyConnection*> open;  // the network's thread only
  std::atomic<std::size_t> count{0};
  bool draining = false;
  asio::io_context io{1};  // destroyed first: what waits in it holds connections
};

// length: the header that says where the body ends, as a line.
inline std::string head_text(const HttpResponse& response, bool keep_alive, std::string_view length) {
  std::string text = "HTTP/1.1 " + std::to_string(response.status) + " " + std::string(http_reason(response.status)) + "\r\n";
  for (const auto& [name, value] : response.headers) text.append(name).append(": ").append(value).append("\r\n");
  if (!response.content_type.empty()) text.append("Content-Type: ").append(response.content_type).append("\r\n");
  text.append(length).append(keep_alive ? "" : "Connection: close\r\n").append("\r\n");
  return text;
}

inline std::string chunk_text(std::string_view part) {
  std::array<char, 20> size{};
  const int digits = std::snprintf(size.data(), size.size(), "%zx\r\n", part.size());
  std::string text(size.data(), static_cast<std::size_t>(digits));
  return text.append(part).append("\r\n");
}

template <typename Stream>
class Connection final : public AnyConnection, public std::enable_shared_from_this<Connection<Stream>> {
 public:
  static constexpr bool kTls = !std::is_same_v<Stream, Socket>;

  Connection(Hub& hub, Stream stream, std::string peer)
      : hub_(hub), stream_(std::move(stream)), timer_(hub.io), peer_(std::move(peer)) {
    hub_.open.insert(this);
    ++hub_.count;
  }
  ~Connection() override { close(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start() {
    if constexpr (kTls) {
      arm(hub_.options.header_time, Wait::kHead);
      stream_.async_handshake(Stream::server, [self = this->shared_from_this()](ErrorCode error) {
        if (error) return self->close();
        self->read_head();
      });
    } else {
      read_head();
    }
  }

  void drain() override {
    last_request_ = true;
    if (phase_ == Phase::kIdle) close();
  }

  void close() override {
    if (phase_ == Phase::kClosed) return;
    phase_ = Phase::kClosed;
    hub_.open.erase(this);
    --hub_.count;
    timer_.cancel();
    ErrorCode ignored;
    stream_.lowest_layer().shutdown(asio::socket_base::shutdown_both, ignored);
    stream_.lowest_layer().close(ignored);
    queue_.clear();
    if (ticket_ != nullptr) ticket_->backlog = 0;
    backlog_changed_ = nullptr;
    if (auto gone = std::exchange(gone_, nullptr)) gone();
  }

 private:
  enum class Phase { kIdle, kReading, kAnswering, kStreaming, kEnding, kLingering, kClosed };
  enum class Wait { kIdle, kHead, kBody, kWrite, kHeartbeat, kLinger };

  // One request's right to the connection. A reply whose ticket is not the connection's any more speaks to nobody.
  struct Ticket {
    std::atomic<std::size_t> backlog{0};
  };

  class Reply final : public HttpReply {
   public:
    Reply(std::shared_ptr<Connection> connection, std::shared_ptr<Ticket> ticket)
        : connection_(std::move(connection)), ticket_(std::move(ticket)) {}
    ~Reply() override {
      asio::post(connection_->hub_.io, [c = connection_, t = ticket_] {
        if (c->holds(t)) c->abandon();
      });
    }
    void send(HttpResponse response) override {
      ticket_->backlog += response.body.size();
      asio::post(connection_->hub_.io, [c = connection_, t = ticket_, r = std::move(response)]() mutable {
        if (c->holds(t)) c->send(std::move(r));
      });
    }
    void begin(HttpResponse head, std::string heartbeat) override {
      asio::post(connection_->hub_.io, [c = connection_, t = ticket_, h = std::move(head), b = std::move(heartbeat)]() mutable {
        if (c->holds(t)) c->begin(h, std::move(b));
      });
    }
    void write(std::string part) override {
      if (part.empty()) return;  // an empty chunk would end the answer
      ticket_->backlog += part.size();
      asio::post(connection_->hub_.io,
                 [c = connection_, t = ticket_, p = std::move(part)] { c->holds(t) ? c->write(p) : void(t->backlog = 0); });
    }
    void end() override {
      asio::post(connection_->hub_.io, [c = connection_, t = ticket_] {
        if (c->holds(t)) c->end();
      });
    }
    void abort() override {
      asio::post(connection_->hub_.io, [c = connection_, t = ticket_] {
        if (c->holds(t)) c->close();
      });
    }
    std::size_t backlog() const override { return ticket_->backlog; }
    void on_gone(std::function<void()> callback) override {
      asio::post(connection_->hub_.io, [c = connection_, t = ticket_, f = std::move(callback)]() mutable {
        if (c->holds(t)) {
          c->gone_ = std::move(f);
        } else if (c->phase_ == Phase::kClosed) {
          f();
        }
      });
    }
    void on_backlog(std::function<void(bool full)> callback) override {
      asio::post(connection_->hub_.io, [c = connection_, t = ticket_, f = std::move(callback)]() mutable {
        if (!c->holds(t)) return;
        c->backlog_changed_ = std::move(f);
        if (c->behind_) c->backlog_changed_(true);
      });
    }

   private:
    std::shared_ptr<Connection> connection_;
    std::shared_ptr<Ticket> ticket_;
  };

  bool holds(const std::shared_ptr<Ticket>& ticket) const { return ticket_ == ticket && phase_ != Phase::kClosed; }

  void arm(std::chrono::milliseconds time, Wait wait) {
    timer_.expires_after(time);
    timer_.async_wait([weak = this->weak_from_this(), wait](ErrorCode error) {
      if (error) return;
      if (const auto self = weak.lock()) self->timed_out(wait);
    });
  }

  void timed_out(Wait wait) {
    if (wait == Wait::kHeartbeat) return heartbeat();
    if ((wait == Wait::kHead || wait == Wait::kBody) && begun_) return refuse(408, "the request did not come in time");
    close();
  }

  // Waits for the next request, or, while one is answered, for the client's going. What comes meanwhile is the next request's
  // beginning; of one that sends so much ahead, the going is no longer seen.
  void watch() {
    constexpr std::size_t kMostAhead = 64 << 10;
    if (watching_ || buffer_.size() >= kMostAhead) return;
    watching_ = true;
    stream_.async_read_some(buffer_.prepare(4096), [self = this->shared_from_this()](ErrorCode error, std::size_t bytes) {
      self->watching_ = false;
      const bool stopped = std::exchange(self->stops_watching_, false) && error == asio::error::operation_aborted;
      if (error && !stopped) return self->close();
      self->buffer_.commit(bytes);
      if (self->phase_ == Phase::kIdle) return self->read_head();
      if (self->phase_ == Phase::kAnswering || self->phase_ == Phase::kStreaming) self->watch();
    });
  }

  // What has come of the next request is read now, so nobody else may be reading.
  void stop_watching() {
    stops_watching_ = true;
    ErrorCode ignored;
    stream_.lowest_layer().cancel(ignored);
  }

  void next_request() {
    ticket_.reset();
    gone_ = nullptr;
    backlog_changed_ = nullptr;
    behind_ = false;
    if (last_request_ || hub_.draining) return close();
    phase_ = Phase::kIdle;
    if (buffer_.size() > 0) return watching_ ? stop_watching() : read_head();
    arm(hub_.options.idle_time, Wait::kIdle);
    watch();
  }

  void read_head() {
    phase_ = Phase::kReading;
    begun_ = false;
    arm(hub_.options.header_time, Wait::kHead);
    request_ = {};
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(hub_.options.most_header_bytes));
    parser_->body_limit(hub_.options.most_body_bytes);
    http::async_read_header(stream_, buffer_, *parser_, [self = this->shared_from_this()](ErrorCode error, std::size_t bytes) {
      self->begun_ = bytes > 0;
      self->on_head(error);
    });
  }

  void on_head(ErrorCode error) {
    if (phase_ != Phase::kReading) return;  // closed, or refused: it took too long
    if (error) return on_read_error(error);
    begun_ = true;
    take_head();
    if (const auto [status, message] = framing_fault(); status != 0) return refuse(status, message);
    if (auto refusal = hub_.events.head(request_)) return refuse(std::move(*refusal));
    if (request_.header("expect") == "100-continue" && !parser_->is_done()) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      asio::async_write(stream_, asio::buffer(kContinue), [self = this->shared_from_this()](ErrorCode failed, std::size_t) {
        if (failed) return self->close();
        self->read_body();
      });
    } else {
      read_body();
    }
  }

  void read_body() {
    arm(hub_.options.body_time, Wait::kBody);
    http::async_read(stream_, buffer_, *parser_, [self = this->shared_from_this()](ErrorCode error, std::size_t) {
      if (self->phase_ != Phase::kReading) return;
      if (error) return self->on_read_error(error);
      self->timer_.cancel();
      self->request_.body = std::move(self->parser_->get().body());
      self->answer();
    });
  }

  void on_read_error(ErrorCode error) {
    if (error == http::error::body_limit && request_.path.empty()) take_head();
    if (error == http::error::header_limit) return refuse(431, "the request's head is too long");
    if (error == http::error::body_limit)
      return refuse(
          413, "the request's body is longer than the " + std::to_string(hub_.options.most_body_bytes) + " bytes that are taken");
    const bool malformed = error.category() == make_error_code(http::error::bad_method).category() &&
                           error != http::error::end_of_stream && error != http::error::partial_message;
    if (!malformed) return close();
    refuse(400, "the request is not HTTP/1.1: " + error.message());
  }

  void take_head() {
    const auto& head = parser_->get();
    const std::string target(head.target());
    const std::size_t mark = target.find('?');
    request_ = {};
    request_.method = std::string(head.method_string());
    request_.path = target.substr(0, mark);
    if (mark != std::string::npos) request_.query = target.substr(mark + 1);
    request_.peer = peer_;
    for (const auto& field : head) {
      std::string name(field.name_string());
      std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      request_.headers.emplace_back(std::move(name), std::string(field.value()));
    }
    head_only_ = request_.method == "HEAD";
    keep_alive_ = parser_->keep_alive();
  }

  // What two readers of the same bytes could take for different requests.
  std::pair<int, std::string> framing_fault() const {
    if (const unsigned version = parser_->get().version(); version != 10 && version != 11)
      return {400, "the request is not HTTP/1.1"};
    if (request_.count("host") > 1 || (parser_->get().version() == 11 && request_.count("host") == 0))
      return {400, "a request has one Host header"};
    const std::size_t lengths = request_.count("content-length"), codings = request_.count("transfer-encoding");
    if (lengths > 1 || codings > 1 || (lengths > 0 && codings > 0)) return {400, "the length of the request's body is told twice"};
    if (codings == 1 && !parser_->chunked()) return {400, "the only transfer coding that is read is chunked"};
    if (request_.count("authorization") > 1) return {400, "a request has one Authorization header at most"};
    return {0, ""};
  }

  void answer() {
    phase_ = Phase::kAnswering;
    ticket_ = std::make_shared<Ticket>();
    watch();
    hub_.events.request(std::move(request_), std::make_shared<Reply>(this->shared_from_this(), ticket_));
  }

  bool keeps_alive() const { return keep_alive_ && !last_request_ && !hub_.draining; }

  void send(HttpResponse response) {
    if (phase_ != Phase::kAnswering) return close();
    phase_ = Phase::kEnding;
    last_request_ = !keeps_alive();
    const std::string length = "Content-Length: " + std::to_string(response.body.size()) + "\r\n";
    push(head_text(response, !last_request_, length), 0);
    if (!head_only_) push(std::move(response.body), response.body.size());
    flush();
  }

  void begin(const HttpResponse& head, std::string heartbeat) {
    if (phase_ != Phase::kAnswering) return close();
    phase_ = Phase::kStreaming;
    heartbeat_ = std::move(heartbeat);
    is_chunked_ = parser_->get().version() >= 11;  // HTTP/1.0 knows no parts: the answer ends where the connection does
    last_request_ = !keeps_alive() || !is_chunked_;
    push(head_text(head, !last_request_, is_chunked_ ? "Transfer-Encoding: chunked\r\n" : ""), 0);
    flush();
  }

  void write(const std::string& part) {
    if (phase_ != Phase::kStreaming) return;
    if (!backlog_changed_ && ticket_->backlog > hub_.options.most_backlog) return close();
    push(is_chunked_ ? chunk_text(part) : part, part.size());
    flush();
    watch_backlog();
  }

  void end() {
    if (phase_ != Phase::kStreaming) return;
    phase_ = Phase::kEnding;
    push(is_chunked_ ? "0\r\n\r\n" : "", 0);
    if (writing_.empty() && queue_.empty()) return next_request();
    flush();
  }

  // Nobody will answer, or go on with the answer.
  void abandon() {
    if (phase_ == Phase::kAnswering || phase_ == Phase::kStreaming) close();
  }

  void heartbeat() {
    if (phase_ != Phase::kStreaming) return;
    push(is_chunked_ ? chunk_text(heartbeat_) : heartbeat_, 0);
    flush();
  }

  void watch_backlog() {
    const std::size_t most = behind_ ? hub_.options.full_backlog / 2 : hub_.options.full_backlog;
    const bool full = ticket_->backlog > most;
    if (std::exchange(behind_, full) != full && backlog_changed_) backlog_changed_(full);
  }

  // So much of what is being written.
  void taken(std::size_t bytes) {
    const std::size_t fresh = bytes - std::exchange(taken_, bytes);
    if (ticket_ == nullptr) return;
    ticket_->backlog -= std::min<std::size_t>(fresh, ticket_->backlog);
    watch_backlog();
  }

  void push(std::string text, std::size_t counted) {
    if (!text.empty()) queue_.push_back(std::move(text));
    queued_ += counted;
  }

  void flush() {
    if (!writing_.empty() || queue_.empty()) return;
    writing_.swap(queue_);
    const std::size_t counted = std::exchange(queued_, 0);
    std::vector<asio::const_buffer> buffers;
    buffers.reserve(writing_.size());
    for (const std::string& text : writing_) buffers.emplace_back(asio::buffer(text));
    arm(hub_.options.write_time, Wait::kWrite);
    taken_ = 0;
    const auto progress = [this, counted](const ErrorCode& error, std::size_t bytes) -> std::size_t {
      if (error || phase_ == Phase::kClosed) return 0;
      arm(hub_.options.write_time, Wait::kWrite);
      taken(std::min(bytes, counted));
      return std::size_t{1} << 16;
    };
    asio::async_write(stream_, buffers, progress, [self = this->shared_from_this(), counted](ErrorCode error, std::size_t) {
      self->on_written(error, counted);
    });
  }

  void on_written(ErrorCode error, std::size_t counted) {
    writing_.clear();
    if (phase_ == Phase::kClosed) return;
    if (error) return close();
    taken(counted);
    timer_.cancel();
    if (!queue_.empty()) return flush();
    if (phase_ == Phase::kStreaming && !heartbeat_.empty()) return arm(hub_.options.heartbeat_time, Wait::kHeartbeat);
    if (phase_ == Phase::kEnding) return next_request();
    if (phase_ == Phase::kLingering) return linger();
  }

  void refuse(int status, const std::string& message) { refuse(hub_.events.malformed(request_, status, message)); }

  // Answers and closes; the rest of the request is not wanted.
  void refuse(HttpResponse response) {
    phase_ = Phase::kLingering;
    last_request_ = true;
    push(head_text(response, false, "Content-Length: " + std::to_string(response.body.size()) + "\r\n"), 0);
    if (!head_only_) push(std::move(response.body), 0);
    flush();
  }

  // A socket that is closed with unread bytes resets the connection, and the client loses the answer: so they are read for a while,
  // as they come: of a TLS connection too.
  void linger() {
    ErrorCode ignored;
    stream_.lowest_layer().shutdown(asio::socket_base::shutdown_send, ignored);
    arm(std::chrono::milliseconds(2000), Wait::kLinger);
    discard();
  }

  Socket& socket() {
    if constexpr (kTls) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }

  void discard() {
    socket().async_read_some(asio::buffer(discarded_), [self = this->shared_from_this()](ErrorCode error, std::size_t) {
      if (error || self->phase_ == Phase::kClosed) return self->close();
      self->discard();
    });
  }

  Hub& hub_;
  Stream stream_;
  asio::steady_timer timer_;
  std::string peer_;
  Phase phase_ = Phase::kIdle;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  HttpRequest request_;
  bool is_chunked_ = true;
  bool begun_ = false, watching_ = false, stops_watching_ = false, head_only_ = false, keep_alive_ = true, last_request_ = false;
  std::shared_ptr<Ticket> ticket_;
  std::function<void()> gone_;
  std::function<void(bool full)> backlog_changed_;
  std::string heartbeat_;
  std::vector<std::string> queue_, writing_;
  std::size_t queued_ = 0, taken_ = 0;  // bytes of parts, which backlogs are counted in
  bool behind_ = false;
  std::array<char, 4096> discarded_{};
};

}  // namespace puna::network
