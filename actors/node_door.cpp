#include "actors/node_door.hpp"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "runtime/http/server.hpp"
#include "runtime/observe/metrics.hpp"

namespace troupe {
namespace {

using nlohmann::json;

http::response tree(const door_state& state) {
  json children = json::array();
  for (const auto& c : state.tree())
    children.push_back({{"name", c.name},
                        {"kind", c.kind},
                        {"running", c.running},
                        {"restarts", c.restarts},
                        {"last_reason", c.last_reason}});
  return {200,
          json({{"supervisor", {{"strategy", "one_for_one"}, {"children", children}}}}).dump() + "\n",
          "application/json",
          {}};
}

http::response faults(door_state& state, bool enabled, const std::string& body) {
  if (!enabled) return http::error_response(403, "faults are off: set faults.enabled: true");
  const json wanted = json::parse(body, nullptr, false);
  if (!wanted.is_object() || !wanted.contains("crash") || !wanted["crash"].is_string())
    return http::error_response(400,
                                "expected {\"crash\": \"NAME\"} with a name from /admin/tree, or \"random\"");
  const std::string name = wanted["crash"];
  const std::string crashed = state.crash_one(name == "random" ? "" : name);
  if (crashed.empty())
    return http::error_response(404, "no running actor of that name; /admin/tree lists them");
  return {200, json({{"crashed", crashed}}).dump() + "\n", "application/json", {}};
}

}  // namespace

node_door::node_door(const door_options& o, door_state& state) {
  const auto ready = [&state](const http::request&) { return http::ready(state.health()); };
  std::vector<http::route> routes = {
      {"GET", "/metrics",
       [&state](const http::request&) {
         return http::response{200, state.metrics_text(), observe::metrics::text_type, {}};
       }},
      {"GET", "/health", [&state](const http::request&) { return http::health(state.health()); }},
      {"GET", "/ready", ready},
      {"GET", "/readiness", ready},
      {"GET", "/liveness", [](const http::request&) { return http::liveness(); }},
  };
  if (!o.admin_token.empty()) {
    routes.push_back(
        {"GET", "/admin/tree",
         http::require_bearer(o.admin_token, [&state](const http::request&) { return tree(state); })});
    routes.push_back({"POST", "/admin/faults",
                      http::require_bearer(o.admin_token, [&state, on = o.faults](const http::request& r) {
                        return faults(state, on, r.body);
                      })});
  }
  http::server_options so;
  so.bind = o.bind;
  so.port = o.port;
  so.name = "metrics.port";
  server_ = std::make_unique<http::server>(so, std::move(routes));
}

node_door::~node_door() = default;

int node_door::port() const {
  return server_->port();
}

}  // namespace troupe
