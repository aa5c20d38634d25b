#pragma once
// token_bucket: a rate with a burst, for rate limits at the doors. Starts full; time that goes backwards
// gives nothing.

#include "runtime/policy/time.hpp"

namespace troupe::policy {

class token_bucket {
 public:
  /// `rate` tokens a second (>= 0), at most `burst` saved up (> 0). Throws std::invalid_argument otherwise.
  token_bucket(double rate, double burst);

  /// Takes `tokens` if they are there; false takes none. More than `burst` are never there.
  [[nodiscard]] bool take(nanos now, double tokens = 1);

  /// Ns until `tokens` will be there if nobody takes any, rounded up: Retry-After. `never` if they can't be.
  [[nodiscard]] nanos wait(nanos now, double tokens = 1) const;

  [[nodiscard]] double available(nanos now) const;

 private:
  double rate_;
  double burst_;
  double tokens_;
  nanos last_ = 0;
  bool started_ = false;
};

}  // namespace troupe::policy
