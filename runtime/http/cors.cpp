#include "runtime/http/cors.hpp"

#include <algorithm>

namespace troupe::http {

cors_policy::cors_policy(std::vector<std::string> origins) : origins_(std::move(origins)) {
  any_ = std::find(origins_.begin(), origins_.end(), "*") != origins_.end();
}

bool cors_policy::allows(std::string_view origin) const {
  return any_ || std::find(origins_.begin(), origins_.end(), origin) != origins_.end();
}

bool cors_policy::preflight(const request_head& r) {
  return r.method == "OPTIONS" && !r.origin.empty() && !r.preflight_method.empty();
}

response cors_policy::answer_preflight(const request_head& r) const {
  if (!allows(r.origin)) return error_response(403, "this origin is not allowed");
  response yes;
  yes.status = 204;
  yes.content_type.clear();
  yes.headers.emplace_back("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE, OPTIONS");
  if (!r.preflight_headers.empty())
    yes.headers.emplace_back("Access-Control-Allow-Headers", r.preflight_headers);
  yes.headers.emplace_back("Access-Control-Max-Age", "600");
  return yes;
}

void cors_policy::add_fields(std::string_view origin, std::string& to) const {
  if (!on()) return;
  if (!any_) to += "Vary: Origin\r\n";
  if (origin.empty() || !allows(origin)) return;
  to += "Access-Control-Allow-Origin: ";
  to += any_ ? std::string_view("*") : origin;
  to +=
      "\r\nAccess-Control-Expose-Headers: X-Correlation-ID, X-Request-ID, Retry-After, Location, "
      "Content-Range, Accept-Ranges, WWW-Authenticate, Inference-Header-Content-Length\r\n";
}

}  // namespace troupe::http
