#pragma once
// producer: one a node.
// Owns the sink, the answers that are gathering and those on their way to the broker.
// Promises: one answer a record (a second one is dropped), in at most `gather` time after it was formatted;
// what the broker refuses is tried again or dead-lettered, never forgotten; a partition_consumer hears of an
// answer only when the broker has it. With an order_desk, a partition's answers are sent in the order of its
// records (one that the broker refused first and takes later is behind those after it). Dies of: an exception
// of its own. Answers not yet with the sink are then formed anew, because their partition_consumer submits
// their records again; those with the sink are reported to its successor.

#include <memory>

#include "messages/interfaces.hpp"
#include "runtime/kafka/record_sink.hpp"

namespace troupe::observe {
class metrics;
}

namespace troupe {

/// The answers of each partition that wait for those before them. Outlives a producer.
class order_desk;
[[nodiscard]] std::shared_ptr<order_desk> make_order_desk();

struct producer_args {
  std::shared_ptr<kafka::record_sink> sink;
  std::shared_ptr<observe::metrics> metrics;
  nanos gather_min = 0;
  nanos gather_max = 10'000'000;  ///< what the sink lingers, too: under full load it gathers
  bool keep_timestamp =
      false;  ///< results carry the request record's timestamp, not the time they were produced
  std::shared_ptr<order_desk> order;  ///< null: answers go as they come; else a partition's in its order
};

[[nodiscard]] producer_actor spawn_producer(caf_line::system& system, producer_args args);

}  // namespace troupe
