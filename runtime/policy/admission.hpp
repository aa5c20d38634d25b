#pragma once
// admission: whether a request whose caller waits can still be answered in time, by what the scheduler has
// queued. A caller who is told at once can go elsewhere; one who is answered too late has waited for nothing.
//
// The estimate: a new row of class c runs behind all rows of its own and of higher classes that wait; each
// costs what rows cost lately (exponentially weighted over batches), and `slots` batches run at a time.
// The scheduler publishes, any number of gateways ask: atomics, no lock.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

class admission {
 public:
  /// Throws std::invalid_argument when there are no classes or no slots.
  admission(std::size_t classes, std::size_t slots);

  /// A batch of `rows` rows took `took` ns. The scheduler's thread alone.
  void observe(std::size_t rows, nanos took);
  /// Rows that wait, by class. The scheduler's thread alone.
  void publish(std::span<const std::uint64_t> rows_waiting);

  /// Expected wait of a row of this class that comes now; 0 while nothing is known. Any thread.
  [[nodiscard]] nanos wait(std::size_t cls) const;

  /// nullopt: it can be answered by `latest`; else how long to stay away: what the queue is longer than it
  /// may be. Any thread.
  [[nodiscard]] std::optional<nanos> refuse(std::size_t cls, nanos now, nanos latest) const;

 private:
  std::size_t slots_;
  double row_cost_ = 0;  // ns; the scheduler's
  std::vector<std::atomic<nanos>> wait_;
};

}  // namespace troupe::policy
