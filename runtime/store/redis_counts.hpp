#pragma once
// Counts in Redis that several nodes add to. Blocks: for a thread that has nothing else to do.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/store/redis.hpp"

namespace troupe::store {

struct count_to_add {
  std::string key;
  std::uint64_t add = 0;
  std::int64_t expires = 0;  ///< epoch seconds
};

class redis_counts {
 public:
  /// Connects when it is used. Throws std::runtime_error when a file of the TLS options is unusable.
  explicit redis_counts(redis_options options);
  ~redis_counts();
  redis_counts(const redis_counts&) = delete;
  redis_counts& operator=(const redis_counts&) = delete;

  /// INCRBY and EXPIREAT of each; `totals` gets what the counts are now, in order. Not empty: why it stopped;
  /// it then has those that are known to be added. One that was sent when the connection was lost may be
  /// added nevertheless. Waits connect_timeout at most for each answer.
  [[nodiscard]] std::string add(const std::vector<count_to_add>& all, std::vector<std::uint64_t>& totals);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::store
