#pragma once
// The reference: a bare librdkafka bridge with Troupe's delivery (idempotent producer, offsets stored on the
// delivery report, key and headers kept), and nothing else between consume and produce.

#include <string>

namespace troupe::bench {

struct bridge_options {
  std::string brokers = "127.0.0.1:9092";
  std::string group = "bridge";
  std::string in = "inference-requests";
  std::string out = "inference-results";
  double linger_ms = 5;
};

/// Runs until SIGTERM or SIGINT, then commits and leaves. 0 on success.
int run_bridge(const bridge_options& options);

}  // namespace troupe::bench
