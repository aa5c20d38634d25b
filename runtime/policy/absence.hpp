#pragma once
// absence: how long who looks about every `every` was away itself (a suspended machine, a frozen process, no
// processor time), which nobody else is to be blamed for: a look that comes much later than the one before.

#include "runtime/policy/time.hpp"

namespace troupe::policy {

class absence {
 public:
  explicit absence(nanos every) : every_(every) {}

  /// Before this look, since the one before. `now` does not go back.
  nanos look(nanos now) {
    const nanos gone = looked_ && now - last_ > 2 * every_ ? now - last_ - every_ : 0;
    looked_ = true;
    last_ = now;
    total_ += gone;
    return gone;
  }

  [[nodiscard]] nanos total() const { return total_; }

 private:
  nanos every_;
  nanos last_ = 0;
  nanos total_ = 0;
  bool looked_ = false;
};

}  // namespace troupe::policy
