#pragma once
// The HTTP/1.1 server of the inference door: a few threads, each with its own connections and its own event
// loop; a request may be answered later and from another thread.
//
// Requests that one turn of a loop has read are handed over one by one with `take`, then `turn_over` says
// that the turn has ended, so that what came together can travel together. Replies from other threads are
// gathered in the same way: one wake-up for as many as there are.
//
// What it answers by itself: 400 malformed, 408 too slow, 413 body too large (also once decompressed), 415
// unknown Content-Encoding, 417 unknown Expect, 431 header (or trailers) too large, 503 too many connections
// or bodies, or an exchange that was dropped or whose handler threw, 504 no reply within the reply timeout,
// and CORS preflights. All but the preflights, 503 for a dropped exchange and 504 end the connection.
//
// Requests of a connection are answered in their order: the next is read when the reply before it is out. A
// connection that idles has no buffer, a few hundred bytes in all; max_connections needs as many file
// descriptors.

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/http/bind.hpp"
#include "runtime/http/exchange.hpp"

namespace troupe::http {

struct tls_files {
  std::string certificate;  ///< PEM, with its chain; empty: no TLS
  std::string key;          ///< PEM
  std::string client_ca;    ///< PEM; empty: clients need no certificate
  bool client_required = false;
};

/// The timeouts are checked four times a second.
struct front_options {
  std::string bind = "0.0.0.0";  ///< an IPv4 or IPv6 address
  int port = 0;                  ///< 0: any free one
  std::string name = "port";     ///< the option that set it, for errors: http.port
  std::size_t threads = 1;
  std::size_t max_header = std::size_t{16} << 10;
  std::size_t max_body = std::size_t{10} << 20;      ///< as sent, and without its Content-Encoding
  std::size_t max_connections = 10'000;              ///< of all threads
  std::size_t max_buffered = std::size_t{64} << 20;  ///< bodies being read, of all threads: beyond it 503
  std::chrono::milliseconds read_timeout{10'000};    ///< from a request's first byte to its last; a handshake
  std::chrono::milliseconds idle_timeout{60'000};    ///< between requests
  std::chrono::milliseconds reply_timeout{60'000};   ///< to its reply: 504; and again to send that
  std::chrono::milliseconds last_words{1'000};       ///< instead of idle_timeout once drain() was called
  std::vector<std::string> cors_origins;             ///< "*": any; none: CORS is off
  /// Replies of more than 1 KiB as gzip or deflate for those who accept it.
  bool compress_replies = false;
  /// What a body over max_body may do on one path: follows the reason there. Empty: nothing.
  std::pair<std::string, std::string> larger_body;
  tls_files tls;
};

class front {
 public:
  using taker = std::function<void(std::size_t thread, exchange_ptr)>;
  using ender = std::function<void(std::size_t thread)>;

  /// Listens, and serves once start() was called. Throws bind_error; std::runtime_error for TLS files that
  /// can't be used (one line: the option, the file, the remedy; http.port makes the options http.tls_cert,
  /// http.tls_key and http.tls_client_ca).
  explicit front(const front_options& options);
  ~front();
  front(const front&) = delete;
  front& operator=(const front&) = delete;

  /// `take` and `turn_over` run on the threads, 0 to threads - 1, and must be short.
  void start(taker take, ender turn_over);

  [[nodiscard]] int port() const;
  [[nodiscard]] std::size_t connections() const;
  /// Reads certificate and key again; connections that are open keep theirs. Empty: done; else why not, and
  /// the old ones stay.
  [[nodiscard]] std::string reload_tls();
  /// No new connections, and those that are open end after the request they are in (Connection: close); those
  /// in none have last_words to begin one.
  void drain();
  /// Closes everything and ends the threads; not from `take`. Idempotent.
  void stop();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::http
