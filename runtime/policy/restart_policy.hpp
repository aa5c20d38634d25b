#pragma once
// restart_policy: whether a crashed child is started again, and when.
//
// Intensity and period are OTP's ("Supervisor Behaviour", maximum restart intensity): more than `intensity`
// crashes within `period` mean that starting again does not help, and the supervisor gives up. Between
// restarts lies an exponential backoff with jitter, so that what crashes at start does not spin and what
// crashed together does not come back together; after `quiet` without a crash it begins anew.

#include <cstdint>
#include <deque>
#include <random>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

struct restart_config {
  std::uint32_t intensity = 10;  ///< crashes tolerated within `period`; 0: the first one escalates
  nanos period = 60 * second;
  nanos first_delay = 50 * millisecond;
  nanos max_delay = 10 * second;
  double factor = 2.0;        ///< delay of the n-th crash in a row over the one before
  double jitter = 0.2;        ///< a delay is stretched by up to this share, at random
  nanos quiet = 60 * second;  ///< without a crash: the delay starts from the first again
};

class restart_policy {
 public:
  struct decision {
    bool escalate = false;
    nanos after = 0;  ///< start again so many ns from now; 0 when escalating
  };

  explicit restart_policy(const restart_config& config, std::uint64_t seed = 1);

  /// A child crashed at `now` (not before the last one).
  decision on_crash(nanos now);

  [[nodiscard]] std::uint64_t crashes() const { return crashes_; }  ///< since the start
  [[nodiscard]] std::uint32_t left(nanos now) const;                ///< crashes that `now` would be tolerated

 private:
  restart_config config_;
  std::mt19937_64 random_;
  std::deque<nanos> recent_;
  double delay_ = 0;  // the last one, ns, without jitter
  nanos last_ = 0;
  std::uint64_t crashes_ = 0;
};

}  // namespace troupe::policy
