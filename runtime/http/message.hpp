#pragma once
// A request and its response, as handlers see them.

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/policy/time.hpp"

namespace troupe::http {

using header_list = std::vector<std::pair<std::string, std::string>>;

struct request {
  std::string method;
  std::string path;   ///< the target up to '?', as sent
  std::string query;  ///< after '?'
  header_list headers;
  std::string body;

  /// The first header of that name (case does not matter); empty if there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

struct response {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  header_list headers;
};

using handler = std::function<response(const request&)>;

/// The header that says when to come again: whole seconds, at least one.
[[nodiscard]] header_list::value_type retry_after(policy::nanos wait);

/// {"error": message}
[[nodiscard]] response error_response(int status, std::string_view message);

/// `then` behind a bearer token (RFC 6750): else 401 with WWW-Authenticate, which says whether there was none
/// or another one. The token is compared in constant time and must not be empty (std::invalid_argument).
[[nodiscard]] handler require_bearer(std::string token, handler then);

}  // namespace troupe::http
