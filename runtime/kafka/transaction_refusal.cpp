#include "runtime/kafka/transaction_refusal.hpp"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <array>
#include <memory>

namespace troupe::kafka {
namespace {

constexpr const char* instead = "; without transactions: kafka.delivery: at_least_once";

constexpr std::array fencing = {RD_KAFKA_RESP_ERR__FENCED, RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
                                RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH};

}  // namespace

std::string transaction_refusal(int code, std::string_view words, const std::string& id,
                                const std::string& rights, policy::nanos timeout) {
  const std::string who = "transactional id '" + id + "'";
  switch (code) {
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
      return "the broker does not let this user have the " + who +
             ": it needs Write and Describe on ids that begin with '" + rights +
             "': kafka-acls.sh --add --allow-principal User:NAME --operation Write --operation Describe "
             "--resource-pattern-type prefixed --transactional-id " +
             rights + instead;
    case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
      return "the broker takes no transactions of kafka.transaction_timeout, " +
             std::to_string(timeout / policy::second) +
             " s: lower it, or raise the broker's transaction.max.timeout.ms";
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
      return "the broker has no transactions (" + std::string(words) + "): name another in kafka.brokers" +
             instead;
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
      return "the brokers have no coordinator for the " + who +
             " yet; if it stays so, they can't make or write their topic __transaction_state: their "
             "transaction.state.log.replication.factor must not exceed the number of brokers, and "
             "transaction.state.log.min.isr that of those that run";
    default:
      return "the broker refuses the " + who + " (" + std::string(words) + ")" + instead;
  }
}

bool is_fenced(int code) {
  return std::find(fencing.begin(), fencing.end(), code) != fencing.end();
}

bool tells_of_fencing(std::string_view line) {
  return std::any_of(fencing.begin(), fencing.end(), [&](rd_kafka_resp_err_t code) {
    return line.find(rd_kafka_err2str(code)) != std::string_view::npos;
  });
}

std::string fenced_text(const std::string& id) {
  return "another producer took over the transactional id '" + id +
         "' (fenced); if it is so again and again, two instances have the same kafka.transactional_id: give "
         "each its own";
}

std::string only_acts(rd_kafka_s* producer) {
  constexpr int ask_ms = 1'000;
  char* found = rd_kafka_clusterid(producer, ask_ms);
  const std::string cluster = found ? found : "";
  if (found) rd_kafka_mem_free(producer, found);
  // The names that librdkafka gives to its mock clusters.
  if (!cluster.starts_with("mockCluster")) return {};
  return "this broker is one of `kafka.brokers: embedded` in another process, which has no transactions: "
         "it answers as if, and gives aborted records to everybody. Name a Kafka in kafka.brokers" +
         std::string(instead);
}

std::string try_transactions(rd_kafka_s* producer, const std::string& id, const std::string& rights,
                             policy::nanos timeout, policy::nanos patience, int* code) {
  const std::unique_ptr<rd_kafka_error_t, decltype(&rd_kafka_error_destroy)> error(
      rd_kafka_init_transactions(producer, static_cast<int>(patience / policy::millisecond)),
      &rd_kafka_error_destroy);
  if (code) *code = error ? rd_kafka_error_code(error.get()) : RD_KAFKA_RESP_ERR_NO_ERROR;
  if (!error) return only_acts(producer);
  return transaction_refusal(rd_kafka_error_code(error.get()), rd_kafka_error_string(error.get()), id, rights,
                             timeout);
}

}  // namespace troupe::kafka
