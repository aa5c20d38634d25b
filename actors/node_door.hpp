#pragma once
// The node's own port (metrics.port): /metrics, health and readiness, and, behind a bearer token, /admin.
//
//   GET  /metrics /health /ready /readiness /liveness
//   GET  /admin/tree                         the supervision tree: groups, budgets, children, restarts
//   GET  /admin/faults                       faults that are active or ended lately (faults.enabled)
//   POST /admin/faults {"fault": "redis_cut", "duration": "10s"}   begins one
//   POST /admin/faults {"crash": "NAME"}     crashes an actor, "random" for any
//   POST /admin/faults/check {"fault": ...}  whether one could begin now; changes nothing
//   DELETE /admin/faults, /admin/faults/ID   ends all, or one
//   GET  /admin/models                       versions, rollouts that run, rollouts that ended
//   POST /admin/models/load|unload|promote|rollback {"model": "churn", "version": "4"}
//   GET  /admin/registry                     what the references of the registry stand for
//   POST /admin/registry/sync                asks the registry at once: {"poll": N}, over when GET has N
//   polls POST /admin/rollout {"model": "churn", "version": "4", "strategy": "canary", "percent": 5, ...}
//        fields as in the configuration's `rollout`; {"model": "churn", "strategy": "off"} ends one

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "messages/interfaces.hpp"
#include "runtime/http/health.hpp"
#include "runtime/http/message.hpp"
#include "runtime/registry/registry_poller.hpp"

namespace troupe::faults {
class injector;
}

namespace troupe::http {
class server;
}

namespace troupe {

/// What the door shows and does. Called on the door's thread.
class door_state {
 public:
  virtual ~door_state() = default;
  [[nodiscard]] virtual http::health_state health() const = 0;
  [[nodiscard]] virtual http::response metrics_page(std::string_view accept) const = 0;
  [[nodiscard]] virtual tree_report tree() const = 0;
  /// Null where faults are off.
  [[nodiscard]] virtual faults::injector* injected() = 0;
  [[nodiscard]] virtual models_report models_now() const = 0;
  /// Waits for its result a few seconds at most; loads go on behind it.
  [[nodiscard]] virtual command_result command(model_command c) = 0;
  /// nullopt: none is configured.
  [[nodiscard]] virtual std::optional<registry::poller_status> registry_now() const = 0;
  /// The number of the poll that comes now.
  virtual std::uint64_t sync_registry() = 0;
};

struct door_options {
  std::string bind = "0.0.0.0";
  int port = 8000;
  std::string admin_token;  ///< empty: no /admin
};

class node_door {
 public:
  /// Throws http::bind_error when the port can't be had.
  node_door(const door_options& options, door_state& state);
  ~node_door();
  [[nodiscard]] int port() const;

 private:
  std::unique_ptr<http::server> server_;
};

}  // namespace troupe
