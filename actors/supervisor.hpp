#pragma once
// supervisor: one a node; OTP's, with its whole tree of groups (policy/supervision_tree.hpp) in one actor,
// since what a supervisor of a group would be told it is told here, in one order. Owns the children: how to
// start each, how often they crashed, who is stuck. Promises: a child that crashes is started anew, after a
// backoff and by its group's strategy, within the group's budget; a group that spends it is restarted by the
// one above, in order, within that one's; everybody hears who is who; when the root's is spent this is said
// once through `escalate`, which ends the process: a supervisor that can't keep its children alive must not
// pretend to. One that died of its work (a model_shard, of rows that may be poison) is started again at once
// and costs nothing: whoever gave it the work counts. All are started in the order in which they were
// announced, and stopped in its reverse, one after the other.
//
// A child that handles one message for `stuck_after` is stuck: it is told in the log, in the metrics and in
// the report. Nothing ends a thread from outside. A child that is `replaceable` is abandoned: another is
// started in its place, and it ends itself if it ever returns. Any other, and one that must be stopped, is
// waited for; after ten times as long, or with more than `max_abandoned` threads lost, the process ends. Dies
// of: nothing it meets; a child that can't be started counts as a crash.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "messages/interfaces.hpp"
#include "runtime/policy/supervision_tree.hpp"

namespace troupe::observe {
class metrics;
class notices;
}  // namespace troupe::observe

namespace troupe {

struct supervisor_args {
  std::string name = "node";
  policy::group_rules rules;  ///< of the root
  std::uint64_t seed = 1;
  nanos stuck_after = 0;           ///< 0: nobody is watched
  std::size_t max_abandoned = 16;  ///< more end the process
  nanos patience = 5'000'000'000;  ///< for one that is to end; then it counts as stuck
  std::shared_ptr<observe::metrics> metrics;
  std::shared_ptr<observe::notices> notices;  ///< of children that are down; may be null
  /// A child was started; returns who is who now, when that changed. On the supervisor's thread.
  std::function<std::optional<wiring>(const child_spec&, const caf_line::any_actor&, bool restart)> started;
  std::function<void(std::string reason)> escalate;
};

[[nodiscard]] supervisor_actor spawn_supervisor(caf_line::system& system, supervisor_args args);

}  // namespace troupe
