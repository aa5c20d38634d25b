#pragma once
// gather: how long answers gather before they are sent to the broker.
//
// A produce request costs the broker 40 to 160 us whatever it carries, so a busy topic wants few large
// requests, and a quiet one wants its answer at once. The hold follows the measured rate: `min` up to 3,000
// records/s, rising in a line to `max` at 160,000/s. The rate is an exponentially decaying count (time
// constant 200 ms): it needs no timer, starts from nothing and falls by itself.

#include <cstddef>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

class gather {
 public:
  static constexpr double slow = 3'000;    ///< records/s
  static constexpr double busy = 160'000;  ///< records/s

  /// 0 <= min <= max, else the nearest that holds.
  explicit gather(nanos min = 0, nanos max = 10 * millisecond);

  /// `records` became ready at `now`.
  void observe(nanos now, std::size_t records);

  /// How long to hold what is ready, as of the last observe().
  [[nodiscard]] nanos hold() const { return hold_for(rate_); }
  /// The same at `now`, after a silence.
  [[nodiscard]] nanos hold(nanos now) const { return hold_for(rate(now)); }

  /// So many records come that they may gather for as long as those before them are on their way.
  [[nodiscard]] bool busy_at(nanos now) const { return max_ > 0 && rate(now) >= slow + (busy - slow) / 4; }
  [[nodiscard]] double rate(nanos now) const;  ///< records/s

 private:
  [[nodiscard]] nanos hold_for(double rate) const;

  nanos min_;
  nanos max_;
  double rate_ = 0;
  nanos last_ = 0;
};

}  // namespace troupe::policy
