#pragma once
// A histogram that takes n equal observations at the cost of one.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace troupe::observe {

/// One observation of a bucket that leads to a trace; `trace` empty: there is none.
struct exemplar {
  std::string trace;
  double value = 0;
  double at = 0;  ///< seconds since the epoch
};

class histogram {
 public:
  struct snapshot {
    std::vector<std::uint64_t> cumulative;  ///< a bound each; then all
    double sum = 0;
  };

  /// Upper bounds; sorted and made unique here.
  explicit histogram(std::vector<double> bounds);

  /// `value` was seen `n` times. Lock-free.
  void observe(double value, std::uint64_t n = 1);

  /// The last exemplar of its bucket; with a lock, for the few requests that are traced.
  void show(exemplar one);
  /// A bucket each; empty: there was never one.
  [[nodiscard]] std::vector<exemplar> exemplars() const;

  [[nodiscard]] const std::vector<double>& bounds() const { return bounds_; }
  [[nodiscard]] snapshot read() const;

 private:
  [[nodiscard]] std::size_t bucket_of(double value) const;

  std::vector<double> bounds_;
  std::vector<std::atomic<std::uint64_t>> counts_;  // one more than bounds
  std::atomic<double> sum_{0};
  mutable std::mutex mutex_;  // guards the next
  std::vector<exemplar> exemplars_;
};

}  // namespace troupe::observe
