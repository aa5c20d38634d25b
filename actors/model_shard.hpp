#pragma once
// model_shard: one an engine and execution slot, and one an engine for urgent rows beside the slots
// (express), each on a thread of its own. Owns nothing but its scratch; borrows the model. Promises: scores a
// granted batch, formats its answers and offers itself again; says when each call of the engine began; a
// batch that the engine refuses is scored row by row, so that one row's failure is its own. Dies of: an
// exception that is not the engine's word on a row. Its batch goes back to the scheduler's queue. What can't
// be ended: a call of an engine in this process that does not return. The scheduler takes the batch away and
// has another shard started (models.time_limit), but the thread stays in the call, with the memory and the
// processor time that it takes there. Engines in processes of their own are killed by their own limit.

#include <memory>

#include "messages/interfaces.hpp"

namespace troupe::faults {
class fault_points;
}

namespace troupe::model {
class recent_rows;
}

namespace troupe::observe {
class metrics;
}

namespace troupe {

/// The machine's monotonic clock.
[[nodiscard]] nanos steady_time();

struct model_shard_args {
  std::uint64_t id = 0;  ///< unique in the process, new for each restart
  std::shared_ptr<const model::loaded_model> model;
  std::shared_ptr<observe::metrics> metrics;
  std::shared_ptr<model::recent_rows> recent = nullptr;  ///< gets some rows now and then; may be null
  std::shared_ptr<shadow_gate> gate = nullptr;           ///< of the shadow_scorer; may be null
  bool express = false;                                  ///< for urgent rows only
  bool modest = false;                                   ///< its thread yields to those of callers
  nanos (*clock)() = &steady_time;                       ///< of what a batch took
  faults::fault_points* faults = nullptr;                ///< null: faults are off
};

[[nodiscard]] model_shard_actor spawn_model_shard(caf_line::system& system, model_shard_args args,
                                                  const wiring& neighbours);

}  // namespace troupe
