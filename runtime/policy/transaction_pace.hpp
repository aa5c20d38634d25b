#pragma once
// transaction_pace: when a Kafka transaction is committed.
//
// A commit costs the same (10 to 30 ms, most of it the broker's) whatever it carries, and nothing can be
// added while it lasts. So one is due as long after the end of the one before as commits take, which follows
// the rate by itself: a record after a silence is committed at once, a busy topic spends half of its time
// gathering, with a latency of at most three commits, and a full transaction does not wait.
//
// Nor is it opened at once: while the broker still writes the markers of the last one, it refuses the first
// request of the next (CONCURRENT_TRANSACTIONS), and librdkafka asks again only after 20 ms. Markers are two
// appends where a commit is four.

#include <cstddef>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

class transaction_pace {
 public:
  /// `records`: of a transaction, at most. `longest`: that what is ready ever waits.
  explicit transaction_pace(std::size_t records = 10'000, nanos longest = 100 * millisecond)
      : records_(records), longest_(longest) {}

  /// How many more it takes, when it has `given`.
  [[nodiscard]] std::size_t room(std::size_t given) const { return given < records_ ? records_ - given : 0; }

  /// When the next one is opened, if so many records are there for it; not before `now` unless it is now.
  [[nodiscard]] nanos opens(nanos now, std::size_t ready) const {
    return room(ready) == 0 || now >= opens_ ? now : opens_;
  }

  /// When a transaction with so many records is due; not before `now` unless it is now.
  [[nodiscard]] nanos due(nanos now, std::size_t given) const {
    return room(given) == 0 || now >= next_ ? now : next_;
  }

  /// A commit began at `began` and has ended.
  void committed(nanos began, nanos now) {
    const nanos took = now > began ? now - began : 0;
    typical_ = typical_ == 0 ? took : typical_ + (took - typical_) / 8;
    const nanos pause = typical_ < longest_ ? typical_ : longest_;
    opens_ = now + (pause * 3 / 4 < hold_at_most ? pause * 3 / 4 : hold_at_most);
    next_ = now + pause;
  }

  [[nodiscard]] nanos typical() const { return typical_; }  ///< commit, smoothed

 private:
  static constexpr nanos hold_at_most = 20 * millisecond;
  std::size_t records_;
  nanos longest_;
  nanos typical_ = 0;
  nanos opens_ = 0;
  nanos next_ = 0;
};

}  // namespace troupe::policy
