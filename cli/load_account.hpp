#pragma once
// The bookkeeping of a load run through Kafka: which answer belongs to which request. No thread, no clock.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/traffic/account.hpp"

namespace troupe::cli {

using traffic::latency_histogram;
using traffic::schedule;

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
