#pragma once
// Sends requests to Kafka and accounts for every answer: what `troupe load` and `troupe demo` measure with.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace troupe::cli {

struct load_options {
  std::string brokers = "127.0.0.1:9092";
  std::string requests_topic = "inference-requests";
  std::string results_topic = "inference-results";
  std::string dead_letter_topic = "inference-requests-dlq";
  std::map<std::string, std::string> properties;  ///< librdkafka's, for both directions
  std::int64_t records = 10'000;
  double rate = 0;               ///< records/s, open loop; 0: closed loop
  std::int64_t window = 10'000;  ///< closed loop: records sent and not yet answered
  std::string model;
  std::string model_version;
  int priority = 0;
  std::int64_t timeout_ms = 0;  ///< 0: none
  std::int64_t distinct = 1'000;  ///< different rows of features
  std::size_t features = 10;
  std::vector<std::string> rows;  ///< JSON texts for `features`; empty: generated
  bool keyed = false;             ///< the request id is the record's key
  double wait_for = 30;           ///< seconds without any answer until the rest counts as lost
  bool follow = true;             ///< false: send only
  std::string run_id;             ///< prefix of the ids; empty: random
};

struct load_report {
  std::int64_t sent = 0;
  std::int64_t predicted = 0;     ///< ids with a prediction
  std::int64_t errors = 0;        ///< ids with an error result
  std::int64_t dead_letters = 0;  ///< ids in the dead-letter topic
  std::int64_t lost = 0;          ///< ids without any answer
  std::int64_t duplicated = 0;    ///< answers beyond the first of an id
  double duration_s = 0;          ///< from the first send to the last first answer
  double records_per_second = 0;
  double p50_ms = 0, p95_ms = 0, p99_ms = 0, max_ms = 0;  ///< open loop: from when it was due, not from when it was sent
  double longest_gap_ms = 0;  ///< between two answers while some were out
  std::map<std::string, std::int64_t> error_codes;
  bool stopped = false;  ///< interrupted
  std::string run_id;
};

struct load_progress {
  std::int64_t sent = 0, answered = 0;
  double seconds = 0;
};

/// Throws std::runtime_error when the broker or a topic can't be used. `stop` ends sending; what is out is waited for.
[[nodiscard]] load_report run_load(const load_options& options, const std::atomic<bool>& stop,
                                   const std::function<void(const load_progress&)>& progress);

/// The run's record number in a request_id "<run>-<n>" at the start of a result or request value, else -1; `after` is
/// what follows the id's closing quote.
[[nodiscard]] std::int64_t record_number(std::string_view value, std::string_view run_id, std::string_view& after);

}  // namespace troupe::cli
