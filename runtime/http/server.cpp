#include "runtime/http/server.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>

namespace troupe::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using tcp = asio::ip::tcp;
using error_code = boost::system::error_code;

template <class View>
std::string text_of(const View& v) {
  return {v.data(), v.size()};
}

/// GET and HEAD are one for routing.
std::string_view routed(std::string_view method) {
  return method == "HEAD" ? "GET" : method;
}

[[nodiscard]] bool leads_to(std::string_view route, std::string_view path) {
  if (!route.ends_with("/*")) return route == path;
  route.remove_suffix(1);
  return path.size() > route.size() && path.starts_with(route);
}

class router {
 public:
  explicit router(std::vector<route> routes) : routes_(std::move(routes)) {}

  [[nodiscard]] response answer(const request& r) const {
    std::set<std::string> allowed;
    for (const auto& one : routes_) {
      if (!leads_to(one.path, r.path)) continue;
      if (one.method == routed(r.method)) return call(one, r);
      allowed.insert(one.method);
      if (one.method == "GET") allowed.insert("HEAD");
    }
    if (allowed.empty()) return error_response(404, "no such path: " + r.path);
    response refused = error_response(405, r.method + " is not allowed on " + r.path);
    std::string list;
    for (const auto& m : allowed) list += (list.empty() ? "" : ", ") + m;
    refused.headers.emplace_back("Allow", list);
    return refused;
  }

 private:
  static response call(const route& to, const request& r) {
    try {
      return to.handler(r);
    } catch (const std::exception& e) {
      return error_response(500, e.what());
    }
  }

  std::vector<route> routes_;
};

}  // namespace

struct server::impl {
  class session;

  impl(const server_options& o, std::vector<route> r)
      : options(o), routes(std::move(r)), acceptor(io), pause(io) {}

  void listen();
  void accept();
  void serve(tcp::socket socket);

  server_options options;
  router routes;
  asio::io_context io{1};
  tcp::acceptor acceptor;
  asio::steady_timer pause;
  std::set<std::shared_ptr<session>> sessions;  // on the thread only
  int port = 0;
  std::thread thread;
};

/// One connection: read a request, answer it, and again.
class server::impl::session : public std::enable_shared_from_this<session> {
 public:
  session(impl& owner, tcp::socket socket)
      : owner_(owner), stream_(std::move(socket)), buffer_(owner.options.max_header + read_ahead) {}

  void start() { wait_for_request(); }
  void refuse() { send(error_response(503, "too many connections"), false); }
  void close() {
    error_code ignored;
    stream_.socket().close(ignored);
  }

 private:
  static constexpr std::size_t read_ahead = 64 * 1024;

  /// The idle timeout holds until the first byte, the request timeout from there on.
  void wait_for_request() {
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(owner_.options.max_header));
    parser_->body_limit(owner_.options.max_body);
    if (buffer_.size() > 0) {
      read();
      return;
    }
    stream_.expires_after(owner_.options.idle_timeout);
    stream_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](error_code e, std::size_t n) {
      if (e) return self->end();
      self->buffer_.commit(n);
      self->read();
    });
  }

  void read() {
    stream_.expires_after(owner_.options.request_timeout);
    wire::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](error_code e, std::size_t) {
      if (!e) return self->answer();
      if (e == wire::error::header_limit || e == wire::error::buffer_overflow)
        return self->send(error_response(431, "the request's header is too large"), false);
      if (e == wire::error::body_limit)
        return self->send(error_response(413, "the request's body is too large"), false);
      if (e.category() == wire::make_error_code(wire::error::bad_method).category() &&
          e != wire::error::end_of_stream && e != wire::error::partial_message)
        return self->send(error_response(400, "malformed request: " + e.message()), false);
      self->end();  // gone, or too slow
    });
  }

  void answer() {
    auto message = parser_->release();
    request r;
    r.method = text_of(message.method_string());
    const std::string target = text_of(message.target());
    const auto mark = target.find('?');
    r.path = target.substr(0, mark);
    if (mark != std::string::npos) r.query = target.substr(mark + 1);
    for (const auto& field : message)
      r.headers.emplace_back(text_of(field.name_string()), text_of(field.value()));
    r.body = std::move(message.body());
    head_ = r.method == "HEAD";
    send(owner_.routes.answer(r), message.keep_alive());
  }

  void send(response r, bool keep_alive) {
    out_ = {};
    out_.version(11);
    out_.result(static_cast<unsigned>(r.status));
    out_.set(wire::field::server, "troupe");
    if (!r.content_type.empty()) out_.set(wire::field::content_type, r.content_type);
    for (const auto& [name, value] : r.headers) out_.insert(name, value);
    out_.keep_alive(keep_alive);
    const std::size_t length = r.body.size();
    if (!head_) out_.body() = std::move(r.body);
    out_.content_length(length);
    serializer_.emplace(out_);
    stream_.expires_after(owner_.options.request_timeout);
    auto sent = [self = shared_from_this(), keep_alive](error_code e, std::size_t) {
      if (e && e != wire::error::end_of_stream) return self->end();
      self->head_ = false;
      if (keep_alive) return self->wait_for_request();
      self->linger();
    };
    if (head_)
      wire::async_write_header(stream_, *serializer_, std::move(sent));
    else
      wire::async_write(stream_, *serializer_, std::move(sent));
  }

  /// Closing a socket with unread data resets the connection, and the response may be lost with it: what
  /// still comes is thrown away for a moment.
  void linger() {
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(std::chrono::seconds(1));
    discard();
  }

  void discard() {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](error_code e, std::size_t) {
      if (e) return self->end();
      self->discard();
    });
  }

  void end() {
    close();
    owner_.sessions.erase(shared_from_this());
  }

  impl& owner_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<wire::request_parser<wire::string_body>> parser_;
  wire::response<wire::string_body> out_;
  std::optional<wire::response_serializer<wire::string_body>> serializer_;
  bool head_ = false;
};

void server::impl::listen() {
  const bind_address where{options.bind, options.port, options.name};
  error_code error;
  const auto address = asio::ip::make_address(options.bind, error);
  if (error) throw not_an_address(where);
  const tcp::endpoint endpoint(address, static_cast<unsigned short>(options.port));
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (!error) {
    port = acceptor.local_endpoint().port();
    return;
  }
  throw bind_failed(where, error.value());
}

void server::impl::accept() {
  acceptor.async_accept([this](error_code error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) {  // out of file descriptors, mostly: later there may be some
      pause.expires_after(std::chrono::milliseconds(100));
      pause.async_wait([this](error_code stopped) {
        if (!stopped) accept();
      });
      return;
    }
    serve(std::move(socket));
    accept();
  });
}

void server::impl::serve(tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  const bool full = sessions.size() >= options.max_connections;
  // Refused ones linger for a moment; beyond twice the limit there is not even an answer.
  if (sessions.size() >= 2 * options.max_connections) return;
  auto one = std::make_shared<session>(*this, std::move(socket));
  sessions.insert(one);
  if (full)
    one->refuse();
  else
    one->start();
}

server::server(const server_options& options, std::vector<route> routes)
    : impl_(std::make_unique<impl>(options, std::move(routes))) {
  impl_->listen();
  impl_->accept();
  impl_->thread = std::thread([this] { impl_->io.run(); });
}

server::~server() {
  stop();
}

int server::port() const {
  return impl_->port;
}

void server::stop() {
  if (!impl_->thread.joinable()) return;
  asio::post(impl_->io, [this] {
    error_code ignored;
    impl_->acceptor.close(ignored);
    impl_->pause.cancel();
    for (const auto& one : impl_->sessions) one->close();
    impl_->io.stop();
  });
  impl_->thread.join();
}

}  // namespace troupe::http
