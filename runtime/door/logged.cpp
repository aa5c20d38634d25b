#include "runtime/door/logged.hpp"

#include <chrono>
#include <utility>

#include "runtime/door/paths.hpp"
#include "runtime/observe/trace.hpp"

namespace troupe::serving {

logged_exchange::logged_exchange(std::shared_ptr<const observe::request_log> by, http::exchange_ptr inner,
                                 std::string_view route)
    : by_(std::move(by)), inner_(std::move(inner)), route_(route) {}

logged_exchange::~logged_exchange() {
  if (!replied_) tell(503);
}

void logged_exchange::reply(http::response&& what) {
  replied_ = true;
  tell(what.status);
  inner_->reply(std::move(what));
}

void logged_exchange::tell(int status) const {
  const http::request_view& r = inner_->request();
  const nanos took =
      std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1) - r.arrived;
  if (!by_->wants(status >= 500, took)) return;
  const std::string number = std::to_string(status);
  const std::string route = route_.data() == nullptr ? std::string() : template_of(route_);
  const auto trace = inner_->trace();
  observe::answered_request one;
  one.door = "http";
  one.method = r.method;
  one.route = route;
  if (r.path != route) one.path = r.path;
  one.status = number;
  one.failed = status >= 500;
  one.refused = status >= 400;
  one.gone = inner_->gone();
  one.took = took;
  one.client = r.client;
  one.key = key_;
  one.request_id = r.correlation_id;
  if (trace) one.trace_id = trace->id();
  by_->tell(one);
}

}  // namespace troupe::serving
