#pragma once
// supervisor: one a node; OTP's one_for_one.
// Owns the children: how to start each, how often they crashed.
// Promises: a child that crashes is started anew, after a backoff, within the budget (`intensity` restarts in
// `period`); everybody then hears who is who; a spent budget is reported once through `escalate`, which ends
// the process: a supervisor that can't keep its children alive must not pretend to. Dies of: nothing it
// meets; a child that can't be started counts as a crash.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "messages/interfaces.hpp"
#include "runtime/policy/restart_policy.hpp"

namespace troupe::observe {
class metrics;
}

namespace troupe {

struct supervisor_args {
  policy::restart_config restarts;
  std::uint64_t seed = 1;
  std::shared_ptr<observe::metrics> metrics;
  /// A child was started; returns who is who now, when that changed. On the supervisor's thread.
  std::function<std::optional<wiring>(const child_spec&, const caf_line::any_actor&, bool restart)> started;
  std::function<void(std::string reason)> escalate;
};

[[nodiscard]] supervisor_actor spawn_supervisor(caf_line::system& system, supervisor_args args);

}  // namespace troupe
