#pragma once
// Cross-origin requests of browsers (the Fetch standard's CORS protocol), without credentials.

#include <string>
#include <string_view>
#include <vector>

#include "runtime/http/message.hpp"
#include "runtime/http/request_head.hpp"

namespace troupe::http {

class cors_policy {
 public:
  /// "*": any origin; none: off.
  explicit cors_policy(std::vector<std::string> origins);

  [[nodiscard]] bool on() const { return any_ || !origins_.empty(); }
  [[nodiscard]] static bool preflight(const request_head& r);
  /// 204 with what is allowed, or 403.
  [[nodiscard]] response answer_preflight(const request_head& r) const;
  /// What a reply to `origin` says, as header lines at the end of `to`.
  void add_fields(std::string_view origin, std::string& to) const;

 private:
  [[nodiscard]] bool allows(std::string_view origin) const;

  std::vector<std::string> origins_;
  bool any_ = false;
};

}  // namespace troupe::http
