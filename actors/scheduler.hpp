#pragma once
// scheduler: one a node, for all models.
// Owns the rows that wait, the grants that run, and one cost model a model.
// Promises: a free slot always goes to the most urgent rows that a shard can take now (policy/sla_queue.hpp);
// no more batches run at once than there are slots, whatever the number of models, but for express ones: rows
// that are more urgent than what waits go beside the slots at once, one batch a model, no more than slots;
// rows of a shard that dies are queued again one by one, and a row that kills twice is dead-lettered; an
// expired row gets its error answer at dispatch. Dies of: an exception of its own. Waiting rows are then
// submitted again by their partition_consumers, and shards offer themselves to the successor.

#include <memory>
#include <vector>

#include "messages/interfaces.hpp"
#include "runtime/policy/admission.hpp"
#include "runtime/policy/sla_queue.hpp"

namespace troupe::observe {
class metrics;
}

namespace troupe {

struct scheduler_args {
  std::vector<policy::class_config> classes;
  std::size_t slots = 1;
  std::size_t max_batch = 1024;      ///< rows
  nanos max_batch_time = 5'000'000;  ///< estimated
  double late_floor = 0.002;
  std::shared_ptr<policy::admission> admission;  ///< told what waits; may be null
  std::shared_ptr<observe::metrics> metrics;
};

[[nodiscard]] scheduler_actor spawn_scheduler(caf_line::system& system, scheduler_args args,
                                              const wiring& neighbours);

}  // namespace troupe
