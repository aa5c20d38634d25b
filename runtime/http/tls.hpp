#pragma once
// TLS of the front, by OpenSSL, on sockets that never block.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/http/front.hpp"

namespace troupe::http {

/// Certificate, key and what clients must show: TLS 1.2 and later, ALPN http/1.1.
class tls_context {
 public:
  /// `section` is the option's, for errors: http. Throws std::runtime_error (one line).
  tls_context(const tls_files& files, const std::string& section);
  ~tls_context();
  tls_context(const tls_context&) = delete;
  tls_context& operator=(const tls_context&) = delete;

 private:
  friend class tls_session;
  struct impl;
  std::unique_ptr<impl> impl_;
};

enum class tls_state { done, again, closed, failed };

class tls_session {
 public:
  /// `socket` stays the caller's. The context may go before the session.
  tls_session(const tls_context& context, int socket);
  ~tls_session();
  tls_session(const tls_session&) = delete;
  tls_session& operator=(const tls_session&) = delete;

  struct transfer {
    tls_state state = tls_state::again;
    std::size_t bytes = 0;
  };
  [[nodiscard]] tls_state handshake();
  [[nodiscard]] transfer read(char* to, std::size_t most);
  [[nodiscard]] transfer write(const char* from, std::size_t n);
  /// Says to the peer that nothing follows.
  void finish();
  /// The subject of the client's certificate, as RFC 2253 writes it; empty: it showed none.
  [[nodiscard]] std::string subject() const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::http
