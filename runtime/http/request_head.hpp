#pragma once
// The header of a request and the chunks of its body, read strictly: whatever two programs could read
// differently is refused (RFC 9112).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "runtime/http/byte_buffer.hpp"
#include "runtime/http/exchange.hpp"

namespace troupe::http {

/// An answer that ends the connection; status 0: none.
struct refusal {
  int status = 0;
  std::string_view why;
  explicit operator bool() const { return status != 0; }
};

/// Views into the header's bytes.
struct request_head {
  enum class framing { none, length, chunked };

  std::string_view method;
  std::string_view path;
  std::string_view query;
  framing body = framing::none;
  std::uint64_t length = 0;  ///< of framing::length
  bool keep_alive = false;
  bool http_10 = false;
  bool expect_continue = false;
  std::string_view content_encoding;
  std::string_view accept_encoding;
  std::string_view correlation_id;
  std::string_view request_id;
  std::string_view origin;
  std::string_view preflight_method;   ///< Access-Control-Request-Method
  std::string_view preflight_headers;  ///< Access-Control-Request-Headers
};

class head_parser {
 public:
  head_parser();
  ~head_parser();
  head_parser(const head_parser&) = delete;
  head_parser& operator=(const head_parser&) = delete;

  /// A whole header, with the empty line at its end. `fields` and `out` view into it.
  [[nodiscard]] refusal head(std::string_view bytes, std::vector<field_view>& fields, request_head& out);

  struct step {
    std::size_t used = 0;  ///< bytes that need not be shown again
    bool done = false;     ///< the last chunk and its trailers were read
    refusal refused;
  };
  /// After a head with framing::chunked: as much as `bytes` has, their content to the end of `to`, which
  /// grows to `most` bytes (else 413). Trailers are read and thrown away.
  [[nodiscard]] step chunks(std::string_view bytes, byte_buffer& to, std::size_t most);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::http
