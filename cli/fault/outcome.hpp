#pragma once
// What came of `troupe fault run` and of each of its steps, and how it is told.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/fault/scenario.hpp"
#include "cli/fault/watch.hpp"

namespace troupe::cli {

enum class outcome : std::uint8_t { not_run, passed, failed, interrupted };
/// As it is called in a document: not_run.
[[nodiscard]] std::string_view name_of(outcome o);

struct step_outcome {
  faults::fault fault;
  outcome result = outcome::not_run;
  std::string why;                         ///< of one that did not pass
  std::optional<std::int64_t> started_ms;  ///< since 1970; unset: it was not begun, and nothing below holds
  std::optional<double> detected_s;        ///< from its beginning
  std::string sign;
  std::optional<double> recovered_s;  ///< from its end; 0: it never left the steady state, or was back before
  double failed = 0, answered = 0;
  std::optional<std::uint64_t> strikes = 0;  ///< unset: the node was restarted and can't tell
};

struct run_outcome {
  std::string file;
  std::string url;               ///< of the node; empty: it came to none
  std::int64_t started_ms = 0;   ///< since 1970
  double seconds = 0;            ///< it took
  std::optional<scenario> what;  ///< unset: the file could not be read
  std::vector<step_outcome> steps;
  std::string error;  ///< why it could not be run, or not to its end; a line for each mistake of the file
  bool interrupted = false;

  /// The scenario's name, else the file's.
  [[nodiscard]] std::string name() const;
  /// One failed step is a failure, whatever else; passed are all or none.
  [[nodiscard]] outcome result() const;
};

/// For programs: one JSON document, whatever came of it.
[[nodiscard]] std::string outcome_document(const run_outcome& run);

/// Why a fault that struck more seldom than its step wants has shown nothing, and what to do about it, in one
/// line; empty when it struck often enough. `before` and `over` are looks at its beginning and its end.
[[nodiscard]] std::string not_exercised(const scenario_step& step, std::optional<std::uint64_t> strikes,
                                        const look& before, const look& over);

/// For people: a line a step, and under each that did not pass another one that says why. Empty when none was
/// begun.
[[nodiscard]] std::string outcome_table(const std::vector<step_outcome>& steps);

/// Four digits of it.
[[nodiscard]] std::string plain_number(double v);

}  // namespace troupe::cli
