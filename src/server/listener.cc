// SPDX-License-Identifier: Apache-2.0
#include "server/listener.h"

#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/ssl.hpp>
#include <thread>

#include "base/error.h"
#include "server/connection.h"

namespace puna {

using namespace network;  // NOLINT(google-build-using-namespace): this file is where both meet

// Of a connection, in the system. Left alone it grows to megabytes for a client that does not read.
constexpr int kSendBuffer = 256 << 10;

struct Listener::Impl {
  Hub hub;
  std::optional<asio::ip::tcp::acceptor> tcp;
  std::optional<asio::local::stream_protocol::acceptor> local;
  std::optional<asio::ssl::context> tls;
  asio::steady_timer pause{hub.io};  // before the next accept, where there are no more descriptors
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(hub.io);
  std::thread thread;
  std::string url;

  void listen_local();
  void listen_tcp();
  void load_certificate();
  template <typename Acceptor>
  void accept(Acceptor& acceptor);
  void serve(Socket socket, const std::string& peer);
  void close_all();
};

void Listener::Impl::listen_local() {
  const std::string& path = hub.options.unix_path;
  struct stat found {};
  if (::lstat(path.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode)) fail(ErrorKind::kBadInput, path, "is there already and is no socket: name another path");
    Socket probe(hub.io);
    ErrorCode error;
    probe.connect(asio::local::stream_protocol::endpoint(path), error);
    if (!error) fail(ErrorKind::kNoRoom, path, "another server answers there");
    ::unlink(path.c_str());
  }
  ErrorCode error;
  local.emplace(hub.io);
  local->open(asio::local::stream_protocol(), error);
  const mode_t mask = ::umask(0177);
  if (!error) local->bind(asio::local::stream_protocol::endpoint(path), error);
  ::umask(mask);
  if (!error) local->listen(asio::socket_base::max_listen_connections, error);
  if (error) fail(ErrorKind::kUsage, path, "cannot be listened on: {}", error.message());
  url = "unix:" + path;
}

void Listener::Impl::listen_tcp() {
  const ListenerOptions& options = hub.options;
  const std::string where = options.host + ":" + std::to_string(options.port);
  ErrorCode error;
  asio::ip::tcp::resolver resolver(hub.io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port),
                                      asio::ip::resolver_base::passive | asio::ip::resolver_base::numeric_service, error);
  if (error || found.empty()) fail(ErrorKind::kUsage, where, "is no address of this machine: {}", error.message());
  const asio::ip::tcp::endpoint endpoint = found.begin()->endpoint();
  tcp.emplace(hub.io);
  tcp->open(endpoint.protocol(), error);
  if (!error) tcp->set_option(asio::socket_base::reuse_address(true), error);
  if (!error) tcp->bind(endpoint, error);
  if (error == asio::error::address_in_use)
    fail(ErrorKind::kNoRoom, where, "the address is taken: stop what listens there, or choose another with --port");
  if (!error) tcp->listen(asio::socket_base::max_listen_connections, error);
  if (error) fail(ErrorKind::kUsage, where, "cannot be listened on: {}", error.message());
  const bool v6 = endpoint.address().is_v6();
  const std::string address = endpoint.address().to_string();
  url = std::string(options.certificate.empty() ? "http" : "https") + "://" + (v6 ? "[" + address + "]" : address) + ":" +
        std::to_string(tcp->local_endpoint().port());
}

void Listener::Impl::load_certificate() {
  const ListenerOptions& options = hub.options;
  if (options.certificate.empty() && options.key.empty()) return;
  if (options.certificate.empty() || options.key.empty())
    fail(ErrorKind::kUsage, "--tls-cert", "a certificate and its key are given together");
  ErrorCode error;
  tls.emplace(asio::ssl::context::tls_server);
  tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
  tls->use_certificate_chain_file(options.certificate, error);
  if (error) fail(ErrorKind::kUsage, options.certificate, "is no certificate in PEM form: {}", error.message());
  tls->use_private_key_file(options.key, asio::ssl::context::pem, error);
  if (error) fail(ErrorKind::kUsage, options.key, "is no key in PEM form, or not this certificate's: {}", error.message());
}

template <typename Acceptor>
void Listener::Impl::accept(Acceptor& acceptor) {
  using Peer = typename Acceptor::protocol_type::socket;
  acceptor.async_accept([this, &acceptor](ErrorCode error, Peer peer) {
    if (error == asio::error::operation_aborted || !acceptor.is_open()) return;
    if (error) {  // no descriptors left, most likely: some come free
      pause.expires_after(std::chrono::milliseconds(100));
      pause.async_wait([this, &acceptor](ErrorCode stopped) {
        if (!stopped && acceptor.is_open()) accept(acceptor);
      });
      return;
    }
    std::string name = "unix";
    ErrorCode unset;
    if constexpr (std::is_same_v<Acceptor, asio::ip::tcp::acceptor>) {
      name = peer.remote_endpoint(unset).address().to_string();
      peer.set_option(asio::ip::tcp::no_delay(true), unset);
    }
    peer.set_option(asio::socket_base::send_buffer_size(kSendBuffer), unset);
    if (hub.count < hub.options.most_connections) serve(Socket(std::move(peer)), name);
    accept(acceptor);
  });
}

void Listener::Impl::serve(Socket socket, const std::string& peer) {
  if (tls) {
    using Tls = asio::ssl::stream<Socket>;
    std::make_shared<Connection<Tls>>(hub, Tls(std::move(socket), *tls), peer)->start();
  } else {
    std::make_shared<Connection<Socket>>(hub, std::move(socket), peer)->start();
  }
}

void Listener::Impl::close_all() {
  const std::vector<AnyConnection*> open(hub.open.begin(), hub.open.end());
  for (AnyConnection* connection : open) connection->close();
}

Listener::Listener(const ListenerOptions& options, ListenerEvents events) : impl_(std::make_unique<Impl>()) {
  impl_->hub.options = options;
  impl_->hub.events = std::move(events);
  impl_->load_certificate();
  options.unix_path.empty() ? impl_->listen_tcp() : impl_->listen_local();
}

Listener::~Listener() { stop(); }

void Listener::start() {
  if (impl_->tcp) impl_->accept(*impl_->tcp);
  if (impl_->local) impl_->accept(*impl_->local);
  impl_->thread = std::thread([this] { impl_->hub.io.run(); });
}

void Listener::drain() {
  asio::post(impl_->hub.io, [impl = impl_.get()] {
    ErrorCode ignored;
    impl->hub.draining = true;
    if (impl->tcp) impl->tcp->close(ignored);
    if (impl->local) impl->local->close(ignored);
    impl->pause.cancel();
    const std::vector<AnyConnection*> open(impl->hub.open.begin(), impl->hub.open.end());
    for (AnyConnection* connection : open) connection->drain();
  });
}

void Listener::stop() {
  if (!impl_->thread.joinable()) return;
  drain();
  asio::post(impl_->hub.io, [impl = impl_.get()] {
    impl->close_all();
    impl->hub.io.stop();
  });
  impl_->thread.join();
  if (!impl_->hub.options.unix_path.empty()) ::unlink(impl_->hub.options.unix_path.c_str());
}

std::size_t Listener::connections() const { return impl_->hub.count; }
std::string Listener::url() const { return impl_->url; }

}  // namespace puna
