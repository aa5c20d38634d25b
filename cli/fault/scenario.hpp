#pragma once
// A file of `troupe fault run`: what is normal, and what is done to the node one after the other.
//
//   name: Redis goes away                 optional
//   steady_state:                         what must hold before, and again after each fault
//     pipeline: {p95: 100ms, p99: 500ms, errors: 0.001}     records of Kafka, lines of batches
//     api: {p95: 200ms, p99: 500ms, errors: 1%}             requests over HTTP and gRPC
//     lag: 5s                             age of the oldest unfinished record
//     throughput: 100                     requests a second, all doors together, at least
//     ready: true
//   window: 5s                            over which it is measured before
//   warm_up: 10s                          waited for it at most
//   detect_within: 5s                     optional: a fault without a sign by then fails the run
//   recover_within: 30s                   from the end of the fault
//   steps:
//     - {fault: redis_cut, duration: 10s, wait: 5s, failed_at_most: 0, strikes_at_least: 1}
//
// A step has the fields of its fault (docs/faults.md), and `wait` before the next one. One whose fault struck
// more seldom than strikes_at_least (1 unless it says otherwise) has shown nothing, and fails.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/faults/fault.hpp"

namespace troupe::cli {

struct latency_objective {
  double p95_s = 0, p99_s = 0;  ///< at most
  double errors = 0;            ///< share, at most
};

struct steady_state {
  latency_objective pipeline{0.1, 0.5, 0.001};
  latency_objective api{0.2, 0.5, 0.01};
  double lag_s = 5;
  double throughput = 0;
  bool ready = true;
  bool degraded = false;  ///< it may be so before the first fault
};

struct scenario_step {
  std::string place;  ///< FILE:LINE: step 1
  faults::fault fault;
  std::string body;  ///< what the node is asked for, JSON
  double wait_s = 0;
  std::optional<std::uint64_t> failed_at_most;  ///< requests, from the fault to the recovery
  std::uint64_t strikes_at_least = 1;           ///< 0: it may have struck nothing
};

struct scenario {
  std::string name;  ///< empty: the file has none
  steady_state steady;
  double window_s = 5;
  double warm_up_s = 10;
  std::optional<double> detect_within_s;
  double recover_within_s = 30;
  std::vector<scenario_step> steps;
};

/// From YAML; `file` is named in errors. Throws usage_error with all that is wrong, a line each: file, line,
/// key and what is expected.
[[nodiscard]] scenario parse_scenario(const std::string& text, const std::string& file);

}  // namespace troupe::cli
