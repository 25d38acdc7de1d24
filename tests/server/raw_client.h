// SPDX-License-Identifier: Apache-2.0
// A client that says what it likes, byte for byte, to a server on loopback.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>

namespace puna {

class RawClient {
 public:
  explicit RawClient(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);  // NOLINT: POSIX
  }
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  // All that came so far, once it holds `text`, or the server has closed, or two seconds of silence.
  const std::string& receive(std::string_view text) {
    std::array<char, 65536> buffer{};
    while (received_.find(text) == std::string::npos && !closed_) {
      pollfd waiting{socket_, POLLIN, 0};
      if (::poll(&waiting, 1, 2000) <= 0) break;
      const ssize_t size = ::recv(socket_, buffer.data(), buffer.size(), 0);
      if (size <= 0) closed_ = true;
      if (size > 0) received_.append(buffer.data(), static_cast<std::size_t>(size));
    }
    return received_;
  }

  // Whether the server closes, at once or after what it still says.
  bool is_closed() {
    receive("\x01 never said");
    return closed_;
  }

  void forget() { received_.clear(); }

 private:
  int socket_;
  std::string received_;
  bool closed_ = false;
};

}  // namespace puna
