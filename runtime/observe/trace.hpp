#pragma once
// The traces of requests: which are taken, the ids, and the spans of each as they end. What is not taken
// costs a null pointer in its record; what is taken tells its spans from any thread, and never waits for
// those who export them.
//
// Times are nanoseconds of the node's steady clock; a span has them as time since the epoch.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/policy/trace_context.hpp"

namespace troupe::observe {

/// As OTLP numbers them.
enum class span_kind : std::uint8_t { internal = 1, server = 2, client = 3, producer = 4, consumer = 5 };

/// A name of OpenTelemetry's semantic conventions, or one that begins with `troupe.`; a literal.
struct attribute {
  std::string_view name;
  std::variant<std::string, std::int64_t, bool> value;
};
using attributes = std::vector<attribute>;

/// One that has ended.
struct span {
  policy::trace_id trace{};
  std::uint64_t id = 0;
  std::uint64_t parent = 0;  ///< 0: none
  std::uint8_t flags = 0;    ///< W3C's
  bool remote_parent = false;
  std::string state;  ///< W3C's tracestate
  span_kind kind = span_kind::internal;
  std::string name;
  std::int64_t begin_ns = 0;  ///< since the epoch
  std::int64_t end_ns = 0;
  observe::attributes attributes;
  bool failed = false;
  std::string message;  ///< of a failure
};

/// Takes spans from any thread, and does not block.
class span_sink {
 public:
  virtual ~span_sink() = default;
  virtual void put(span&& one) = 0;
};

struct tracer_options {
  double door_ratio = 0;   ///< of requests without a parent, over HTTP and gRPC
  double kafka_ratio = 0;  ///< and of Kafka's records
  std::string kafka_group;
  std::string results_topic;
  std::string dead_letter_topic;
  std::uint64_t seed = 0;               ///< of the ids; 0: the system's randomness
  std::function<std::int64_t()> clock;  ///< steady, nanoseconds; empty: the system's
  std::function<std::int64_t()> wall;   ///< since the epoch, nanoseconds; empty: the system's
};

class tracer;

/// One request that is traced: a span of its own, and children. All but describe() from any thread. Its span
/// is told once, with end(), or by the destructor as one that nobody answered.
class request_trace {
 public:
  ~request_trace();
  request_trace(const request_trace&) = delete;
  request_trace& operator=(const request_trace&) = delete;

  /// Of the node's steady clock.
  [[nodiscard]] nanos now() const;
  /// The trace's id, 32 hexadecimal digits.
  [[nodiscard]] std::string id() const { return policy::hex(own_.trace); }
  /// Names its own span.
  [[nodiscard]] std::string traceparent() const { return policy::write_traceparent(own_); }
  [[nodiscard]] const std::string& state() const { return state_; }

  /// Before anybody else knows it.
  void describe(span_kind kind, std::string name, attributes what);
  void set_state(std::string tracestate) { state_ = std::move(tracestate); }

  /// More about its own span.
  void add(attributes what) const;
  void end(nanos now, attributes what = {}, std::string_view error = {}) const;

  /// A child that is over. `error` empty: it went well.
  void child(std::string_view name, nanos begin, nanos end, attributes what = {},
             std::string_view error = {}) const;

  /// It waits from now on; since when it does.
  void waits(nanos now) const { since_.store(now, std::memory_order_relaxed); }
  [[nodiscard]] nanos waits_since() const { return since_.load(std::memory_order_relaxed); }

  /// A child that ends elsewhere: its answer is sent. Returns the traceparent that goes along.
  [[nodiscard]] std::string sends(nanos now) const;
  /// What sends() began is over; its own span, too, when it went well. `dead`: to the dead letters.
  void sent(nanos now, bool dead, std::string_view error) const;

 private:
  friend class tracer;
  request_trace(std::shared_ptr<const tracer> by, const policy::trace_context& own, std::uint64_t parent,
                nanos began, std::int64_t epoch);
  [[nodiscard]] span made(span_kind kind, std::string name, std::uint64_t id, std::uint64_t parent,
                          nanos begin, nanos end, attributes what, std::string_view error) const;

  const std::shared_ptr<const tracer> by_;
  const policy::trace_context own_;
  const std::uint64_t parent_;
  const nanos began_;
  const std::int64_t epoch_;  // of the steady clock's zero
  std::string state_;
  span_kind kind_ = span_kind::internal;
  std::string name_;
  mutable std::atomic<nanos> since_;
  mutable std::mutex mutex_;  // guards the rest
  mutable attributes about_;
  mutable bool ended_ = false;
  mutable std::uint64_t sending_ = 0;
  mutable nanos sending_since_ = 0;
};

class tracer : public std::enable_shared_from_this<tracer> {
 public:
  [[nodiscard]] static std::shared_ptr<const tracer> make(tracer_options options,
                                                          std::shared_ptr<span_sink> to);

  /// A request came, with this traceparent (empty or invalid: without one). Null: it is not traced. Without a
  /// parent, `may_begin` says whether a trace may begin with it.
  [[nodiscard]] std::shared_ptr<request_trace> begin(door via, std::string_view traceparent, nanos arrived,
                                                     bool may_begin = true) const;

  /// Finds the records of a poll that are traced.
  void begin(record_batch& polled) const;

  [[nodiscard]] nanos now() const { return options_.clock(); }

 private:
  friend class request_trace;
  tracer(tracer_options options, std::shared_ptr<span_sink> to);
  /// Never 0.
  [[nodiscard]] std::uint64_t new_id() const;

  tracer_options options_;
  policy::trace_sampler doors_;
  policy::trace_sampler kafka_;
  std::shared_ptr<span_sink> to_;
  mutable std::atomic<std::uint64_t> state_;
};

}  // namespace troupe::observe
