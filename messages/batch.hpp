#pragma once
// The unit of travel: what one poll of a partition returned, parsed once and shared by every actor it passes.
//
// A batch is written by its partition_consumer (source, then parser) and is read-only from the moment it is
// submitted; the two atomics of a record are the only exception and say who may write them. Actors downstream
// pass references (row_refs), never copies. The memory behind all views (`storage`, `arena`) lives as long as
// one reference does, so librdkafka's own buffers are read in place.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "messages/errors.hpp"
#include "messages/rollout_arm.hpp"

namespace troupe::model {
class loaded_model;
class model_table;
}  // namespace troupe::model

namespace troupe::observe {
class request_trace;
}  // namespace troupe::observe

namespace troupe {

using nanos = std::int64_t;  ///< nanoseconds of the node's steady clock

enum class door : std::uint8_t { kafka, http, grpc, batch };

/// A Kafka header; a null value has data() == nullptr.
struct header {
  std::string_view name;
  std::string_view value;
};

struct record_batch;
class answer_set;
class completion_port;

/// One request. Views point into the batch's storage or arena.
struct record {
  // From the source. An absent key or value (a tombstone) has data() == nullptr.
  std::int64_t offset = 0;
  std::int64_t timestamp_ms =
      0;  ///< the request record's own timestamp, epoch milliseconds; arrival if it had none
  std::string_view key;
  std::string_view value;
  std::uint32_t headers_begin = 0;  ///< into record_batch::headers
  std::uint32_t headers_count = 0;

  // From the parser.
  std::string_view request_id;     ///< a JSON string token, quotes and escapes included, ready to be written
  std::string_view fallback_from;  ///< JSON-escaped version asked for, when another one answers; else empty
  std::string_view error_message;
  const model::loaded_model* model = nullptr;
  std::uint32_t values_begin = 0;  ///< into record_batch::values: rows x width doubles, NaN = missing
  std::uint32_t rows = 0;
  error_code error = error_code::none;
  bool parsed = false;   ///< it was a request: an error becomes an error result, otherwise a dead letter
  bool list = false;     ///< `features` was a list of rows: the prediction is a list too
  bool explain = false;  ///< the result says why; the model has an explainer
  std::uint8_t cls = 0;
  rollout_arm arm = rollout_arm::none;  ///< the side of a rollout that it was given to; none: no rollout
  nanos target = 0;
  nanos expiry = INT64_MAX;

  // From the partition_consumer.
  std::uint64_t seq = 0;  ///< the ledger's arrival sequence
  record_batch* batch = nullptr;

  const observe::request_trace* trace = nullptr;  ///< of the batch's traces; null: it is not traced

  /// Set by the producer alone (for Kafka) or the gateway alone (for the other doors), when it first takes a
  /// result of this record: a second one (sent again after a crash upstream) is dropped there, so that a
  /// restart never doubles a result. The gateway also sets it when the caller has gone: then nobody needs to
  /// score it any more.
  mutable std::atomic<bool> answered{false};

  record() = default;
  record(record&& o) noexcept { *this = std::move(o); }
  record& operator=(record&& o) noexcept {
    offset = o.offset, timestamp_ms = o.timestamp_ms, key = o.key, value = o.value;
    headers_begin = o.headers_begin, headers_count = o.headers_count;
    request_id = o.request_id, fallback_from = o.fallback_from, error_message = o.error_message,
    model = o.model;
    values_begin = o.values_begin, rows = o.rows, error = o.error, parsed = o.parsed, list = o.list,
    explain = o.explain, cls = o.cls, arm = o.arm;
    target = o.target, expiry = o.expiry, seq = o.seq, batch = o.batch, trace = o.trace;
    answered.store(o.answered.load(std::memory_order_relaxed), std::memory_order_relaxed);
    return *this;
  }
};

/// Owned by its references (intrusive count: `retain(n)`/`release(n)` move many at once).
struct record_batch {
  // Where it came from.
  std::shared_ptr<const std::string> topic;
  std::int32_t partition = 0;
  std::uint32_t generation = 0;
  troupe::door via = door::kafka;
  nanos arrived = 0;            ///< steady clock
  std::int64_t arrived_ms = 0;  ///< wall clock, epoch milliseconds
  bool iso_timestamps = false;  ///< answers say their time as an ISO 8601 text, not in epoch milliseconds

  std::vector<record> records;
  std::vector<header> headers;
  std::vector<double> values;
  std::size_t bytes = 0;                             ///< keys, values and headers, as counted by credit
  std::shared_ptr<const model::model_table> models;  ///< keeps record::model alive
  std::shared_ptr<void> storage;                     ///< keeps the source's buffers alive
  std::vector<std::shared_ptr<const observe::request_trace>> traces;  ///< keeps record::trace alive
  std::pmr::monotonic_buffer_resource arena{1024};                    ///< texts made by the parser

  std::shared_ptr<completion_port> owner;  ///< told when answers were delivered
  std::uint32_t unfinished = 0;            ///< the owner's count of records not yet delivered
  std::uint64_t slot = 0;                  ///< the owner's place for it

  record_batch() = default;
  record_batch(const record_batch&) = delete;
  record_batch& operator=(const record_batch&) = delete;

  [[nodiscard]] const double* row(const record& r, std::size_t i, std::size_t width) const {
    return values.data() + r.values_begin + i * width;
  }

  /// Copies text into the arena.
  [[nodiscard]] std::string_view keep(std::string_view text) {
    auto* p = static_cast<char*>(arena.allocate(text.size() + 1, 1));
    text.copy(p, text.size());
    return {p, text.size()};
  }

  void retain(std::uint32_t n = 1) const { refs_.fetch_add(n, std::memory_order_relaxed); }
  void release(std::uint32_t n = 1) const {
    if (refs_.fetch_sub(n, std::memory_order_acq_rel) == n) delete this;
  }

 private:
  ~record_batch() = default;
  mutable std::atomic<std::uint32_t> refs_{1};
};

/// One counted reference to a batch.
class batch_ptr {
 public:
  batch_ptr() = default;
  [[nodiscard]] static batch_ptr make() {
    batch_ptr p;
    p.batch_ = new record_batch;
    return p;
  }
  batch_ptr(const batch_ptr& o) : batch_(o.batch_) {
    if (batch_) batch_->retain();
  }
  batch_ptr(batch_ptr&& o) noexcept : batch_(std::exchange(o.batch_, nullptr)) {}
  batch_ptr& operator=(batch_ptr o) noexcept {
    std::swap(batch_, o.batch_);
    return *this;
  }
  ~batch_ptr() {
    if (batch_) batch_->release();
  }
  record_batch* get() const { return batch_; }
  record_batch* operator->() const { return batch_; }
  record_batch& operator*() const { return *batch_; }
  explicit operator bool() const { return batch_ != nullptr; }

 private:
  record_batch* batch_ = nullptr;
};

/// References to records, each with one count on its batch. Counts move in runs: neighbours mostly share a
/// batch.
class row_refs {
 public:
  row_refs() = default;
  row_refs(row_refs&&) noexcept = default;
  row_refs& operator=(row_refs&& o) noexcept {
    release();
    items_ = std::move(o.items_);
    o.items_.clear();
    return *this;
  }
  row_refs(const row_refs&) = delete;
  row_refs& operator=(const row_refs&) = delete;
  ~row_refs() { release(); }

  void reserve(std::size_t n) { items_.reserve(n); }
  /// Takes a new count.
  void add(const record* r) {
    r->batch->retain();
    items_.push_back(r);
  }
  /// Takes over a count that the caller already holds.
  void adopt(const record* r) { items_.push_back(r); }
  /// Takes new counts for all of `records`.
  void add_many(const std::vector<const record*>& records) {
    for_runs(records, [](record_batch* b, std::uint32_t n) { b->retain(n); });
    items_.insert(items_.end(), records.begin(), records.end());
  }
  /// New counts for everything in `o`.
  void add_all(const row_refs& o) { add_many(o.items_); }
  /// Hands the counts to the caller, who must adopt or release each.
  [[nodiscard]] std::vector<const record*> take() { return std::exchange(items_, {}); }

  [[nodiscard]] std::size_t size() const { return items_.size(); }
  [[nodiscard]] bool empty() const { return items_.empty(); }
  [[nodiscard]] const record& operator[](std::size_t i) const { return *items_[i]; }
  [[nodiscard]] auto begin() const { return items_.begin(); }
  [[nodiscard]] auto end() const { return items_.end(); }

  void release() {
    for_runs(items_, [](record_batch* b, std::uint32_t n) { b->release(n); });
    items_.clear();
  }

 private:
  template <class F>
  static void for_runs(const std::vector<const record*>& v, F f) {
    for (std::size_t i = 0; i < v.size();) {
      record_batch* b = v[i]->batch;
      std::size_t j = i + 1;
      while (j < v.size() && v[j]->batch == b) ++j;
      f(b, static_cast<std::uint32_t>(j - i));
      i = j;
    }
  }
  std::vector<const record*> items_;
};

/// Who owns a batch's requests. May be called from any thread.
class completion_port {
 public:
  completion_port() : number_(next_number()) {}
  completion_port(const completion_port&) = delete;
  completion_port& operator=(const completion_port&) = delete;
  virtual ~completion_port() = default;
  /// Of two owners of one partition, the later one has the higher number.
  [[nodiscard]] std::uint64_t number() const { return number_; }
  /// The owner goes: answers to its requests that come from now on are nobody's.
  void end() { ended_.store(true, std::memory_order_release); }
  [[nodiscard]] bool ended() const { return ended_.load(std::memory_order_acquire); }
  /// Kafka's: answers to these rows are with the broker.
  virtual void delivered(std::shared_ptr<row_refs> rows) = 0;
  /// Every other door's: answers to its rows, for it to write and send.
  virtual void answered(std::shared_ptr<answer_set> set) = 0;

 private:
  [[nodiscard]] static std::uint64_t next_number() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
  }

  std::uint64_t number_;
  std::atomic<bool> ended_{false};
};

}  // namespace troupe
