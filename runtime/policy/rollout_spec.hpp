#pragma once
// A rollout as it is asked for, in the configuration or through /admin/rollout.

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/policy/rollout.hpp"

namespace troupe::policy {

struct rollout_spec {
  std::string model;
  std::string version;  ///< the new one, "4" or "v4"
  rollout_strategy strategy = rollout_strategy::canary;
  double percent = 5;     ///< of canary and ab
  std::string header;     ///< of header: NAME (any value) or NAME=VALUE
  bool automatic = true;  ///< rolled back when it leaves its bounds; else only said
  double max_error_increase = 0.02;
  double max_latency_ratio = 2;
  nanos max_latency_increase = 10 * millisecond;
  double max_psi = 0.25;
  std::uint32_t min_samples = 200;
  nanos window = minute;
  std::string steps;  ///< percents, ascending: "1,10,50,100"; empty: stays at `percent`
  nanos step_every = 10 * minute;

  [[nodiscard]] bool operator==(const rollout_spec&) const = default;
};

/// What is wrong with it, in one line that begins with the field; empty: nothing.
[[nodiscard]] std::string complaint(const rollout_spec& s);
/// The shares in "1,10,50": 0.01, 0.1, 0.5. Empty when they are not ascending numbers over 0 and up to 100.
[[nodiscard]] std::vector<double> shares_of(const std::string& steps);
[[nodiscard]] guard_config guard_of(const rollout_spec& s);

}  // namespace troupe::policy
