#pragma once
// The port through which results go out exactly once: what is produced between begin() and commit(), and the
// offsets that commit() names, become visible together or not at all (KIP-98, KIP-447).
//
//   preparing ──▶ ready ──begin()──▶ open ──commit()/abort()──▶ ending ──▶ ready (or preparing, if it was
//   fenced)
//
// Each change of phase is told through on_reports(). Delivery reports come for records that were refused
// only; the transaction they were given to can't be committed any more.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/kafka/record_sink.hpp"

namespace troupe::kafka {

/// A partition of the requests is answered up to here (the first offset that is not).
struct cut {
  std::int32_t partition = 0;
  std::uint32_t generation = 0;  ///< of the assignment (partition_queue)
  std::int64_t next_offset = 0;
};

enum class transaction_phase : std::uint8_t { preparing, ready, open, ending };

struct transaction_result {
  bool committed = false;  ///< else none of it happened: all of it may be sent again
  bool passing = false;    ///< not committed because the group changed: the next attempt may follow at once
  std::string why;         ///< empty when committed, or when abort() was called
};

class transactional_sink : public record_sink {
 public:
  [[nodiscard]] virtual transaction_phase phase() const = 0;
  /// From ready to open.
  virtual void begin() = 0;
  /// From open to ending. Refused as a whole when a cut is of an assignment that is over.
  virtual void commit(std::vector<cut> cuts) = 0;
  virtual void abort() = 0;
  /// Whether commit() would take a cut of this assignment.
  [[nodiscard]] virtual bool owns(std::int32_t partition, std::uint32_t generation) const = 0;
  /// How the transaction that was ending ended; once.
  [[nodiscard]] virtual std::optional<transaction_result> ended() = 0;
};

}  // namespace troupe::kafka
