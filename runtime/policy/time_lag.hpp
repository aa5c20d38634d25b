#pragma once
// time_lag: how far behind in time the reader of a partition is, unread records included.
//
// Records of a partition are in the order of their arrival, so the oldest one without an answer says it: its
// age by its timestamp. While some are in work it is one of these, and its timestamp is at hand. While none
// is, but the partition goes on behind what was read, the next one's timestamp is not known yet; then it
// counts from when that was first seen without anything being read since.

#include <algorithm>
#include <cstdint>
#include <optional>

namespace troupe::policy {

class time_lag {
 public:
  struct look {
    std::int64_t now_ms = 0;                ///< wall clock
    std::optional<std::int64_t> oldest_ms;  ///< timestamp of the oldest unfinished record; none is in work
    std::uint64_t read = 0;                 ///< records read so far
    std::int64_t unread = -1;               ///< records behind them; -1: unknown
  };

  /// Seconds; 0: everything is answered. Empty: unknown. A timestamp in the future is no lag.
  [[nodiscard]] std::optional<double> seconds(const look& at) {
    if (!waiting_since_ || at.read != read_) waiting_since_ = at.now_ms;
    read_ = at.read;
    std::int64_t since = *waiting_since_;
    if (at.oldest_ms) {
      since = *at.oldest_ms;
    } else if (at.unread <= 0) {
      waiting_since_.reset();
      if (at.unread < 0) return std::nullopt;
      return 0;
    }
    return static_cast<double>(std::max<std::int64_t>(0, at.now_ms - since)) * 1e-3;
  }

 private:
  std::optional<std::int64_t> waiting_since_;
  std::uint64_t read_ = 0;
};

}  // namespace troupe::policy
