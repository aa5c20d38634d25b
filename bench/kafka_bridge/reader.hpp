#pragma once
// What a read_committed consumer sees of a result topic: how often each request was answered, and when.

#include <cstdint>
#include <string>

namespace troupe::bench {

struct reader_options {
  std::string brokers, topic;
  std::int64_t records = 0;     ///< ids end in "-<n>", n in [0, records)
  std::int32_t partitions = 4;  ///< of the request topic: request n was written to partition n % partitions
  bool follow = false;          ///< does not end at the ends of the partitions but at SIGTERM, wherever it is
  /// With follow, where the arrivals go: a line "<epoch ms> <request partition> <results>" for each partition
  /// of each poll that found some. Empty: nowhere.
  std::string arrivals;
};

struct read_account {
  std::int64_t results = 0;   ///< records of the topic with such an id
  std::int64_t answered = 0;  ///< requests with at least one
  std::int64_t doubled = 0;   ///< results beyond the first of their request
  std::int64_t errors = 0;    ///< results that are error values
  std::int64_t strange = 0;   ///< records without such an id
};

/// Reads `topic` from its beginning with isolation.level=read_committed, up to the last stable offset of
/// every partition. Throws when the topic can't be read.
[[nodiscard]] read_account read_results(const reader_options& options);

}  // namespace troupe::bench
