#pragma once
// What came of one step of `troupe fault run`, and how it is told.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/fault/scenario.hpp"
#include "cli/fault/watch.hpp"

namespace troupe::cli {

struct step_outcome {
  faults::fault fault;
  std::optional<double> detected_s;  ///< from its beginning
  std::string sign;
  std::optional<double> recovered_s;  ///< from its end; 0: it never left the steady state, or was back before
  double failed = 0, answered = 0;
  std::optional<std::uint64_t> strikes = 0;  ///< unset: the node was restarted and can't tell
  std::string why_failed;                    ///< empty: passed
};

/// Why a fault that struck more seldom than its step wants has shown nothing, and what to do about it, in one
/// line; empty when it struck often enough. `before` and `over` are looks at its beginning and its end.
[[nodiscard]] std::string not_exercised(const scenario_step& step, std::optional<std::uint64_t> strikes,
                                        const look& before, const look& over);

/// For people: a line a step, and under each that failed another one that says why.
[[nodiscard]] std::string outcome_table(const std::vector<step_outcome>& steps);

/// Four digits of it.
[[nodiscard]] std::string plain_number(double v);

}  // namespace troupe::cli
