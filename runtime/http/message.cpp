#include "runtime/http/message.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "runtime/http/text.hpp"

namespace troupe::http {
std::string_view request::header(std::string_view name) const {
  for (const auto& [own, value] : headers)
    if (same_name(own, name)) return value;
  return {};
}

header_list::value_type retry_after(policy::nanos wait) {
  return {"Retry-After",
          std::to_string(std::max<policy::nanos>(1, (wait + policy::second - 1) / policy::second))};
}

response error_response(int status, std::string_view message) {
  nlohmann::ordered_json body;
  body["error"] = message;
  response r;
  r.status = status;
  r.body = body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  return r;
}

handler require_bearer(std::string token, handler then) {
  if (token.empty()) throw std::invalid_argument("require_bearer: the token is empty");
  return [token = std::move(token), then = std::move(then)](const request& r) {
    constexpr std::string_view scheme = "bearer ";
    const std::string_view given = r.header("authorization");
    const bool has_scheme = same_name(given.substr(0, scheme.size()), scheme);
    const bool ok = has_scheme && given.size() == scheme.size() + token.size() &&
                    CRYPTO_memcmp(given.data() + scheme.size(), token.data(), token.size()) == 0;
    if (ok) return then(r);
    response refused = error_response(
        401, given.empty() ? "no token was given: Authorization: Bearer <admin.token> is needed"
             : has_scheme
                 ? "the token is not the node's admin.token"
                 : "expected Authorization: Bearer <admin.token>, not another kind of authorization");
    refused.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"troupe\"");
    return refused;
  };
}

}  // namespace troupe::http
