#pragma once
// Why brokers let a producer begin no transactions, or end none, in words that name the remedy.

#include <string>
#include <string_view>

#include "runtime/policy/time.hpp"

struct rd_kafka_s;

namespace troupe::kafka {

/// What rd_kafka_init_transactions() answered to the producer of this id; `code` is librdkafka's. `rights`:
/// what the ids of all instances begin with.
[[nodiscard]] std::string transaction_refusal(int code, std::string_view words, const std::string& id,
                                              const std::string& rights, policy::nanos timeout);

/// Whether librdkafka says with this code that another producer has the id of ours.
[[nodiscard]] bool is_fenced(int code);
/// Whether this line of its log does.
[[nodiscard]] bool tells_of_fencing(std::string_view line);
/// What has happened then, and what to do about it.
[[nodiscard]] std::string fenced_text(const std::string& id);

/// Not empty: its broker answers as one with transactions would, and has none: what is aborted is there. To
/// be asked after a successful rd_kafka_init_transactions().
[[nodiscard]] std::string only_acts(rd_kafka_s* producer);

/// Asks for real, which ends what a producer of this id has under way: it must be nobody's. Empty: there are
/// transactions. Blocks for at most `patience`.
[[nodiscard]] std::string try_transactions(rd_kafka_s* producer, const std::string& id,
                                           const std::string& rights, policy::nanos timeout,
                                           policy::nanos patience, int* code = nullptr);

}  // namespace troupe::kafka
