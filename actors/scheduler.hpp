#pragma once
// scheduler: one a node, for all models.
// Owns the rows that wait, the grants that run, and one cost model a model.
// Promises: a free slot always goes to the most urgent rows that a shard can take now (policy/sla_queue.hpp);
// no more batches run at once than there are slots, whatever the number of models, but for express ones: rows
// that are more urgent than what waits go beside the slots at once, one batch a model, no more than slots;
// rows of a shard that dies are tried again in halves, in turn with what waits, and a row that kills twice
// alone is dead-lettered (policy/bisection.hpp); a model that ends whatever it is given is its breaker's
// matter; a call of an engine that exceeds its limit counts as a death, and the model is given nothing while
// `max_hung` of them have not returned; Kafka's records of a model that can't answer are parked after
// `stall_limit`; an expired row gets its error answer at dispatch. Dies of: an exception of its own. Waiting
// rows are then submitted again by their partition_consumers, and shards offer themselves to the successor.

#include <functional>
#include <memory>
#include <vector>

#include "messages/interfaces.hpp"
#include "runtime/policy/admission.hpp"
#include "runtime/policy/sla_queue.hpp"

namespace troupe::model {
class stalls;
}

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
  std::shared_ptr<model::stalls> stalls;         ///< told which models can't answer; may be null
  bool park = false;                             ///< the producer has a parking topic
  nanos stall_limit = 60'000'000'000;
  nanos time_limit = 0;  ///< of a call of an engine; 0: none
  std::uint32_t max_hung = 8;
  /// Has another shard started in the place of this one.
  std::function<void(const caf_line::any_actor& shard, const std::string& why)> abandon;
  std::shared_ptr<observe::metrics> metrics;
};

[[nodiscard]] scheduler_actor spawn_scheduler(caf_line::system& system, scheduler_args args,
                                              const wiring& neighbours);

}  // namespace troupe
