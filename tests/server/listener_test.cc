// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 byte for byte: framing, limits, time-outs, back-pressure, and what becomes of answers when somebody goes.
#include "server/listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>

#include "expect_error.h"
#include "server/raw_client.h"
#include "temp_folder.h"

namespace puna {
namespace {

using namespace std::string_view_literals;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Answers "METHOD path body"; requests for /hold are kept for the test to answer.
class ListenerTest : public ::testing::Test {
 protected:
  void start(ListenerOptions options = {}) {
    options.port = 0;
    listener_.emplace(
        options, ListenerEvents{.head = [this](const HttpRequest& request) { return head(request); },
                                .request = [this](HttpRequest request,
                                                  std::shared_ptr<HttpReply> reply) { take(std::move(request), std::move(reply)); },
                                .malformed =
                                    [](const HttpRequest& request, int status, const std::string& message) {
                                      return HttpResponse{
                                          .status = status, .content_type = "text/plain", .body = request.path + ": " + message};
                                    }});
    listener_->start();
    port_ = std::stoi(listener_->url().substr(listener_->url().rfind(':') + 1));
  }

  void TearDown() override {
    held_.reset();
    if (listener_) listener_->stop();
  }

  static std::optional<HttpResponse> head(const HttpRequest& request) {
    if (request.path != "/forbidden") return std::nullopt;
    return HttpResponse{.status = 403, .content_type = "text/plain", .body = "no"};
  }

  void take(HttpRequest request, std::shared_ptr<HttpReply> reply) {
    if (request.path == "/hold") {
      reply->on_gone([this] {
        const std::scoped_lock lock(mutex_);
        gone_ = true;
        changed_.notify_all();
      });
      const std::scoped_lock lock(mutex_);
      held_ = std::move(reply);
      changed_.notify_all();
    } else if (request.path != "/nobody") {
      reply->send({.status = 200, .content_type = "text/plain", .body = request.method + " " + request.path + " " + request.body});
    }
  }

  std::shared_ptr<HttpReply> held() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(5), [&] { return held_ != nullptr; });
    return held_;
  }
  bool is_gone() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(5), [&] { return gone_.load(); });
  }

  static std::string get(std::string_view path, std::string_view more = "") {
    return "GET " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(more) + "\r\n";
  }
  std::string ask(std::string_view bytes, std::string_view until) {
    RawClient client(port_);
    client.send(bytes);
    return client.receive(until);
  }

  std::optional<Listener> listener_;
  int port_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<HttpReply> held_;
  std::atomic<bool> gone_ = false;
};

TEST_F(ListenerTest, AnswersOneRequestAfterTheOther) {
  start();
  RawClient client(port_);
  for (int i = 0; i < 3; ++i) {
    client.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    EXPECT_THAT(client.receive("POST /a hi"), StartsWith("HTTP/1.1 200 OK\r\n"));
    client.forget();
  }
  client.send("POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n2\r\nij\r\n0\r\n\r\n");
  EXPECT_THAT(client.receive("POST /b hij"), HasSubstr("Content-Length: 11\r\n"));
}

TEST_F(ListenerTest, AnswersPipelinedRequestsInOrder) {
  start();
  EXPECT_THAT(ask(get("/1") + get("/2") + get("/3"), "GET /3"), ::testing::ContainsRegex("GET /1(.|\n|\r)*GET /2(.|\n|\r)*GET /3"));
}

TEST_F(ListenerTest, ClosesWhereTheClientWantsIt) {
  start();
  RawClient client(port_);
  client.send(get("/a", "Connection: close\r\n"));
  EXPECT_TRUE(client.is_closed());
  EXPECT_THAT(client.receive(""), HasSubstr("Connection: close\r\n"));
}

TEST_F(ListenerTest, HeadHasNoBody) {
  start();
  RawClient client(port_);
  client.send("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + get("/b"));
  EXPECT_THAT(client.receive("GET /b"), Not(HasSubstr("HEAD /a")));
}

TEST_F(ListenerTest, RefusesBytesThatAreNoRequest) {
  start();
  for (const char* bytes : {"\r\n\r\nhello\r\n\r\n",
                            "GET\r\n\r\n",
                            "GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
                            "GET /a HTTP/1.1\r\nHost x\r\n\r\n",
                            "GET /a HTTP/1.1\r\nHo st: x\r\n\r\n",
                            "GET /a HTTP/1.1\nHost: x\n\n",
                            "G\x01T /a HTTP/1.1\r\nHost: x\r\n\r\n",
                            "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                            "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n",
                            "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
                            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
                            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
                            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
                            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
                            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
                            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
                            "GET /a HTTP/1.1\r\n\r\n",
                            "GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
                            "GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n"}) {
    RawClient client(port_);
    client.send(bytes);
    EXPECT_TRUE(client.is_closed()) << bytes;
    EXPECT_THAT(client.receive(""), StartsWith("HTTP/1.1 400 ")) << bytes;
  }
  RawClient client(port_);
  client.send("GET /a HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n"sv);
  EXPECT_TRUE(client.is_closed());
  EXPECT_THAT(client.receive(""), StartsWith("HTTP/1.1 400 "));
}

TEST_F(ListenerTest, RefusesWhatIsTooLong) {
  start({.most_header_bytes = 1024, .most_body_bytes = 1000});
  EXPECT_THAT(ask(get("/a", "X: " + std::string(2000, 'x') + "\r\n"), "\r\n"), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(ask(get("/" + std::string(2000, 'x')), "\r\n"), StartsWith("HTTP/1.1 431 "));
  // By its announced length, before a byte of it was sent; or as it comes.
  const std::string refused = ask("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", "taken");
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(refused, HasSubstr("/a: the request's body is longer"));
  EXPECT_THAT(
      ask("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + std::string(1001, 'x') + "\r\n0\r\n\r\n",
          "\r\n"),
      StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(ask("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'x'), "xxx"),
              StartsWith("HTTP/1.1 200 "));
}

TEST_F(ListenerTest, RefusesBeforeTheBodyIsSent) {
  start();
  EXPECT_THAT(ask("POST /forbidden HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", "no"),
              StartsWith("HTTP/1.1 403 "));
  RawClient client(port_);
  client.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_THAT(client.receive("100 Continue"), StartsWith("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send("hi");
  EXPECT_THAT(client.receive("POST /a hi"), HasSubstr("HTTP/1.1 200 OK"));
}

TEST_F(ListenerTest, GivesARequestSoMuchTime) {
  start({.header_time = std::chrono::milliseconds(200),
         .body_time = std::chrono::milliseconds(200),
         .idle_time = std::chrono::milliseconds(200)});
  RawClient head(port_), body(port_), idle(port_);
  head.send("GET /a HT");
  body.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhi");
  idle.send(get("/a"));
  EXPECT_TRUE(head.is_closed());
  EXPECT_TRUE(body.is_closed());
  EXPECT_THAT(body.receive(""), StartsWith("HTTP/1.1 408 "));
  EXPECT_TRUE(idle.is_closed());
  EXPECT_THAT(idle.receive(""), StartsWith("HTTP/1.1 200 "));
}

TEST_F(ListenerTest, ARequestThatWasRefusedForItsSlownessIsNotAnswered) {
  ListenerOptions options;
  options.body_time = std::chrono::milliseconds(100);
  start(options);
  RawClient client(port_);
  client.send("POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
  EXPECT_THAT(client.receive("408"), HasSubstr("408"));
  client.send("cd");  // the rest comes after all
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const std::scoped_lock lock(mutex_);
  EXPECT_EQ(held_, nullptr) << "what was refused is done";
}

TEST_F(ListenerTest, PartsForHttp10HaveNoCoding) {
  start();
  RawClient client(port_);
  client.send("GET /hold HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const auto reply = held();
  ASSERT_NE(reply, nullptr);
  reply->begin({.status = 200, .content_type = "text/plain", .body = ""}, "");
  reply->write("one");
  reply->write("two");
  reply->end();
  EXPECT_TRUE(client.is_closed());
  EXPECT_THAT(client.receive("never"), EndsWith("\r\n\r\nonetwo"));
  EXPECT_THAT(client.receive("never"), Not(HasSubstr("chunked")));
}

TEST_F(ListenerTest, SendsPartsAsTheyCome) {
  start();
  RawClient client(port_);
  client.send(get("/hold"));
  const auto reply = held();
  reply->begin({.status = 200, .content_type = "text/event-stream", .body = ""}, "");
  reply->write("one");
  EXPECT_THAT(client.receive("one\r\n"), HasSubstr("Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"));
  reply->write("");
  reply->write("twotwotwotwotwotwo");
  EXPECT_THAT(client.receive("twotwo"), EndsWith("12\r\ntwotwotwotwotwotwo\r\n"));
  reply->end();
  EXPECT_THAT(client.receive("0\r\n\r\n"), EndsWith("0\r\n\r\n"));
  client.send(get("/after"));
  EXPECT_THAT(client.receive("GET /after"), HasSubstr("GET /after"));
}

TEST_F(ListenerTest, KeepsASilentAnswerAlive) {
  start({.heartbeat_time = std::chrono::milliseconds(50)});
  RawClient client(port_);
  client.send(get("/hold"));
  held()->begin({.status = 200, .content_type = "text/event-stream", .body = ""}, ":\n\n");
  EXPECT_THAT(client.receive("3\r\n:\n\n\r\n3\r\n:\n\n\r\n"), HasSubstr("3\r\n:\n\n\r\n3\r\n:\n\n\r\n"));
}

TEST_F(ListenerTest, TellsThatAClientHasGone) {
  start();
  RawClient client(port_);
  client.send(get("/hold"));
  held()->begin({.status = 200, .content_type = "text/plain", .body = ""}, "");
  client.close();
  EXPECT_TRUE(is_gone());
  for (int i = 0; i < 100 && listener_->connections() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(listener_->connections(), 0u);
  held_->write("to nobody");  // is dropped
  held_->end();
}

// What came behind its request is the next one's beginning, and does not hide its going.
TEST_F(ListenerTest, TellsThatAClientHasGoneThatSentMore) {
  start();
  RawClient client(port_);
  client.send(get("/hold") + "G");
  ASSERT_NE(held(), nullptr);
  client.send("ET /next");
  EXPECT_FALSE(gone_);
  client.close();
  EXPECT_TRUE(is_gone());
}

TEST_F(ListenerTest, AnswersWhatCameInPiecesWhileAnotherWasAnswered) {
  start();
  RawClient client(port_);
  client.send(get("/hold"));
  const auto reply = held();
  ASSERT_NE(reply, nullptr);
  for (const std::string_view piece : {"POST /next HTTP/1.1\r\nHo", "st: x\r\nContent-Length: 4\r\n\r\nbo"}) {
    client.send(piece);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  reply->send({.status = 200, .content_type = "text/plain", .body = "first"});
  EXPECT_THAT(client.receive("first"), HasSubstr("first"));
  client.send("dy" + get("/last"));
  EXPECT_THAT(client.receive("GET /last"), ::testing::ContainsRegex("POST /next body(.|\n|\r)*GET /last"));
}

TEST_F(ListenerTest, DropsAClientThatDoesNotRead) {
  start({.most_backlog = 1 << 16, .write_time = std::chrono::milliseconds(300)});
  RawClient client(port_);
  client.send(get("/hold"));
  const auto reply = held();
  reply->begin({.status = 200, .content_type = "text/plain", .body = ""}, "");
  for (int i = 0; i < 2000 && !gone_; ++i) {
    reply->write(std::string(1 << 14, 'x'));
    if (i % 16 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(is_gone());
  for (int i = 0; i < 250 && reply->backlog() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(reply->backlog(), 0u);
}

TEST_F(ListenerTest, TellsWhereAClientFallsBehindAndWhereItHasCaughtUp) {
  start({.full_backlog = 1 << 16, .most_backlog = 1 << 17});
  RawClient client(port_);
  client.send(get("/hold"));
  const auto reply = held();
  reply->begin({.status = 200, .content_type = "text/plain", .body = ""}, "");
  std::atomic<int> full = 0, caught_up = 0;
  reply->on_backlog([&](bool is_full) { ++(is_full ? full : caught_up); });
  const auto comes = [](const auto& true_at_last) {
    for (int i = 0; i < 500 && !true_at_last(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return true_at_last();
  };
  // Until the system takes no more either: while it does, a backlog may fill and drain again.
  const auto stays_full = [&] {
    for (int i = 0; i < 10; ++i) {
      if (full == caught_up) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
  };
  for (int i = 0; i < 4096 && !stays_full(); ++i) reply->write(std::string(1 << 14, 'x'));
  EXPECT_EQ(full, caught_up + 1);
  for (int i = 0; i < 16; ++i) reply->write(std::string(1 << 14, 'x'));  // more than would have it dropped otherwise
  reply->write("the end of it");
  EXPECT_THAT(client.receive("the end of it"), EndsWith("the end of it\r\n"));
  EXPECT_TRUE(comes([&] { return caught_up == full; }));
  EXPECT_FALSE(gone_);
  EXPECT_TRUE(comes([&] { return reply->backlog() == 0; }));
  reply->end();
  EXPECT_THAT(client.receive("0\r\n\r\n"), EndsWith("0\r\n\r\n"));
}

TEST_F(ListenerTest, DropsAClientThatTakesNothingThoughItsAnswerPauses) {
  start({.full_backlog = 1 << 16, .write_time = std::chrono::milliseconds(300)});
  RawClient client(port_);
  client.send(get("/hold"));
  const auto reply = held();
  reply->begin({.status = 200, .content_type = "text/plain", .body = ""}, "");
  std::atomic<bool> full = false;
  reply->on_backlog([&](bool is_full) { full = is_full; });
  for (int i = 0; i < 10000 && !gone_; ++i) {
    full ? std::this_thread::sleep_for(std::chrono::milliseconds(1)) : reply->write(std::string(1 << 14, 'x'));
  }
  EXPECT_TRUE(is_gone());
}

TEST_F(ListenerTest, ClosesWhereNobodyAnswers) {
  start();
  RawClient client(port_);
  client.send(get("/nobody"));
  EXPECT_TRUE(client.is_closed());
  EXPECT_EQ(client.receive(""), "");
}

TEST_F(ListenerTest, DrainingEndsAnswersAndTakesNothingNew) {
  start();
  RawClient idle(port_), busy(port_);
  idle.send(get("/a"));
  idle.receive("GET /a");
  busy.send(get("/hold"));
  const auto reply = held();
  listener_->drain();
  EXPECT_TRUE(idle.is_closed());
  reply->send({.status = 200, .content_type = "text/plain", .body = "the end"});
  EXPECT_TRUE(busy.is_closed());
  EXPECT_THAT(busy.receive(""), ::testing::AllOf(HasSubstr("Connection: close"), EndsWith("the end")));
}

TEST_F(ListenerTest, AUnixSocketIsItsOwnersOnly) {
  const TempFolder folder;
  const std::string path = (folder.path() / "s").string();
  Listener listener({.unix_path = path}, {});
  struct stat found {};
  ASSERT_EQ(::stat(path.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  EXPECT_EQ(listener.url(), "unix:" + path);
}

TEST_F(ListenerTest, SaysWhyItCannotListen) {
  start();
  expect_error(ErrorKind::kNoRoom, "the address is taken", [&] { Listener({.port = port_}, {}); });
  expect_error(ErrorKind::kUsage, "no address of this machine", [] { Listener({.host = "no such host.invalid"}, {}); });
  expect_error(ErrorKind::kUsage, "given together", [] { Listener({.port = 0, .certificate = "x"}, {}); });
  expect_error(ErrorKind::kUsage, "is no certificate",
               [] { Listener({.port = 0, .certificate = "/dev/null", .key = "/dev/null"}, {}); });
  const TempFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  expect_error(ErrorKind::kBadInput, "is no socket", [&] { Listener({.unix_path = (folder.path() / "file").string()}, {}); });
}

}  // namespace
}  // namespace puna
