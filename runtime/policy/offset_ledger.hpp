#pragma once
// offset_ledger: which offset of a partition may be committed while its records finish in any order.
//
//   seq       0    1    2    3    4    5    6        handed out by add(), one a record, without gaps
//   offset   100  101  104  105  106  110  111       ascending, with gaps (compaction, transaction markers)
//   done      x    x    x    .    x    .    x
//                          |
//   committable() = 105: one past the last record of the unbroken run of finished ones. The next owner of the
//   partition starts there and meets 105 again, and also 106 and 111, which were done: at least once.
//   in_flight() = 2 (105, 110);  span() = 4 (seq 3 to 6)
//
// Kafka commits the offset of the next record to read, hence the one past (KafkaConsumer, "Offsets and
// Consumer Position"). A rebalance begins a new generation; what was in flight in an old one no longer
// counts. Complexity: one 8-byte cell of a ring a record in flight, O(1) each; the ring grows and keeps its
// memory.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace troupe::policy {

class offset_ledger {
 public:
  /// The partition was assigned (again): forgets everything in flight. Sequence numbers go on, so that an old
  /// one never means a new record.
  void reset(std::uint32_t generation);

  /// The partition was taken away: done() refuses everything and committable() is empty until reset().
  void fence() { fenced_ = true; }
  [[nodiscard]] bool fenced() const { return fenced_; }

  /// A record was polled; offsets (>= 0) come in ascending order. Returns its sequence number.
  std::uint64_t add(std::int64_t offset) {
    if (tail_ - head_ == ring_.size()) grow();
    ring_[tail_ & (ring_.size() - 1)] = offset;
    ++in_flight_;
    return tail_++;
  }

  /// A record's result is delivered. False, and nothing changes: another generation, fenced, unknown, or done
  /// before.
  bool done(std::uint32_t generation, std::uint64_t seq) {
    if (generation != generation_ || fenced_ || seq - head_ >= tail_ - head_) return false;
    std::int64_t& cell = ring_[seq & (ring_.size() - 1)];
    if (cell < 0) return false;
    cell = ~cell;
    --in_flight_;
    while (head_ != tail_ && ring_[head_ & (ring_.size() - 1)] < 0) {
      next_ = ~ring_[head_ & (ring_.size() - 1)] + 1;
      ++head_;
    }
    return true;
  }

  /// The offset to commit, if it has advanced since the last call that returned one.
  [[nodiscard]] std::optional<std::int64_t> committable();

  /// The same without taking it: nullopt until the first record of this generation is done.
  [[nodiscard]] std::optional<std::int64_t> position() const;

  /// Sequence number of the oldest unfinished record; the next one's where there is none.
  [[nodiscard]] std::uint64_t oldest() const { return head_; }
  /// Records that were added, ever.
  [[nodiscard]] std::uint64_t added() const { return tail_; }

  [[nodiscard]] std::size_t in_flight() const { return in_flight_; }  ///< records not done
  /// Records from the oldest unfinished one to the newest: what is kept here.
  [[nodiscard]] std::size_t span() const { return static_cast<std::size_t>(tail_ - head_); }
  [[nodiscard]] std::uint32_t generation() const { return generation_; }

 private:
  void grow();

  std::vector<std::int64_t> ring_;  // a power of two; ~offset once done
  std::uint64_t head_ = 0;
  std::uint64_t tail_ = 0;
  std::size_t in_flight_ = 0;
  std::int64_t next_ = -1;
  std::int64_t taken_ = -1;
  std::uint32_t generation_ = 0;
  bool fenced_ = false;
};

}  // namespace troupe::policy
