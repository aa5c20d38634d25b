#pragma once
// Topic tools of the benchmark: fill one, and watch one from outside the process that is measured.

#include <cstdint>
#include <string>

namespace troupe::bench {

/// Makes `topic` with `partitions` partitions if it is not there.
void make_topic(const std::string& brokers, const std::string& topic, int partitions);

/// Writes `records` requests of about 230 bytes for `model`, spread over all partitions, from `distinct`
/// different rows; returns the number of bytes of one.
std::size_t fill(const std::string& brokers, const std::string& topic, std::int64_t records,
                 const std::string& model, int distinct);

struct watched {
  double seconds = 0;      ///< from `skip` records to `count`
  double cpu_seconds = 0;  ///< of `pid`, user and system, in that time
  std::int64_t records = 0;
  std::int64_t peak_rss_kb = 0;
};

/// Waits until the end offsets of `topic` add up to `count` more than now, polling every few milliseconds;
/// time and CPU run from the moment `skip` were there. With `committed` the end of a partition is its last
/// stable offset; a transaction's marker counts there like a record. Throws when nothing moves for 30 s.
watched watch(const std::string& brokers, const std::string& topic, std::int64_t skip, std::int64_t count,
              int pid, bool committed);

}  // namespace troupe::bench
