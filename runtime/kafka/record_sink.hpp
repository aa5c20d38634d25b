#pragma once
// The port through which results and dead letters go out: an idempotent producer whose delivery reports are
// what makes a record's offset committable.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/kafka/record_source.hpp"

namespace troupe::kafka {

enum class destination : std::uint8_t { results, dead_letters, parking };

/// One record to send. All views must stay valid until its delivery report: nothing is copied but key and
/// headers.
struct outgoing {
  destination to = destination::results;
  std::string_view key;    ///< data() == nullptr: none
  std::string_view value;  ///< data() == nullptr: null
  std::span<const header> headers;
  std::span<const header> more_headers;  ///< sent after `headers`
  std::int64_t timestamp_ms = 0;         ///< 0: when it is produced
  std::int32_t source_partition = -1;    ///< a record without key goes to this partition number, if it exists
  void* opaque = nullptr;
};

enum class produced : std::uint8_t { ok, queue_full, too_large, failed };

/// How one record ended. `error` empty: the broker has it.
struct delivery_report {
  void* opaque = nullptr;
  destination to = destination::results;
  bool ok = false;
  bool too_large = false;      ///< the broker refused its size
  bool bad_timestamp = false;  ///< the broker refused its timestamp: send it again without
  int code = 0;                ///< librdkafka's error code
};

class record_sink {
 public:
  virtual ~record_sink() = default;
  /// Queues one record. queue_full: nothing was taken, try again after reports. failed: failure() says why.
  virtual produced produce(const outgoing& record) = 0;
  /// Queues records in order, as many as fit at once; `stopped` says why the first one not taken was not.
  /// Cheaper than one by one for neighbours that go to the same partition.
  virtual std::size_t produce_many(std::span<const outgoing> records, produced& stopped) {
    for (std::size_t i = 0; i < records.size(); ++i)
      if ((stopped = produce(records[i])) != produced::ok) return i;
    return records.size();
  }
  /// Appends the delivery reports that are there now, at most `max`; no wait. Returns how many.
  virtual std::size_t reports(std::vector<delivery_report>& out, std::size_t max) = 0;
  /// `wake` is called (from a thread of the sink; it must not block) when reports arrive in an empty queue.
  /// Only that edge is told: take reports once after setting it, and after each wake until fewer than `max`
  /// come. Replaces an earlier one; an empty function ends it, and no call is running once this returns.
  virtual void on_reports(std::function<void()> wake) = 0;
  /// Sends what was given without lingering for more. What is given without it may wait the sink's linger, in
  /// which a partition's records gather into one request.
  virtual void hurry() = 0;
  /// Records taken and not yet reported.
  [[nodiscard]] virtual std::size_t in_flight() const = 0;
  [[nodiscard]] virtual link_status status() const = 0;
  /// Why produce() last answered failed.
  [[nodiscard]] virtual std::string failure() const { return status().reason; }
  /// The client's words for a report's code.
  [[nodiscard]] virtual std::string error_text(int code) const = 0;
  /// Drops what was not delivered (its reports say so) and closes the connections.
  virtual void close() = 0;
};

}  // namespace troupe::kafka
