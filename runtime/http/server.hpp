#pragma once
// A small HTTP/1.1 server for the node's own port: one thread, keep-alive, pipelining one after another.
// Handlers run on that thread, so they must be short; one that throws answers 500.
//
// What it answers by itself: 400 malformed, 404 no such path, 405 (with Allow) no such method, 413 body too
// large, 431 header too large, 503 too many connections. HEAD is answered by the handler of GET. A client
// that is slower than the timeouts is disconnected.

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "runtime/http/bind.hpp"
#include "runtime/http/message.hpp"

namespace troupe::http {

struct route {
  std::string method;
  std::string path;  ///< exact; one that ends in /* stands for all below it
  http::handler handler;
};

struct server_options {
  std::string bind = "0.0.0.0";  ///< an IPv4 or IPv6 address
  int port = 0;                  ///< 0: any free one
  std::string name = "port";     ///< the option that set it, for errors: metrics.port
  std::size_t max_header = std::size_t{16} << 10;
  std::size_t max_body = std::size_t{1} << 20;
  std::size_t max_connections = 256;
  std::chrono::milliseconds request_timeout{
      10'000};  ///< from its first byte to the end of a request; also to send
  std::chrono::milliseconds idle_timeout{60'000};  ///< between requests
};

class server {
 public:
  /// Listens and serves. Throws bind_error.
  server(const server_options& options, std::vector<route> routes);
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  [[nodiscard]] int port() const;
  /// Closes all connections and ends the thread; not from a handler. Idempotent.
  void stop();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::http
