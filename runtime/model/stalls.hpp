#pragma once
// Models that can't answer just now: their breaker is not closed, or too many of their engines hang. Written
// by the scheduler, read by whoever has requests for them. Nothing stalled, the usual case, costs a look at
// an atomic.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "runtime/policy/time.hpp"

namespace troupe::model {

class loaded_model;

struct stall {
  policy::nanos since = 0;
  policy::nanos next_probe = 0;  ///< nothing is tried before, its breaker is open; 0: something may be
  /// Calls that do not return, models.max_hung of them or more: nothing is tried until one does. 0: fewer.
  std::uint32_t hung = 0;
};

/// Why nothing is tried, of a model whose engine hangs.
[[nodiscard]] inline std::string why_hung(const stall& how) {
  return "its engine hangs, with " + std::to_string(how.hung) +
         " of its calls not returned (models.max_hung): it is given nothing until one does";
}

class stalls {
 public:
  /// Replaces what was said before.
  void set(const loaded_model* m, const stall& how) {
    const std::lock_guard lock(mutex_);
    all_[m] = how;
    count_.store(all_.size(), std::memory_order_relaxed);
  }
  void clear(const loaded_model* m) {
    const std::lock_guard lock(mutex_);
    all_.erase(m);
    count_.store(all_.size(), std::memory_order_relaxed);
  }
  [[nodiscard]] bool any() const { return count_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] std::optional<stall> of(const loaded_model* m) const {
    if (!any()) return std::nullopt;
    const std::lock_guard lock(mutex_);
    const auto it = all_.find(m);
    if (it == all_.end()) return std::nullopt;
    return it->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<const loaded_model*, stall> all_;
  std::atomic<std::size_t> count_{0};
};

}  // namespace troupe::model
