#pragma once
// circuit: a circuit breaker (M. Nygard, "Release It!"). Stops asking something that keeps failing, and finds
// out cheaply when it works again.
//
//   closed ──threshold failures in a row, or failure rate in the window──▶ open ──open_for──▶ half_open
//      ▲                                                                    ▲                    │
//      └────────────────────── a probe succeeds ────────────────────────────┼────────────────────┤
//                                                                           └── a probe fails ───┘
//
// What ends while open (asked before it opened) changes nothing. Probes that never answer are given anew
// after `open_for`.

#include <array>
#include <cstddef>
#include <cstdint>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

enum class circuit_state : std::uint8_t { closed, open, half_open };

struct circuit_config {
  std::uint32_t threshold = 5;   ///< failures in a row that open it; 0: never by this
  double failure_rate = 0.5;     ///< of the calls in the window; above 1: never by this
  std::uint32_t min_calls = 20;  ///< in the window, for the rate to count
  nanos window = 10 * second;
  nanos open_for = 60 * second;
  std::uint32_t probes = 1;  ///< calls that half_open lets through
};

class circuit {
 public:
  explicit circuit(const circuit_config& config = {});

  /// Whether a call may be made now; in half_open it takes a probe. Every allowed call ends in success() or
  /// failure().
  [[nodiscard]] bool allow(nanos now);
  void success(nanos now) { record(now, 1, 0); }
  void failure(nanos now) { record(now, 0, 1); }
  /// How calls made together ended. Their order is unknown: failures beside successes are no failures in a
  /// row, and as probes they count as failed when at least half of them failed.
  void record(nanos now, std::uint64_t ok, std::uint64_t failed);

  /// The state at `now`: open becomes half_open when its time is over.
  circuit_state state(nanos now);
  /// The state at the last call that named a time.
  [[nodiscard]] circuit_state state() const { return state_; }
  /// When the next call may be made: 0 while closed or a probe is free, else the time at which probes are
  /// given.
  [[nodiscard]] nanos next_probe() const;
  [[nodiscard]] std::uint64_t transitions() const { return transitions_; }

 private:
  static constexpr std::size_t slices = 10;
  struct slice {
    std::int64_t index = -1;
    std::uint64_t ok = 0;
    std::uint64_t failed = 0;
  };

  void change(circuit_state to, nanos now);
  [[nodiscard]] bool rate_exceeded(nanos now) const;
  [[nodiscard]] std::int64_t slice_of(nanos now) const;

  circuit_config config_;
  std::array<slice, slices> window_{};
  circuit_state state_ = circuit_state::closed;
  std::uint64_t in_a_row_ = 0;
  std::uint32_t probes_left_ = 0;
  nanos until_ = 0;  // end of open; in half_open, when probes are given anew
  std::uint64_t transitions_ = 0;
};

}  // namespace troupe::policy
