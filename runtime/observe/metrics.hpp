#pragma once
// The catalogue of everything Troupe measures: each metric's name, help and labels stand in metrics.cpp and
// nowhere else; text() is the Prometheus exposition of all of them.
//
// Methods are called once a batch, with counts, from any thread. No label takes its value from a request:
// models are the loaded ones, classes the configured ones, codes those of messages/errors.hpp.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"

namespace troupe::observe {

struct metrics_options {
  std::vector<std::string>
      class_names;                    ///< in priority order; a class without a name is labelled by its number
  std::vector<double> class_targets;  ///< seconds; become bucket bounds of the two latency histograms
};

/// Requests that ended alike: delivered, or for HTTP replied.
struct answered_line {
  const model::loaded_model* model;  ///< null: none was found
  door via;
  std::uint8_t cls;
  error_code code;
  bool dead;               ///< ended as a dead letter
  std::size_t count;       ///< requests
  std::size_t late;        ///< of them after their class's target
  std::size_t rows;        ///< of them all
  double seconds;          ///< from arrival to the end, of each
  std::string trace = {};  ///< id of one of them that is traced; empty: none is
};

/// How a partition of the requests stands.
struct partition_line {
  std::size_t credit_records = 0;  ///< unfinished records
  std::size_t credit_bytes = 0;
  double oldest_age_seconds = 0;      ///< since the oldest of them was read
  std::int64_t lag_records = -1;      ///< not read yet; < 0: unknown
  std::optional<double> lag_seconds;  ///< empty: unknown
};

struct request_totals {
  std::uint64_t requests = 0;  ///< ended, errors included
  std::uint64_t errors = 0;
};

class metrics {
 public:
  explicit metrics(const metrics_options& options);
  ~metrics();
  metrics(const metrics&) = delete;
  metrics& operator=(const metrics&) = delete;

  // Models. `model` is anything with name() and version(); its address is the handle that the other methods
  // take.
  template <class Model>
  void model_loaded(const Model& model) {
    model_loaded(&model, model.name(), model.version());
  }
  void model_loaded(const model::loaded_model* model, std::string_view name, std::string_view version);
  void model_unloaded(const model::loaded_model* model);
  struct model_line {
    std::string model;
    std::string version;
    std::string state;
    std::string engine;
    [[nodiscard]] bool operator==(const model_line&) const = default;
  };
  /// All versions that are known; replaces what was said before.
  void models(const std::vector<model_line>& all);
  /// Models and versions that are there and can't be loaded, now.
  void models_failed(std::size_t n);
  struct model_use {
    std::uint64_t rows = 0;
    std::uint64_t failed = 0;    ///< requests
    double latency_seconds = 0;  ///< mean

    struct spent {
      std::uint64_t count = 0;
      std::uint64_t ns = 0;  ///< of all together
    };
    spent answered;  ///< requests with a prediction, from arrival to the end
    spent refused;   ///< requests that ended with an error
    spent executed;  ///< batches
    std::uint64_t scored_rows = 0;
    std::int64_t last_ms = 0;  ///< of the last prediction, epoch milliseconds; 0: none
  };
  [[nodiscard]] model_use use_of(const model::loaded_model* model) const;
  void model_load(bool ok);

  // Rollouts.
  void rollout(const std::string& model, const std::string& version, const std::string& strategy,
               double share, double psi);
  void rollout_gone(const std::string& model);
  /// Rollouts of it may be rolled back for this reason: the counter begins with 0.
  void may_roll_back(const std::string& model, const std::string& reason);
  void rollout_requests(const std::string& model, bool new_version, std::size_t ok, std::size_t failed);
  void rolled_back(const std::string& model, const std::string& reason);
  void promoted(const std::string& model);
  /// Requests that a shadow scored, and those that it left out because it was behind.
  void shadowed(std::size_t scored, std::size_t left_out);

  // The way of a request.
  void answered(const answered_line& line);
  /// A model scored `rows` rows in `seconds`; the engine failed on `failed` requests of them. `trace` as
  /// above.
  void model_batch(const model::loaded_model& model, std::size_t rows, double seconds, std::size_t failed,
                   const std::string& trace = {});
  /// A classifier scored `rows` rows whose confidences add up to `sum`.
  void confidence(const model::loaded_model& model, double sum, std::size_t rows);
  /// Requests that ended because nobody waited for the answer any more.
  void callers_gone(door via, std::size_t count);
  /// A request that the guard of a door refused; `reason` is one of a fixed list (runtime/guard/guard.hpp).
  void guard_refused(door via, std::string_view reason);
  /// Requests that left the queue unscored because they could not make their target. What expired is counted
  /// by answered(), wherever that was found.
  void shed(std::size_t cls, std::size_t count);
  void queue(std::size_t cls, std::size_t depth, double oldest_age_seconds);
  void slots(std::size_t busy, std::size_t all);
  void express_batch();
  /// Rows of batches that ended their shard, until each was scored or is convicted.
  void suspect_rows(std::size_t count);
  /// Calls of the model's engine beyond their time limit that have not returned.
  void hung_calls(const model::loaded_model* model, std::size_t count);

  // Kafka.
  void partition(int partition, const partition_line& now);
  /// Given back: its gauges go away.
  void partition_gone(int partition);
  void assigned_partitions(std::size_t count, std::uint64_t rebalances);
  void delivery_errors(std::size_t count);
  /// A transaction ended, `seconds` after it began to.
  void transaction(bool committed, std::size_t records, double seconds);
  /// An answer waited so long for those before it in its partition.
  void order_wait(double seconds);

  // Stores. `level`: 1 in process, 2 Redis.
  void cache_lookups(int level, std::size_t hits, std::size_t misses);
  void cache_coalesced(std::size_t count);
  void cache_errors(int level, std::size_t count);

  // Actors. `state`: 0 closed, 1 half-open, 2 open (breaker_position).
  void breaker(const std::string& name, int state);
  void restarted(const std::string& actor);
  /// One of this kind runs: the counter of its restarts begins with 0.
  void started(const std::string& actor);
  void mailbox(const std::string& actor, std::size_t depth);
  /// It handles one message for longer than it may.
  void stuck(const std::string& actor, bool is);
  /// Actors that were replaced while they were stuck and whose threads are still at it.
  void abandoned(std::size_t count);
  /// Requests that went to the parking topic.
  void parked(std::size_t count);

  // The registry.
  /// `reached`: every configured reference was answered.
  void registry_poll(bool reached);
  /// A version of this model was refused; the one in use stays.
  void registry_rejected(const std::string& model);

  // Batches.
  void batches(std::size_t running, std::size_t queued);
  void batch_lines(std::size_t ok, std::size_t errors);

  // Traces. `result`: exported, dropped (no room, or the node ended) or failed.
  void trace_spans(const char* result, std::size_t count);

  // Faults.
  /// `active` now, `strikes` of all there ever were.
  void faults(std::string_view fault, std::size_t active, std::uint64_t strikes);

  // The node.
  void ready(bool is);
  /// The brokers answer, the group is joined, and answers can be written.
  void kafka_up(bool is);
  /// The cache's second level is connected.
  void redis_up(bool is);

  [[nodiscard]] request_totals totals() const;
  /// Prometheus exposition, format 0.0.4. The content type is `text_type`.
  [[nodiscard]] std::string text() const;
  static constexpr const char* text_type = "text/plain; version=0.0.4; charset=utf-8";

  struct page {
    std::string text;
    std::string type;
  };
  /// What a scraper with this Accept gets: OpenMetrics 1.0, with the traces of requests as exemplars, for one
  /// that prefers it, else text().
  [[nodiscard]] page expose(std::string_view accept) const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::observe
