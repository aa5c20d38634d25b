#pragma once
// Sends requests to Kafka and accounts for every answer: what `troupe load` and `troupe demo` measure with,
// and the judge of delivery tests. Survives brokers that go and come back, and restarts of whoever answers.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/traffic/requests.hpp"

namespace troupe::cli {

struct load_options {
  std::string brokers = "127.0.0.1:9092";
  std::string requests_topic = "inference-requests";
  std::string results_topic = "inference-results";
  std::string dead_letter_topic = "inference-requests-dlq";  ///< empty: not followed
  std::map<std::string, std::string> properties;             ///< librdkafka's, for both directions
  std::int64_t records = 10'000;
  double rate = 0;               ///< records/s, open loop; 0: closed loop
  std::int64_t window = 10'000;  ///< closed loop: records sent and not yet answered
  std::string model;
  std::string model_version;
  int priority = 0;                          ///< 0: says nothing
  std::int64_t timeout_ms = 0;               ///< 0: none
  std::int64_t distinct = 1'000;             ///< different rows of features
  std::size_t features = 10;                 ///< numbers in a generated row
  std::uint64_t seed = traffic::usual_seed;  ///< of generated rows
  std::vector<std::string>
      rows;                 ///< JSON texts for `features`; empty: generated, like the diabetes models' own
  bool keyed = false;       ///< the request id is the record's key; else records take partitions by turns
  double wait_for = 30;     ///< seconds without any answer until the rest counts as lost
  bool follow = true;       ///< false: send only
  double interval = 0;      ///< seconds; > 0: latency by intervals, too
  int fetch_wait_ms = 100;  ///< of the reader; the embedded broker sleeps an empty fetch out
  std::string run_id;       ///< prefix of the ids; empty: random
};

/// The requests that were sent (open loop: due) within one interval.
struct load_interval {
  double from_s = 0;
  std::int64_t answered = 0;
  double p50_ms = 0, p99_ms = 0, max_ms = 0;
};

struct load_report {
  std::string run_id;
  std::int64_t sent = 0;
  std::int64_t predicted = 0;     ///< ids with a prediction
  std::int64_t errors = 0;        ///< ids with an error result
  std::int64_t dead_letters = 0;  ///< ids in the dead-letter topic
  std::int64_t lost = 0;          ///< ids without any answer
  std::int64_t duplicated = 0;    ///< answers beyond the first of an id
  std::map<std::string, std::int64_t> error_codes;
  std::map<std::string, std::string> error_examples;  ///< a message of each code
  std::int64_t refused = 0;  ///< requests that the broker did not take, within `lost`
  std::string refusal;       ///< the last reason
  double duration_s = 0;  ///< from the first send to the last first answer; without answers to the last send
  double records_per_second = 0;
  /// From sending to reading the answer; open loop: from when it was due.
  double p50_ms = 0, p95_ms = 0, p99_ms = 0, max_ms = 0;
  double longest_gap_ms = 0;  ///< the longest pause between answers while some were out
  std::vector<load_interval> intervals;
  bool stopped = false;  ///< interrupted
};

struct load_progress {
  std::int64_t sent = 0;
  std::int64_t answered = 0;
  double seconds = 0;
};

/// Throws std::runtime_error when the broker or a topic can't be used, kafka::property_error for a wrong
/// property. `stop` ends sending; what is out is waited for. `progress` is called about five times a second.
[[nodiscard]] load_report run_load(const load_options& options, const std::atomic<bool>& stop,
                                   const std::function<void(const load_progress&)>& progress);

}  // namespace troupe::cli
