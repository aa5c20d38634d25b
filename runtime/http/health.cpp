#include "runtime/http/health.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

namespace troupe::http {
namespace {

using json = nlohmann::ordered_json;

response of(int status, const json& body) {
  response r;
  r.status = status;
  r.body = body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  r.headers.emplace_back("Cache-Control", "no-store");
  return r;
}

double rounded(double value, double steps) {
  return std::round(value * steps) / steps;
}

}  // namespace

response health(const health_state& state) {
  const double share = state.total_requests ? static_cast<double>(state.error_count) /
                                                  static_cast<double>(state.total_requests)
                                            : 0.0;
  json body;
  body["status"] = state.model_loaded ? "healthy" : "unhealthy";
  body["model_loaded"] = state.model_loaded;
  body["model_name"] = state.model_loaded ? json(state.model_name) : json(nullptr);
  body["model_version"] = state.model_loaded ? json(state.model_version) : json(nullptr);
  body["uptime_seconds"] = rounded(state.uptime_seconds, 1000);
  body["total_requests"] = state.total_requests;
  body["error_count"] = state.error_count;
  body["error_rate_percent"] = rounded(100 * share, 10'000);
  return of(state.model_loaded ? 200 : 503, body);
}

response ready(const health_state& state) {
  json body;
  body["status"] = state.ready ? "ready" : "not ready";
  if (!state.ready) body["reasons"] = state.reasons;
  if (!state.degraded.empty()) body["degraded"] = state.degraded;
  return of(state.ready ? 200 : 503, body);
}

response liveness() {
  return of(200, {{"status", "alive"}});
}

}  // namespace troupe::http
