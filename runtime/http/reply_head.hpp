#pragma once
// A reply's header as it goes out.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/http/message.hpp"

namespace troupe::http {

struct reply_line {
  std::size_t length = 0;  ///< of the body, also when it is not sent (HEAD)
  bool keep_alive = true;
  bool http_10 = false;             ///< the client's version: keep-alive is said, not implied
  std::string_view date;            ///< IMF-fixdate
  std::string_view correlation_id;  ///< empty: not said
  std::string_view encoding;        ///< Content-Encoding; empty: none
};

/// The status line and the fields, without the empty line at the end, to the end of `to`. A field with a line
/// break or a zero in it is left out.
void write_reply_head(const response& what, const reply_line& line, std::string& to);

/// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7)
[[nodiscard]] std::string http_date(std::int64_t unix_seconds);

}  // namespace troupe::http
