#pragma once
// The source over librdkafka: a consumer group, one detached queue a partition, offsets stored by hand and committed
// every second.

#include <cstddef>
#include <memory>
#include <string>

#include "runtime/kafka/client.hpp"
#include "runtime/kafka/record_source.hpp"

namespace troupe::kafka {

struct source_options {
  std::string brokers;
  std::string group;
  std::string topic;
  std::size_t prefetch_bytes = std::size_t{4} << 20;  ///< librdkafka's queue, a partition
  nanos drain_timeout = 30'000'000'000;               ///< what a revoked partition gets to come to rest, at most
  properties own;
  log_function log;
};

/// Throws property_error.
[[nodiscard]] std::unique_ptr<record_source> make_librdkafka_source(const source_options& options);

}  // namespace troupe::kafka
