#pragma once
// month_count: how much of a monthly quota is used, by this node and, where a store is shared, by the others.
//
// The node counts by itself at once; what it counted is added to the store from time to time, and the store's
// total is taken over then. Between two such times nodes do not see each other's counts: a quota may be
// exceeded by what they take in that time. Without a store the node's own count is all.

#include <cstdint>
#include <string>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

/// Months since January 1970, UTC.
[[nodiscard]] int month_of(std::int64_t epoch_seconds);
/// When the next one begins.
[[nodiscard]] std::int64_t month_end(int month);
/// "202611"
[[nodiscard]] std::string month_text(int month);

class month_count {
 public:
  /// So many more, all or none, if they are left of `most` (0: there is no quota; they are counted all the
  /// same).
  [[nodiscard]] bool take(int month, std::uint64_t most, std::uint64_t count = 1);

  [[nodiscard]] std::uint64_t used(int month) const { return month == month_ ? known_ + pending_ : 0; }
  [[nodiscard]] int month() const { return month_; }
  /// What the store does not know yet, of month().
  [[nodiscard]] std::uint64_t pending() const { return pending_; }
  /// `added` of what was pending is in the store, whose total is now `total`. Of another month: nothing.
  void merged(int month, std::uint64_t added, std::uint64_t total);

 private:
  int month_ = -1;
  std::uint64_t known_ = 0;
  std::uint64_t pending_ = 0;
};

}  // namespace troupe::policy
