#pragma once
// Loads an HTTP/1.1 server: one thread, one epoll, kept-alive connections, requests that are made beforehand,
// so that the generator costs the machine little.

#include <string>
#include <utility>
#include <vector>

#include "runtime/traffic/run.hpp"

namespace troupe::traffic {

struct tls_files {
  std::string ca;           ///< PEM file of authorities to trust; empty: the system's
  std::string certificate;  ///< PEM file of the client's own; empty: none
  std::string key;
};

struct http_target {
  std::string host;
  std::string port;
  std::string path = "/";
  bool tls = false;
  tls_files files;
};

/// Of http://HOST[:PORT][/PATH] or https://...; IPv6 addresses in brackets. Throws std::invalid_argument:
/// what is wrong with it, in one line.
[[nodiscard]] http_target read_url(const std::string& url);

/// What is sent, as bytes: head and body.
[[nodiscard]] std::string http_request(const http_target& to, const std::string& method,
                                       const std::string& body,
                                       const std::vector<std::pair<std::string, std::string>>& headers);

/// Sends the requests by turns. All connections are made first; throws std::runtime_error (one line) when one
/// can't be: address, reason. Later a connection that breaks fails its request and is made again.
/// Error codes are statuses other than 2xx, connection_refused, connection_closed, tls and bad_reply.
[[nodiscard]] report run_http(const http_target& to, const std::vector<std::string>& requests, const plan& p,
                              const observer& who);

}  // namespace troupe::traffic
