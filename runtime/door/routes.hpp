#pragma once
// What the HTTP door does with a request: pages are answered at once, inference becomes a call.

#include <functional>
#include <memory>
#include <string>

#include "messages/call.hpp"
#include "runtime/door/backend.hpp"
#include "runtime/door/caller.hpp"
#include "runtime/door/calls.hpp"
#include "runtime/http/exchange.hpp"
#include "runtime/http/health.hpp"

namespace troupe::batches {
class service;
}

namespace troupe::observe {
class request_log;
class tracer;
}  // namespace troupe::observe

namespace troupe::serving {

struct route_options {
  door_options_ptr calls;
  std::function<http::health_state()> health;
  std::function<http::response(std::string_view accept)> metrics;
  std::string version;       ///< of this program
  std::string version_json;  ///< body of /version
  /// Asked about every request; null: nobody is.
  std::shared_ptr<const caller_rules> guard;
  batches::service* batches = nullptr;                        ///< null: there are none; must live as long
  std::string batch_class;                                    ///< of their lines
  std::shared_ptr<const observe::tracer> tracer = nullptr;    ///< null: nothing is traced
  std::shared_ptr<const observe::request_log> log = nullptr;  ///< null: no request has a line of its own
};

class routes {
 public:
  /// `of` must live as long.
  routes(route_options options, backend& of);
  /// Ends what is still being loaded for a caller: 503.
  ~routes();
  routes(const routes&) = delete;
  routes& operator=(const routes&) = delete;

  /// Any thread. Null: the exchange has its reply, or will get it.
  [[nodiscard]] std::unique_ptr<call> take(http::exchange_ptr e);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::serving
