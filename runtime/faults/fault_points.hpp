#pragma once
// The named points of the program at which faults strike, and the faults that are active there. Everything
// that injects (the admin port, `troupe fault`, the simulation) drives this one object; where faults are off
// there is none, and whoever would ask it holds a null pointer.
//
// Knows no clock: the time is an argument, the steady clock's or a virtual one. Strikes are drawn from a
// seed. Thread safe. A question costs one relaxed load while nothing is active at its point.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/faults/fault.hpp"

namespace troupe::faults {

struct strike {
  std::uint64_t id = 0;
  kind what = kind::none;  ///< none: nothing happens
  nanos delay = 0;
  explicit operator bool() const { return what != kind::none; }
};

/// One fault, active or over.
struct report {
  std::uint64_t id = 0;
  fault what;
  nanos began = 0;
  nanos until = 0;            ///< its bound; once over, when it ended
  std::uint64_t strikes = 0;  ///< how often it struck
  std::string ended;          ///< empty while active; else why: over, stopped, done, or what went wrong
};

struct totals {
  std::size_t active = 0;
  std::uint64_t strikes = 0;
};

class fault_points {
 public:
  explicit fault_points(std::uint64_t seed = 1) : random_(seed) {}
  fault_points(const fault_points&) = delete;
  fault_points& operator=(const fault_points&) = delete;

  /// The fault's id, from 1. It is active until `now` + its duration, whoever forgets it.
  std::uint64_t start(const fault& f, nanos now);
  /// Ends one early; the report of how it ended, nullopt when no such fault is active.
  std::optional<report> end(std::uint64_t id, nanos now, const std::string& why = "stopped");
  /// Ends those whose time is over.
  std::vector<report> sweep(nanos now);
  /// When the next one ends; nullopt: none is active.
  [[nodiscard]] std::optional<nanos> next_end() const;

  /// Active ones first, then those that ended, the latest first, at most a hundred.
  [[nodiscard]] std::vector<report> list() const;
  [[nodiscard]] bool active(std::uint64_t id) const;
  /// The active fault of this kind, 0 when there is none.
  [[nodiscard]] std::uint64_t active(kind what) const;
  [[nodiscard]] totals totals_of(kind what) const;

  // --- asked at the points

  /// Whether a fault strikes here and now; counts it.
  [[nodiscard]] strike at(point p, std::string_view model = {}, std::string_view version = {}) {
    if ((armed_.load(std::memory_order_relaxed) & bit(p)) == 0) [[likely]]
      return {};
    return draw(p, model, version);
  }
  /// A strike by something that is no draw: a connection refused, a crash.
  void struck(std::uint64_t id, std::uint64_t times = 1);
  void struck(kind what, std::uint64_t times = 1);

  /// Blocks for `at_most` (< 0: without bound), but not longer than the fault is active.
  void hold(std::uint64_t id, nanos at_most);

  /// What is added to the wall clock where it is asked how old a record is.
  [[nodiscard]] std::int64_t wall_shift_ms() const { return shift_ms_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t bit(point p) { return 1U << static_cast<unsigned>(p); }
  [[nodiscard]] strike draw(point p, std::string_view model, std::string_view version);
  report retire(std::size_t at, nanos when, const std::string& why);
  void arm();

  std::atomic<std::uint32_t> armed_{0};
  std::atomic<std::int64_t> shift_ms_{0};
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  std::mt19937_64 random_;
  std::uint64_t last_id_ = 0;
  std::vector<report> now_;
  std::deque<report> past_;
  std::array<std::uint64_t, 32> strikes_{};  // by kind, of all there ever were
};

}  // namespace troupe::faults
