#pragma once
// A histogram that takes n equal observations at the cost of one.

#include <atomic>
#include <cstdint>
#include <vector>

namespace troupe::observe {

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

  [[nodiscard]] const std::vector<double>& bounds() const { return bounds_; }
  [[nodiscard]] snapshot read() const;

 private:
  std::vector<double> bounds_;
  std::vector<std::atomic<std::uint64_t>> counts_;  // one more than bounds
  std::atomic<double> sum_{0};
};

}  // namespace troupe::observe
