#pragma once
// The bookkeeping of a load run: when each request is due, how long answers took. No thread, no clock; times
// are microseconds.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe::traffic {

/// An open loop's plan: record n is due at n / rate, whatever happened to those before it. Latency counts
/// from then, so that a system that stalls does not also stop the clock (no coordinated omission).
class schedule {
 public:
  explicit schedule(double records_per_second) : per_record_us_(1e6 / records_per_second) {}
  [[nodiscard]] std::int64_t due_us(std::int64_t n) const {
    return static_cast<std::int64_t>(static_cast<double>(n) * per_record_us_);
  }
  /// How many records are due after so long; the first at 0.
  [[nodiscard]] std::int64_t due(std::int64_t elapsed_us) const {
    return elapsed_us < 0 ? 0
                          : static_cast<std::int64_t>(static_cast<double>(elapsed_us) / per_record_us_) + 1;
  }

 private:
  double per_record_us_;
};

/// Log-linear counts: exact below 256 us, then 128 buckets an octave, so at most 0.8% above the true value.
class latency_histogram {
 public:
  void add(std::int64_t us);
  /// The smallest recorded value that at least this share of all are not above (rounded up to its bucket), in
  /// milliseconds; 0 when there are none.
  [[nodiscard]] double quantile_ms(double q) const;
  [[nodiscard]] double max_ms() const { return static_cast<double>(max_) / 1000.0; }
  [[nodiscard]] std::uint64_t count() const { return total_; }

 private:
  static std::size_t bucket(std::int64_t us);
  static std::int64_t upper(std::size_t bucket);

  std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(256 + 128 * 56);
  std::uint64_t total_ = 0;
  std::int64_t max_ = 0;
};

}  // namespace troupe::traffic
