#pragma once
// Models that can't answer just now: their breaker is not closed, or too many of their engines hang. Written
// by the scheduler, read by whoever has requests for them. Nothing stalled, the usual case, costs a look at
// an atomic.

#include <atomic>
#include <cstddef>
#include <map>
#include <mutex>
#include <optional>

#include "runtime/policy/time.hpp"

namespace troupe::model {

class loaded_model;

class stalls {
 public:
  /// Since when; replaces what was said before.
  void set(const loaded_model* m, policy::nanos since) {
    const std::lock_guard lock(mutex_);
    since_[m] = since;
    count_.store(since_.size(), std::memory_order_relaxed);
  }
  void clear(const loaded_model* m) {
    const std::lock_guard lock(mutex_);
    since_.erase(m);
    count_.store(since_.size(), std::memory_order_relaxed);
  }
  [[nodiscard]] bool any() const { return count_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] std::optional<policy::nanos> since(const loaded_model* m) const {
    const std::lock_guard lock(mutex_);
    const auto it = since_.find(m);
    if (it == since_.end()) return std::nullopt;
    return it->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<const loaded_model*, policy::nanos> since_;
  std::atomic<std::size_t> count_{0};
};

}  // namespace troupe::model
