#pragma once
// The sink over librdkafka: an idempotent producer that never gives a record up by itself. Payloads are not
// copied; delivery reports are events on the main queue, taken by reports() without waiting.
//
// A keyed record goes where Java's clients would send it (murmur2 of the key); one without key to the
// partition number it came from, when the results topic has it, and anywhere else otherwise.
//
// produce() and reports() are for one caller at a time; on_reports(), in_flight() and status() are thread
// safe.

#include <cstddef>
#include <memory>
#include <string>

#include "runtime/kafka/client.hpp"
#include "runtime/kafka/record_sink.hpp"
#include "runtime/policy/time.hpp"

struct rd_kafka_s;

namespace troupe::kafka {

struct sink_options {
  std::string brokers;
  std::string results_topic;
  std::string dead_letter_topic;
  std::string parking_topic;  ///< empty: nothing is parked
  double linger_ms = 0;  ///< what a partition waits for more, unless hurry() is called; whole milliseconds
  std::size_t queue_bytes = std::size_t{32}
                            << 20;  ///< of values; at least one record of the largest size fits
  std::size_t max_message_bytes = std::size_t{10} << 20;  ///< the broker has the last word
  /// Not empty: a transactional producer, for librdkafka_transactions. It reports refused records only.
  std::string transactional_id;
  nanos transaction_timeout = 10 * policy::second;
  properties own;
  log_function log;
  /// Empty: nobody is told. Transactional ones that break are made anew; with them it says that the broker
  /// has no transactions.
  broken_function broken;
  std::shared_ptr<policy::socket_watch> sockets = nullptr;  ///< null: nobody watches
};

class librdkafka_producer : public record_sink {
 public:
  struct fatal_error {
    int code = 0;  ///< librdkafka's; 0: there is none
    std::string words;
  };
  [[nodiscard]] virtual rd_kafka_s* handle() const = 0;
  /// A transaction of it was committed: no refusal of before holds.
  virtual void committed() = 0;
  /// Why it never works again. From any thread, also while it is closed.
  [[nodiscard]] virtual fatal_error fatal() const = 0;
};

/// Whether its properties go with one another, without asking any broker. Throws property_error.
void check_librdkafka_sink(sink_options options);

/// Throws property_error.
[[nodiscard]] std::unique_ptr<librdkafka_producer> make_librdkafka_sink(const sink_options& options);

}  // namespace troupe::kafka
