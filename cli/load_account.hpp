#pragma once
// The bookkeeping of a load run: when each request is due, which answer belongs to which request, how long it
// took. No thread, no clock; times are microseconds.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace troupe::cli {

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

/// How often each request was answered. One byte a request.
class answer_ledger {
 public:
  explicit answer_ledger(std::int64_t requests) : seen_(static_cast<std::size_t>(requests)) {}
  /// False for a number that is no request's.
  [[nodiscard]] bool knows(std::int64_t n) const {
    return n >= 0 && n < static_cast<std::int64_t>(seen_.size());
  }
  /// Whether this is the first answer to request n; another one is a duplicate.
  [[nodiscard]] bool first(std::int64_t n) {
    auto& seen = seen_[static_cast<std::size_t>(n)];
    if (seen != 0) {
      ++duplicated_;
      return false;
    }
    seen = 1;
    ++answered_;
    return true;
  }
  [[nodiscard]] std::int64_t answered() const { return answered_; }
  [[nodiscard]] std::int64_t duplicated() const { return duplicated_; }
  /// Of the first `sent` requests, those without an answer.
  [[nodiscard]] std::int64_t lost(std::int64_t sent) const {
    return std::count(seen_.begin(), seen_.begin() + static_cast<std::ptrdiff_t>(sent), std::uint8_t{0});
  }

 private:
  std::vector<std::uint8_t> seen_;
  std::int64_t answered_ = 0;
  std::int64_t duplicated_ = 0;
};

/// What a record of the result or dead-letter topic says, as far as a load run needs it.
struct answer {
  std::int64_t number = -1;  ///< n of a request_id "<run>-<n>"; -1: not of this run
  std::string_view error;    ///< an error value's code; empty for a prediction
};

/// Reads the first request_id of a JSON text without parsing the rest.
[[nodiscard]] answer read_answer(std::string_view value, std::string_view run_id);

}  // namespace troupe::cli
