#pragma once
// The source over librdkafka: a consumer group, one detached queue a partition, offsets stored by hand and
// committed every second.
//
// One thread ("kafka-source") serves the group: it is the only caller of the listener, and the only one that
// assigns and revokes. Queues and polled batches keep the client alive, so they may outlive the source;
// librdkafka is shut down when the last of them goes.
//
// Backpressure is not polling: librdkafka fetches until `prefetch_bytes` of a partition wait, then stops by
// itself. Pausing would throw away what was fetched, so it is only done by stop_intake().

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "runtime/kafka/client.hpp"
#include "runtime/kafka/record_source.hpp"

struct rd_kafka_s;

namespace troupe::kafka {

/// What a transaction must know of the group whose records it answers. Thread safe; may outlive the source.
class consumer_group {
 public:
  virtual ~consumer_group() = default;
  [[nodiscard]] virtual rd_kafka_s* consumer() const = 0;
  [[nodiscard]] virtual const std::string& topic() const = 0;
  /// This assignment of the partition is still ours.
  [[nodiscard]] virtual bool owns(std::int32_t partition, std::uint32_t generation) const = 0;
  /// A transaction committed this offset: rewind() goes back to here.
  virtual void committed(std::int32_t partition, std::uint32_t generation, std::int64_t next_offset) = 0;
};

struct source_options {
  std::string brokers;
  std::string group;
  std::string topic;
  std::size_t prefetch_bytes = std::size_t{4} << 20;  ///< librdkafka's queue, a partition
  std::size_t prefetch_records = 10'000;              ///< fetches again as soon as fewer wait, a partition
  /// How long the broker may hold a fetch that finds nothing. A real broker answers when a record comes; the
  /// embedded one sleeps it out, so this is the latency there: 5.
  int fetch_wait_ms = 100;
  /// A member that died is noticed after this long: how long its partitions stand still. Brokers allow no
  /// less than 6000 unless told so (group.min.session.timeout.ms).
  int session_timeout_ms = 6'000;
  nanos drain_timeout = 30'000'000'000;  ///< what a revoked partition gets to come to rest, at most
  std::string instance_id;               ///< group.instance.id; empty: none
  /// Offsets are committed by transactions alone: store() refuses.
  bool transactional = false;
  properties own;
  log_function log;
  broken_function broken;                                   ///< empty: nobody is told
  std::shared_ptr<policy::socket_watch> sockets = nullptr;  ///< null: nobody watches
};

class librdkafka_record_source : public record_source {
 public:
  [[nodiscard]] virtual std::shared_ptr<consumer_group> group() const = 0;
};

/// Whether its properties go with one another, without asking any broker. Throws property_error.
void check_librdkafka_source(source_options options);

/// Throws property_error.
[[nodiscard]] std::unique_ptr<librdkafka_record_source> make_librdkafka_source(const source_options& options);

}  // namespace troupe::kafka
