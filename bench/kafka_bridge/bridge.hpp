#pragma once
// The reference: a bare librdkafka bridge with Troupe's delivery (idempotent producer, offsets stored on the
// delivery report, key and headers kept), and nothing else between consume and produce.

#include <cstddef>
#include <string>

namespace troupe::bench {

struct bridge_options {
  std::string brokers = "127.0.0.1:9092";
  std::string group = "bridge";
  std::string in = "inference-requests";
  std::string out = "inference-results";
  double linger_ms = 5;
  /// 0: at least once. Else records go in transactions of at most so many, together with their offsets, and a
  /// transaction that is not full is committed `pace_ms` after its first record was read; below 0: as
  /// long after the end of the one before as commits take, as the node's are.
  std::size_t transaction_records = 0;
  int pace_ms = -1;
};

/// Runs until SIGTERM or SIGINT, then commits and leaves. 0 on success.
int run_bridge(const bridge_options& options);

/// The same with exactly-once delivery: one transactional producer, its transactions one after the other
/// (begin, produce, send_offsets_to_transaction, commit; an abort goes back to the first record of what was
/// aborted). transactional.id is the group's name. Needs transaction_records > 0.
int run_transactional_bridge(const bridge_options& options);

}  // namespace troupe::bench
