#pragma once
// What actors say to one another, in the order in which a request meets it. Plain structs, passed in the
// process; whatever is large travels behind a pointer and is read-only once sent.

#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "messages/batch.hpp"
#include "messages/models.hpp"

namespace troupe::model {
struct model_source_update;
struct version_on_disk;
}  // namespace troupe::model

namespace troupe {

// --- records come in
// ----------------------------------------------------------------------------------------------

/// The partition's queue has records (source -> partition_consumer).
struct records_ready {};

/// Rows to be answered: looked up, else queued (partition_consumer -> cache_client -> scheduler). The
/// receiver owns them.
struct submit {
  std::shared_ptr<row_refs> rows;
};

/// A door has calls at its desk (door -> gateway).
struct calls_ready {};

// --- rows are scored
// ------------------------------------------------------------------------------------------------

/// What a shard is at. Written by the shard, read by the scheduler.
struct engine_work {
  std::atomic<nanos> began{0};  ///< of the call of the engine that runs, by the node's clock; 0: none yet
};

/// Score these now (scheduler -> model_shard).
struct grant {
  std::uint64_t id = 0;
  std::shared_ptr<const row_refs> rows;
  bool on_trial = false;              ///< if this ends the shard, its rows are to blame
  std::shared_ptr<engine_work> work;  ///< may be null
};

/// The batch of this grant is done; the shard is free again (model_shard -> scheduler).
struct grant_done {
  std::uint64_t shard = 0;
  std::uint64_t id = 0;
  std::uint32_t rows = 0;
  nanos took = 0;
  bool failed = false;
  std::shared_ptr<const row_refs>
      back;  ///< records that were not tried, since no engine was there; may be null
};

/// How a batch ended (model_shard -> breaker).
struct outcome {
  std::uint32_t ok = 0;
  std::uint32_t failed = 0;
};

enum class breaker_position : std::uint8_t { closed, half_open, open };

/// A model may be granted batches, probes only, or none (breaker -> scheduler).
struct breaker_changed {
  const model::loaded_model* model = nullptr;
  breaker_position position = breaker_position::closed;
  std::uint32_t probes = 0;  ///< rows that half_open lets through
  nanos next_probe = 0;      ///< when open ends
};

/// Fresh predictions for the cache (model_shard -> cache_client). `outputs`: width doubles a row, in order.
struct learned {
  std::shared_ptr<const row_refs> rows;
  std::shared_ptr<const std::vector<double>> outputs;
  nanos took = 0;  ///< execution time of the whole batch
};

// --- versions change
// ------------------------------------------------------------------------------------------------

/// How requests of a rollout ended, those of one side together (model_shard, partition_consumer,
/// shadow_scorer -> model_keeper).
struct scored {
  std::uint64_t rollout = 0;
  rollout_arm arm = rollout_arm::none;
  std::uint32_t ok = 0;
  std::uint32_t failed = 0;
  nanos took = 0;  ///< execution time of the batch; 0: it never ran
  std::shared_ptr<const std::vector<double>>
      predictions;  ///< some of them: numbers, or class indexes; may be null
};

/// Score these once more with the new version and compare (model_shard -> shadow_scorer). Nobody is answered.
struct shadow_work {
  std::uint64_t rollout = 0;
  std::shared_ptr<const row_refs> rows;
  std::shared_ptr<const model::loaded_model> candidate;
};

/// How many batches wait for the shadow_scorer: at a few, further ones are left out.
struct shadow_gate {
  static constexpr std::uint32_t most = 4;
  std::atomic<std::uint32_t> waiting{0};
};

/// What a source of versions has now (source -> model_keeper).
struct source_changed {
  std::shared_ptr<const model::model_source_update> update;
};

/// A load is over (loader -> model_keeper).
struct load_ended {
  std::shared_ptr<const model::version_on_disk> version;
  std::shared_ptr<const model::loaded_model> model;  ///< null: it failed
  std::string text;                                  ///< why, or how it was warmed up
};

/// The options of models that change without a restart (node -> model_keeper).
struct model_settings {
  std::string default_model;
  bool fallback = true;
  std::shared_ptr<const std::vector<policy::rollout_spec>> rollouts;
};

/// No row of this model is left and nobody holds it: forget the address (model_keeper -> scheduler,
/// cache_client).
struct model_gone {
  const model::loaded_model* model = nullptr;
};

// --- answers go out
// -------------------------------------------------------------------------------------------------

class answer_set;

/// One answer of a set; its address is what the sink hands back with the delivery report.
struct answer {
  const record* request = nullptr;
  answer_set* set = nullptr;
  /// In the set's text: for Kafka the result's value; for another door the explanation, if there is one.
  std::uint32_t begin = 0;
  std::uint32_t size = 0;
  std::uint32_t outputs = 0;  ///< doors other than Kafka: the first of the request's in the set's outputs
  error_code code = error_code::none;
  bool dead = false;    ///< to the dead-letter topic: the request's own value, with the reason in its headers
  bool parked = false;  ///< `dead`, but to the parking topic: it was not the request's fault
  std::uint8_t tries = 0;          ///< deliveries refused so far
  bool delivered = false;          ///< a report said so; another one is only let go
  std::uint32_t reason_begin = 0;  ///< dead letters, and errors of other doors: the message, in the text
  std::uint32_t reason_size = 0;
};

/// Answers that were formatted together. Lives until its last delivery report: the sink reads the text in
/// place.
class answer_set {
 public:
  row_refs rows;                ///< keeps the requests alive
  std::vector<answer> answers;  ///< never resized once sent
  std::string text;
  std::vector<double> outputs;  ///< rows x output width a request, row-major; for Kafka they are in the text
  nanos model_time = 0;         ///< execution time of the batch, 0 if none was run

  answer_set() = default;
  answer_set(const answer_set&) = delete;
  answer_set& operator=(const answer_set&) = delete;

  void retain() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  struct releaser {
    void operator()(answer_set* s) const { s->release(); }
  };

 private:
  ~answer_set() = default;
  std::atomic<std::uint32_t> refs_{1};
};

using answer_set_ptr = std::shared_ptr<answer_set>;
[[nodiscard]] inline answer_set_ptr make_answer_set() {
  return {new answer_set, answer_set::releaser{}};
}

/// Send these (model_shard, cache_client, scheduler, partition_consumer -> producer).
struct answers {
  answer_set_ptr set;
};

/// The sink has delivery reports (sink -> producer).
struct reports_ready {};

/// What was held back to gather is due (producer -> itself).
struct hold_over {};

/// Answers to these rows are safe with the broker: their offsets may be committed (producer ->
/// partition_consumer).
struct delivered {
  std::shared_ptr<row_refs> rows;
};

/// The answers of a settle_for are forgotten; what was committed until now is where the partition goes on
/// (producer -> partition_consumer).
struct settled {};

// --- control
// --------------------------------------------------------------------------------------------------------

/// The periodic sweep of an actor (to itself).
struct tick {};

/// Stop polling, wait for what is in flight until `deadline`, store the offsets, report, end (node ->
/// partition_consumer).
struct retire {
  nanos deadline = 0;
  bool lost = false;                         ///< another member owns the partition already: end at once
  std::shared_ptr<std::promise<bool>> done;  ///< true: everything in flight was delivered
};

/// An injected fault: the receiver throws.
struct crash {
  std::string why;
};

}  // namespace troupe
