#pragma once
// Why brokers let a producer begin no transactions, in words that name the remedy.

#include <string>
#include <string_view>

#include "runtime/policy/time.hpp"

struct rd_kafka_s;

namespace troupe::kafka {

/// What rd_kafka_init_transactions() answered to the producer of this id; `code` is librdkafka's. `rights`:
/// what the ids of all instances begin with.
[[nodiscard]] std::string transaction_refusal(int code, std::string_view words, const std::string& id,
                                              const std::string& rights, policy::nanos timeout);

/// Not empty: its broker answers as one with transactions would, and has none: what is aborted is there. To
/// be asked after a successful rd_kafka_init_transactions().
[[nodiscard]] std::string only_acts(rd_kafka_s* producer);

/// Asks for real, which ends what a producer of this id has under way: it must be nobody's. Empty: there are
/// transactions. Blocks for at most `patience`.
[[nodiscard]] std::string try_transactions(rd_kafka_s* producer, const std::string& id,
                                           const std::string& rights, policy::nanos timeout,
                                           policy::nanos patience, int* code = nullptr);

}  // namespace troupe::kafka
