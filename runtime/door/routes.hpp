#pragma once
// What the HTTP door does with a request: pages are answered at once, inference becomes a call.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "messages/call.hpp"
#include "runtime/door/backend.hpp"
#include "runtime/http/exchange.hpp"
#include "runtime/http/health.hpp"

namespace troupe::serving {

/// What the requests of a door have in common.
struct call_options {
  std::vector<nanos> class_targets;
  std::uint8_t default_class = 0;
  nanos queue_timeout = 30'000'000'000;  ///< expiry of a request without one of its own, after its arrival
  std::uint32_t max_rows = 10'000;
  std::size_t max_elements = 100'000;
  std::uint32_t max_explained = 100;
};

struct route_options {
  call_options calls;
  std::function<http::health_state()> health;
  std::function<std::string()> metrics;  ///< text format
};

class routes {
 public:
  /// `backend` must live as long.
  routes(route_options options, backend& of);
  ~routes();
  routes(const routes&) = delete;
  routes& operator=(const routes&) = delete;

  /// Any thread. Null: the exchange has its reply, or will get it.
  [[nodiscard]] std::unique_ptr<call> take(http::exchange_ptr e);

  /// Ends what is still being done for replies that take long; a reply follows for each.
  void stop();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::serving
