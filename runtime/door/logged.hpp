#pragma once
// HTTP requests that the log tells of (runtime/observe/request_log.hpp): an exchange that tells of its reply.

#include <memory>
#include <string>
#include <string_view>

#include "runtime/http/exchange.hpp"
#include "runtime/observe/request_log.hpp"

namespace troupe::serving {

class logged_exchange final : public http::exchange {
 public:
  /// `route`: the template of its path, empty for none.
  logged_exchange(std::shared_ptr<const observe::request_log> by, http::exchange_ptr inner,
                  std::string_view route);
  /// Without a reply it is told as the 503 that its client gets.
  ~logged_exchange() override;

  /// Whom the guard let in. Before the reply.
  void of(std::string_view key) { key_ = key; }

  [[nodiscard]] const http::request_view& request() const override { return inner_->request(); }
  [[nodiscard]] bool gone() const override { return inner_->gone(); }
  [[nodiscard]] std::shared_ptr<const observe::request_trace> trace() const override {
    return inner_->trace();
  }
  void reply(http::response&& what) override;

 private:
  void tell(int status) const;

  const std::shared_ptr<const observe::request_log> by_;
  const http::exchange_ptr inner_;
  const std::string_view route_;
  std::string key_;
  bool replied_ = false;
};

}  // namespace troupe::serving
