#pragma once
// The port through which requests come in: a consumer group with one queue a partition.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "messages/batch.hpp"

namespace troupe::kafka {

/// One assigned partition of one generation (an assignment). Safe to call from any thread.
class partition_queue {
 public:
  virtual ~partition_queue() = default;

  [[nodiscard]] virtual const std::shared_ptr<const std::string>& topic() const = 0;
  [[nodiscard]] virtual std::int32_t partition() const = 0;
  /// Grows with every assignment of the process: tells a completion of an earlier one apart.
  [[nodiscard]] virtual std::uint32_t generation() const = 0;

  /// Appends what is there now, without waiting: at most `max_records`, and no further record once
  /// `max_bytes` are reached (so at least one, however large). Fills offset, timestamp, key, value and
  /// headers of each record, `bytes` and `storage` of the batch. Returns how many.
  virtual std::size_t poll(record_batch& batch, std::size_t max_records, std::size_t max_bytes) = 0;

  /// `wake` is called (from a thread of the source; it must not block) when records arrive in an empty queue,
  /// and when the partition's end was reached. Only that edge is told: poll once after setting it, and after
  /// each wake until poll() returns 0. Replaces an earlier one; an empty function ends it, and no call is
  /// running once this returns.
  virtual void on_records(std::function<void()> wake) = 0;

  /// Remembers `next_offset` (the first offset not yet answered) for the next commit. False once fenced.
  virtual bool store(std::int64_t next_offset) = 0;

  /// Reads again from the offset that was stored last, else from where this assignment began: what a
  /// restarted owner of this partition does. Throws std::runtime_error when the client does not manage in a
  /// few seconds.
  virtual void rewind() = 0;

  /// Records between what was polled and the partition's end, as last known; -1 unknown.
  [[nodiscard]] virtual std::int64_t lag() const = 0;
};

/// Told of assignments by the source's own thread.
class assignment_listener {
 public:
  virtual ~assignment_listener() = default;
  virtual void assigned(std::vector<std::shared_ptr<partition_queue>> queues) = 0;
  /// Must bring these partitions to rest: stop polling, let what is in flight be delivered and store() its
  /// offsets, all before `deadline` (or at once when `lost`: another member has them already). Blocks. The
  /// source then commits, fences the queues and gives the partitions back.
  virtual void revoked(const std::vector<std::shared_ptr<partition_queue>>& queues, bool lost,
                       nanos deadline) = 0;
};

/// Why the source or sink can't work at the moment. `fatal`: it will not heal by waiting (wrong credentials,
/// an unknown property); the caller says so at once.
struct link_status {
  bool up = false;
  bool fatal = false;
  std::string reason;    ///< empty while up
  bool refused = false;  ///< fatal: credentials or certificates, which no broker has ever accepted
  std::vector<std::string> more = {};  ///< reasons besides the first, such as of another topic
  bool let_in = false;  ///< it could work once: connected, authenticated, its group or producer id given
};

class record_source {
 public:
  virtual ~record_source() = default;
  /// Joins the group; returns at once. Assignments follow on the source's thread.
  virtual void start(assignment_listener& listener) = 0;
  /// Leaves the group and joins it again, soon: everything that is assigned is revoked first.
  virtual void rejoin() {}
  /// Fetches no more; queues that were handed out run dry. Part of a drain.
  virtual void stop_intake() = 0;
  /// Revokes (listener), commits what was stored and leaves the group. Idempotent.
  virtual void close(nanos deadline) = 0;
  [[nodiscard]] virtual link_status status() const = 0;
  /// Assigned partitions now, and rebalances so far.
  [[nodiscard]] virtual std::size_t assigned_partitions() const = 0;
  [[nodiscard]] virtual std::uint64_t rebalances() const = 0;
};

}  // namespace troupe::kafka
