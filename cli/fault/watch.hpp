#pragma once
// What a node's /metrics and /ready say of how it does: measured between two looks, and against a steady
// state.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cli/fault/scenario.hpp"

namespace troupe::cli {

/// Counters of the doors of one kind.
struct door_counts {
  double requests = 0, errors = 0;
  std::map<double, double> within;  ///< latency: bound in seconds -> requests, cumulative
};

/// One look at a node.
struct look {
  double at_s = 0;       ///< on a steady clock
  bool answers = false;  ///< else nothing below holds
  bool ready = false;
  std::vector<std::string> degraded;  ///< without faults that are active
  door_counts pipeline, api;
  double lag_s = 0;
  double memory = 0;  ///< bytes, resident
  double cached = 0;  ///< answers from the cache so far
  /// Counters and gauges that tell of trouble, by name with labels: those that grew, or stand above their
  /// calm value, are signs.
  std::map<std::string, double> grows, stands;
};

/// From the bodies of /metrics and /ready.
[[nodiscard]] look read_look(std::string_view metrics, std::string_view ready, int ready_status);

/// Between two looks.
struct measured {
  double seconds = 0;
  struct side {
    double requests = 0, errors = 0;
    double p95_s = 0, p99_s = 0;  ///< of 0 requests: 0. The bound of the bucket, or beyond the last: infinity
  } pipeline, api;
  double lag_s = 0;
  bool ready = false;
};
[[nodiscard]] measured between(const look& before, const look& after);

/// What of the steady state does not hold; empty: it is steady.
[[nodiscard]] std::vector<std::string> objections(const steady_state& wanted, const measured& m);

/// Counters that grow anyway, between two looks at a node that nothing was done to.
[[nodiscard]] std::set<std::string> noise(const look& before, const look& after);
/// What of `now` tells that something is wrong, against how it was before; empty: nothing.
[[nodiscard]] std::vector<std::string> signs(const look& before, const look& now,
                                             const std::set<std::string>& noisy);
/// The first of these, as it is told; nullopt: there is none that tells of the fault. `over_s`: for how long
/// it is over, negative while it is there.
[[nodiscard]] std::optional<std::string> first_sign(const std::vector<std::string>& found, double over_s);
/// Signs that are there as long as their cause is: readiness, breakers, a model or actor that is away.
[[nodiscard]] std::vector<std::string> lasting_signs(const look& before, const look& now);

}  // namespace troupe::cli
