#pragma once
// transaction_heir: ends the transactions that a member left open when it died.
//
// Until brokers do so by themselves (transaction.timeout.ms, and up to 10 s more until they look), its
// partitions can't be read from their committed offsets, nor what lies behind its results by readers of what
// is committed. So each offset is committed with the committer's identity (offset metadata: "troupe MEMBER
// TRANSACTIONAL_ID"). Whoever is assigned a partition asks for it; when the group no longer has that member,
// a producer that takes its transactional id makes the broker abort what it left (InitProducerId, KIP-98;
// what Kafka's own fenceProducers does). A member that only seemed to be dead is fenced by this, and makes
// itself a new producer.

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/kafka/librdkafka_sink.hpp"

namespace troupe::kafka {

struct committer {
  std::string member;
  std::string transactional_id;
  [[nodiscard]] bool operator==(const committer&) const = default;
};

/// As offset metadata, and back; an empty transactional id: the text is somebody else's.
[[nodiscard]] std::string to_metadata(const committer& c);
[[nodiscard]] committer from_metadata(std::string_view text);

/// Works on a thread of its own, when it is told of an assignment.
class transaction_heir {
 public:
  /// `consumer`: of the group, alive as long as this. `sink`: how a producer is made; `own_ids` are left
  /// alone.
  transaction_heir(rd_kafka_s* consumer, std::string group, std::string topic, sink_options sink,
                   std::set<std::string> own_ids);
  ~transaction_heir();
  transaction_heir(const transaction_heir&) = delete;
  transaction_heir& operator=(const transaction_heir&) = delete;

  /// These partitions are ours now. Does not block.
  void assigned(std::vector<std::int32_t> partitions);
  /// Ends the thread; idempotent.
  void stop();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::kafka
