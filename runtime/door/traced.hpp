#pragma once
// HTTP requests that are traced: an exchange that tells its span with its reply. The others are not touched.

#include <memory>
#include <string_view>

#include "runtime/http/exchange.hpp"
#include "runtime/observe/trace.hpp"

namespace troupe::serving {

/// Begins the trace of a request if it is to have one: null, and `e` stays. `route`: the template of its
/// path, empty for none; `may_begin`: whether it may without a parent of its own. A traced exchange has the
/// header `traceresponse` in its reply, which names the server's span.
[[nodiscard]] http::exchange_ptr trace(const observe::tracer& by, const http::exchange_ptr& e,
                                       std::string_view route, bool may_begin);

/// A record that was read from `e` goes on in its trace.
void follow(const http::exchange& e, record& r, record_batch& batch);

}  // namespace troupe::serving
