#include "runtime/traffic/http_run.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>
#include <stdexcept>

#include "runtime/traffic/http_reply.hpp"

namespace troupe::traffic {
namespace {

using clock_type = std::chrono::steady_clock;

constexpr std::int64_t connect_limit = 10'000'000;
constexpr std::int64_t backoff = 100'000;
constexpr std::int64_t most_pause = 20'000;

std::int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(clock_type::now().time_since_epoch()).count();
}

std::string openssl_reason() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* text = code ? ERR_reason_error_string(code) : nullptr;
  return text ? text : "the peer ended the handshake";
}

struct ssl_context_free {
  void operator()(SSL_CTX* c) const { SSL_CTX_free(c); }
};
struct ssl_free {
  void operator()(SSL* s) const { SSL_free(s); }
};

std::unique_ptr<SSL_CTX, ssl_context_free> client_context(const tls_files& files) {
  std::unique_ptr<SSL_CTX, ssl_context_free> c(SSL_CTX_new(TLS_client_method()));
  if (!c) throw std::runtime_error("TLS: " + openssl_reason());
  SSL_CTX_set_min_proto_version(c.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(c.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(c.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (files.ca.empty())
    SSL_CTX_set_default_verify_paths(c.get());
  else if (SSL_CTX_load_verify_locations(c.get(), files.ca.c_str(), nullptr) != 1)
    throw std::runtime_error(files.ca + ": no certificates that can be read: " + openssl_reason());
  if (!files.certificate.empty()) {
    if (SSL_CTX_use_certificate_chain_file(c.get(), files.certificate.c_str()) != 1)
      throw std::runtime_error(files.certificate + ": no certificate that can be read: " + openssl_reason());
    if (SSL_CTX_use_PrivateKey_file(c.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(c.get()) != 1)
      throw std::runtime_error(files.key + ": not the key of " + files.certificate + ": " + openssl_reason());
  }
  return c;
}

struct connection {
  enum class at { closed, connecting, shaking, open };
  ~connection() { shut(); }
  connection() = default;
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;
  void shut() {
    tls.reset();
    if (socket >= 0) ::close(socket);
    socket = -1;
    state = at::closed;
  }

  at state = at::closed;
  int socket = -1;
  std::unique_ptr<SSL, ssl_free> tls;
  bool busy = false;            // has a request
  bool used = false;            // has answered one
  std::int64_t not_before = 0;  // of the next attempt to connect
  std::int64_t connecting_since = 0;
  std::size_t request = 0;
  std::size_t sent = 0;
  std::int64_t due = 0;
  http_reply reply;
};

class http_load {
 public:
  http_load(const http_target& to, const std::vector<std::string>& requests, const plan& p,
            const observer& who)
      : to_(to),
        requests_(requests),
        plan_(p),
        who_(who),
        tally_(p),
        pacer_(p),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll_ < 0) throw std::runtime_error("epoll: " + std::string(std::strerror(errno)));
    if (to.tls) context_ = client_context(to.files);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(to.host.c_str(), to.port.c_str(), &hints, &found); error != 0)
      throw std::runtime_error(where() + ": " + ::gai_strerror(error));
    addresses_.reset(found);
    address_ = found;
    ::prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);  // requests go out when they are due
  }
  ~http_load() { ::close(epoll_); }
  http_load(const http_load&) = delete;
  http_load& operator=(const http_load&) = delete;

  report run() {
    connect_all();
    if (stopping()) return tally_.finish(true);
    begin_ = now_us();
    const auto warm = static_cast<std::int64_t>(plan_.warmup * 1e6);
    const auto patience = static_cast<std::int64_t>(plan_.wait_for * 1e6);
    bool measuring = false;
    std::int64_t shown = 0;
    for (;;) {
      const std::int64_t now = elapsed();
      if (!measuring && now >= warm) {
        measuring = true;
        if (who_.on_measuring) who_.on_measuring();
      }
      if (who_.on_progress && now - shown >= 200'000) {
        shown = now;
        who_.on_progress({tally_.all_sent(), tally_.all_answered(), static_cast<double>(now) / 1e6});
      }
      const std::int64_t most = pacer_.allowed(now, next_, stopping());
      send_what_may(now, most);
      if (pacer_.ended() && next_ >= most && tally_.out() == 0) break;
      if ((tally_.out() > 0 || next_ < most) &&
          now - std::max(tally_.last_answer(), idle_since_) > patience) {
        give_up(most);
        break;
      }
      wait(now, most);
    }
    return tally_.finish(stopping());
  }

 private:
  [[nodiscard]] std::string where() const { return to_.host + ":" + to_.port; }
  [[nodiscard]] std::int64_t elapsed() const { return now_us() - begin_; }
  [[nodiscard]] bool stopping() const { return who_.stop && *who_.stop; }

  /// Every connection stands, or the run does not begin.
  void connect_all() {
    for (int i = 0; i < plan_.connections; ++i) {
      connections_.push_back(std::make_unique<connection>());
      idle_.push_back(connections_.back().get());
    }
    for (const addrinfo* a = addresses_.get(); a; a = a->ai_next) {  // the first address that works
      address_ = a;
      failure_.clear();
      connection probe;
      dial(probe);
      await(probe);
      if (probe.state == connection::at::open) break;
    }
    if (!failure_.empty()) throw std::runtime_error(where() + ": " + failure_);
    for (const auto& c : connections_) {
      dial(*c);
      await(*c);
      if (!failure_.empty()) throw std::runtime_error(where() + ": " + failure_);
      if (stopping()) return;
    }
  }

  void await(connection& c) {
    const std::int64_t until = now_us() + connect_limit;
    while (failure_.empty() && c.state != connection::at::open && c.state != connection::at::closed) {
      if (now_us() > until) failure_ = "no answer";
      if (stopping()) return;
      poll(50'000);
    }
    if (failure_.empty() && c.state == connection::at::closed && !stopping()) failure_ = "closed at once";
  }

  /// Begins to connect; a failure is told by fail().
  void dial(connection& c) {
    c.used = false;
    c.connecting_since = now_us();
    c.socket = ::socket(address_->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c.socket < 0) return fail(c, "connection_refused", std::strerror(errno));
    const int on = 1;
    ::setsockopt(c.socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c.state = connection::at::connecting;
    if (::connect(c.socket, address_->ai_addr, address_->ai_addrlen) != 0 && errno != EINPROGRESS)
      return fail(c, "connection_refused", std::strerror(errno));
    epoll_event e{};
    e.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    e.data.ptr = &c;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, c.socket, &e) != 0)
      fail(c, "connection_refused", std::strerror(errno));
  }

  /// The connection is gone, and its request with it.
  void fail(connection& c, const char* code, const std::string& why) {
    const bool busy = c.busy;
    const bool never_stood = c.state != connection::at::open;
    c.shut();
    if (begin_ == 0) {
      failure_ = why;
      return;
    }
    if (!busy) {
      if (never_stood) c.not_before = now_us() + backoff;
      return;  // an idle connection that the server closed: made again when needed
    }
    c.busy = false;
    c.not_before = never_stood || !c.used ? now_us() + backoff : 0;
    tally_.failed(c.due, elapsed(), code, why);
    idle_.push_back(&c);
  }

  /// Every idle connection gets at most one request, so that answers are read in between.
  void send_what_may(std::int64_t now, std::int64_t most) {
    for (std::size_t tries = idle_.size(); tries > 0 && next_ < most; --tries) {
      connection* c = idle_.back();
      idle_.pop_back();
      if (may_send(*c, now))
        begin(*c);
      else
        idle_.push_front(c);
    }
  }

  /// One that was refused rests for a moment.
  [[nodiscard]] bool may_send(const connection& c, std::int64_t now) const {
    return c.state != connection::at::closed || c.not_before <= begin_ + now;
  }

  void begin(connection& c) {
    const std::int64_t now = elapsed();
    c.busy = true;
    c.request = static_cast<std::size_t>(next_) % requests_.size();
    c.due = pacer_.due(next_, now);
    ++next_;
    c.sent = 0;
    c.reply.reset();
    if (tally_.out() == 0) idle_since_ = now;
    tally_.sent(c.due);
    if (c.state == connection::at::closed) return dial(c);
    push(c);
  }

  enum class io { done, again, failed };

  /// Sends what is left of the request.
  io push(connection& c) {
    const std::string& r = requests_[c.request];
    while (c.sent < r.size()) {
      std::size_t n = 0;
      if (c.tls) {
        ERR_clear_error();
        if (SSL_write_ex(c.tls.get(), r.data() + c.sent, r.size() - c.sent, &n) != 1) {
          const int why = SSL_get_error(c.tls.get(), 0);
          if (why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ) return io::again;
          fail(c, "connection_closed", "the connection was closed while a request was sent");
          return io::failed;
        }
      } else {
        const auto sent = ::send(c.socket, r.data() + c.sent, r.size() - c.sent, MSG_NOSIGNAL);
        if (sent < 0) {
          if (errno == EAGAIN || errno == EINTR) return io::again;
          fail(c, "connection_closed", std::strerror(errno));
          return io::failed;
        }
        n = static_cast<std::size_t>(sent);
      }
      c.sent += n;
    }
    return io::done;
  }

  void ready(connection& c) {
    if (c.state == connection::at::connecting) {
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(c.socket, SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) return fail(c, "connection_refused", std::strerror(error));
      sockaddr_storage peer{};
      socklen_t length = sizeof peer;
      if (::getpeername(c.socket, reinterpret_cast<sockaddr*>(&peer), &length) != 0) return;  // not yet
      c.state = connection::at::open;
      if (context_) begin_tls(c);
    }
    if (c.state == connection::at::shaking) {
      ERR_clear_error();
      const int done = SSL_do_handshake(c.tls.get());
      if (done != 1) {
        const int why = SSL_get_error(c.tls.get(), done);
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return;
        const long verified = SSL_get_verify_result(c.tls.get());
        return fail(c, "tls",
                    "TLS: " + (verified != X509_V_OK ? std::string(X509_verify_cert_error_string(verified))
                                                     : openssl_reason()));
      }
      c.state = connection::at::open;
    }
    if (c.state != connection::at::open) return;
    if (c.busy && c.sent < requests_[c.request].size() && push(c) == io::failed) return;
    read(c);
  }

  void begin_tls(connection& c) {
    c.tls.reset(SSL_new(context_.get()));
    SSL_set_fd(c.tls.get(), c.socket);
    SSL_set_connect_state(c.tls.get());
    in6_addr address{};
    const bool is_address = ::inet_pton(AF_INET, to_.host.c_str(), &address) == 1 ||
                            ::inet_pton(AF_INET6, to_.host.c_str(), &address) == 1;
    if (is_address) {
      X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c.tls.get()), to_.host.c_str());
    } else {
      SSL_set_tlsext_host_name(c.tls.get(), to_.host.c_str());
      SSL_set1_host(c.tls.get(), to_.host.c_str());
    }
    c.state = connection::at::shaking;
  }

  void read(connection& c) {
    for (;;) {
      std::size_t n = 0;
      bool closed = false;
      bool short_read = false;
      if (c.tls) {
        ERR_clear_error();
        if (SSL_read_ex(c.tls.get(), bytes_.data(), bytes_.size(), &n) != 1) {
          const int why = SSL_get_error(c.tls.get(), 0);
          if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return;
          closed = true;
        }
      } else {
        const auto got = ::recv(c.socket, bytes_.data(), bytes_.size(), 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        closed = got <= 0;
        n = closed ? 0 : static_cast<std::size_t>(got);
        short_read = n < bytes_.size();
      }
      if (closed) {
        if (c.busy && c.reply.end() == http_reply::state::whole) return answered(c);
        return fail(c, "connection_closed",
                    c.reply.begun() ? "the connection was closed within a reply"
                                    : "the connection was closed before a reply");
      }
      if (!c.busy) return fail(c, "bad_reply", "bytes that no request asked for");
      switch (c.reply.take({bytes_.data(), n})) {
        case http_reply::state::bad:
          return fail(c, "bad_reply", "not an HTTP/1.1 reply");
        case http_reply::state::whole:
          return answered(c);
        case http_reply::state::more:
          break;
      }
      if (short_read) return;
    }
  }

  void answered(connection& c) {
    const std::int64_t now = elapsed();
    const int status = c.reply.status();
    if (status >= 200 && status < 300) {
      tally_.predicted(c.due, now);
    } else {
      tally_.failed(c.due, now, std::to_string(status), c.reply.body());
    }
    c.busy = false;
    c.used = true;
    if (c.reply.closes()) c.shut();
    idle_.push_back(&c);
  }

  /// Nobody has answered for too long.
  void give_up(std::int64_t most) {
    for (const auto& c : connections_) {
      if (!c->busy) continue;
      c->busy = false;
      tally_.lost(c->due);
    }
    for (; pacer_.open_loop() && next_ < most; ++next_) {
      tally_.sent(pacer_.due(next_, 0));
      tally_.lost(pacer_.due(next_, 0));
    }
  }

  void wait(std::int64_t now, std::int64_t most) {
    const bool can_send =
        std::any_of(idle_.begin(), idle_.end(), [&](const connection* c) { return may_send(*c, now); });
    if (can_send && next_ < most) return poll(0);
    poll(can_send ? pacer_.pause(next_, elapsed(), most_pause) : most_pause);
  }

  void poll(std::int64_t pause) {
    std::array<epoll_event, 256> events{};
    const timespec limit{pause / 1'000'000, pause % 1'000'000 * 1000};
    const int n =
        have_pwait2_ ? ::epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &limit, nullptr)
                     : ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()),
                                    static_cast<int>(pause / 1000));
    if (n < 0 && errno == ENOSYS) have_pwait2_ = false;
    for (int i = 0; i < n; ++i) {
      auto& c = *static_cast<connection*>(events[static_cast<std::size_t>(i)].data.ptr);
      if (c.socket >= 0) ready(c);
    }
  }

  struct addresses_free {
    void operator()(addrinfo* a) const { ::freeaddrinfo(a); }
  };

  const http_target& to_;
  const std::vector<std::string>& requests_;
  const plan& plan_;
  const observer& who_;
  tally tally_;
  pacer pacer_;
  int epoll_;
  std::unique_ptr<SSL_CTX, ssl_context_free> context_;
  std::unique_ptr<addrinfo, addresses_free> addresses_;
  const addrinfo* address_ = nullptr;
  std::vector<std::unique_ptr<connection>> connections_;
  std::deque<connection*> idle_;
  std::array<char, 65536> bytes_{};
  std::int64_t begin_ = 0;  // 0: still connecting
  std::int64_t next_ = 0;   // the next request's number
  std::int64_t idle_since_ = 0;
  bool have_pwait2_ = true;
  std::string failure_;
};

}  // namespace

http_target read_url(const std::string& url) {
  http_target to;
  std::string_view rest = url;
  if (rest.starts_with("https://")) {
    to.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    throw std::invalid_argument(url + ": expected http://host:port or https://host:port");
  }
  const auto slash = std::min(rest.find('/'), rest.size());
  if (slash < rest.size()) to.path = rest.substr(slash);
  std::string_view authority = rest.substr(0, slash);
  to.port = to.tls ? "443" : "80";
  const auto colon = authority.rfind(':');
  if (colon != std::string_view::npos && authority.back() != ']') {
    to.port = authority.substr(colon + 1);
    authority = authority.substr(0, colon);
  }
  if (authority.size() > 2 && authority.front() == '[' && authority.back() == ']')
    authority = authority.substr(1, authority.size() - 2);
  to.host = authority;
  int port = 0;
  const auto [end, error] = std::from_chars(to.port.data(), to.port.data() + to.port.size(), port);
  if (to.host.empty()) throw std::invalid_argument(url + ": no host");
  if (error != std::errc() || end != to.port.data() + to.port.size() || port < 1 || port > 65535)
    throw std::invalid_argument(url + ": the port must be a number from 1 to 65535");
  for (const char c : url)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f)
      throw std::invalid_argument(printable(url) + ": blanks and control characters must be percent-encoded");
  return to;
}

std::string http_request(const http_target& to, const std::string& method, const std::string& body,
                         const std::vector<std::pair<std::string, std::string>>& headers) {
  const bool bracket = to.host.find(':') != std::string::npos;
  std::string r = method + " " + to.path + " HTTP/1.1\r\nHost: " + (bracket ? "[" + to.host + "]" : to.host) +
                  ":" + to.port + "\r\n";
  if (method != "GET" || !body.empty()) r += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  for (const auto& [name, value] : headers) r += name + ": " + value + "\r\n";
  return r + "\r\n" + body;
}

report run_http(const http_target& to, const std::vector<std::string>& requests, const plan& p,
                const observer& who) {
  return http_load(to, requests, p, who).run();
}

}  // namespace troupe::traffic
