#pragma once
// partition_consumer: one a partition and assignment.
// Owns the partition's queue, the ledger of its offsets and every record it polled until its answer is
// delivered. Promises: at most `credit_records` records and about `credit_bytes` bytes unfinished; an offset
// is stored only when every record up to it was answered and the answers are with the broker; what a crashed
// neighbour held is submitted again (the producer drops second answers); a model that can't answer holds no
// more than its share of the credit where its records can be parked, so that those of other models go on; a
// retired partition ends with its offsets stored. Dies of: an exception of its own. Its successor reads again
// from the stored offset, so answers that were on their way are given twice: at least once. Where offsets are
// committed by transactions, it first waits until nothing of its predecessor can be committed any more, and
// reads again from there.

#include <cstddef>
#include <memory>
#include <vector>

#include "messages/interfaces.hpp"
#include "runtime/codec/request_parser.hpp"
#include "runtime/kafka/record_source.hpp"

namespace troupe::faults {
class fault_points;
}

namespace troupe::model {
class live_models;
class stalls;
}  // namespace troupe::model

namespace troupe::observe {
class metrics;
class tracer;
}  // namespace troupe::observe

namespace troupe {

struct partition_consumer_args {
  std::shared_ptr<kafka::partition_queue> queue;
  std::shared_ptr<const model::live_models> models;  ///< a poll takes the table that is in force
  codec::parser_options parser;
  std::shared_ptr<const codec::live_limits> limits;  ///< may be null: those of `parser`
  std::size_t credit_records = 8192;
  std::size_t credit_bytes = std::size_t{8} << 20;
  std::size_t poll_records = 1024;
  /// Records of a model that can't answer (`stalls`) beyond so many unfinished ones go to the parking topic,
  /// where there are several models; 0: they wait like all others.
  std::size_t stalled_share = 0;
  std::shared_ptr<const model::stalls> stalls = nullptr;  ///< may be null
  bool rewind = false;                                    ///< a successor: read again from the stored offset
  /// Offsets are committed with the answers, by the transactor: what it was asked to settle comes first.
  bool transactional = false;
  bool iso_timestamps = false;  ///< see record_batch
  std::shared_ptr<observe::metrics> metrics;
  std::shared_ptr<const observe::tracer> tracer = nullptr;  ///< null: nothing is traced
  faults::fault_points* faults = nullptr;                   ///< null: faults are off
};

[[nodiscard]] partition_consumer_actor spawn_partition_consumer(caf_line::system& system,
                                                                partition_consumer_args args,
                                                                const wiring& neighbours);

}  // namespace troupe
