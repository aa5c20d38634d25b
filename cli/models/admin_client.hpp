#pragma once
// What the `troupe models` commands share: a running node's /admin/models.

#include <string>

#include "cli/commands.hpp"

namespace troupe::cli {

class admin_client {
 public:
  /// Throws usage_error when there is no token.
  explicit admin_client(const models_options& o);

  /// http://host:port
  [[nodiscard]] const std::string& url() const { return url_; }
  /// The body. Throws std::runtime_error with the node's own words for anything but success.
  [[nodiscard]] std::string get(const std::string& path) const { return call("GET", path, {}); }
  [[nodiscard]] std::string post(const std::string& path, const std::string& body) const {
    return call("POST", path, body);
  }
  [[nodiscard]] std::string remove(const std::string& path) const { return call("DELETE", path, {}); }
  /// GET without the token, whatever the status. Throws std::runtime_error when no answer comes in time.
  [[nodiscard]] http_answer plain(const std::string& path, int patience_s) const {
    return http_call("GET", url_ + path, {}, {}, patience_s);
  }
  /// POST /admin/models/<verb> for the options' model and version; prints what came of it. An exit status.
  int command(const std::string& verb, const models_options& o) const;

 private:
  [[nodiscard]] std::string call(const std::string& method, const std::string& path,
                                 const std::string& body) const;

  std::string url_;
  std::string token_;
  std::string token_from_;  // for errors
};

}  // namespace troupe::cli
