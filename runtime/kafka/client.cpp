#include "runtime/kafka/client.hpp"

#include <librdkafka/rdkafka.h>

#include <array>
#include <string_view>

namespace troupe::kafka {
namespace {

constexpr std::array producer_only = {
    std::string_view("acks"), std::string_view("request.required.acks"), std::string_view("enable.idempotence"),
    std::string_view("linger.ms"), std::string_view("queue.buffering.max.ms"), std::string_view("batch.size"),
    std::string_view("batch.num.messages"), std::string_view("compression.type"), std::string_view("compression.codec"),
    std::string_view("compression.level"), std::string_view("queue.buffering.max.messages"),
    std::string_view("queue.buffering.max.kbytes"), std::string_view("message.timeout.ms"),
    std::string_view("delivery.timeout.ms"), std::string_view("partitioner"), std::string_view("transactional.id"),
    std::string_view("transaction.timeout.ms"), std::string_view("request.timeout.ms"),
    std::string_view("message.send.max.retries"), std::string_view("retries"),
    std::string_view("sticky.partitioning.linger.ms"), std::string_view("delivery.report.only.error")};

constexpr std::array consumer_only = {
    std::string_view("group.id"), std::string_view("group.instance.id"), std::string_view("group.protocol"),
    std::string_view("partition.assignment.strategy"), std::string_view("session.timeout.ms"),
    std::string_view("heartbeat.interval.ms"), std::string_view("max.poll.interval.ms"),
    std::string_view("auto.offset.reset"), std::string_view("auto.commit.interval.ms"),
    std::string_view("enable.auto.commit"), std::string_view("enable.auto.offset.store"),
    std::string_view("queued.min.messages"), std::string_view("queued.max.messages.kbytes"),
    std::string_view("fetch.wait.max.ms"), std::string_view("fetch.queue.backoff.ms"),
    std::string_view("fetch.message.max.bytes"), std::string_view("max.partition.fetch.bytes"),
    std::string_view("fetch.max.bytes"), std::string_view("fetch.min.bytes"), std::string_view("fetch.error.backoff.ms"),
    std::string_view("isolation.level"), std::string_view("check.crcs"), std::string_view("enable.partition.eof")};

template <class List>
bool in(const List& list, const std::string& name) {
  for (const auto& item : list)
    if (item == name) return true;
  return false;
}

}  // namespace

void set_property(rd_kafka_conf_s* conf, const std::string& name, const std::string& value) {
  char error[512];
  if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), error, sizeof error) != RD_KAFKA_CONF_OK)
    throw property_error("kafka.properties." + name + ": " + error);
}

void set_properties(rd_kafka_conf_s* conf, const properties& own, bool producer) {
  for (const auto& [name, value] : own)
    if (!(producer ? in(consumer_only, name) : in(producer_only, name))) set_property(conf, name, value);
}

void link_monitor::error(int code, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR__FATAL:
      status_ = {false, true, reason};
      break;
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
      // One broker of several; the reason is worth keeping, the verdict comes with ALL_BROKERS_DOWN.
      if (!status_.up && !status_.fatal) status_.reason = reason;
      else if (!status_.fatal) last_reason_ = reason;
      break;
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
      if (!status_.fatal) status_ = {false, false, status_.reason.empty() ? (last_reason_.empty() ? reason : last_reason_) : status_.reason};
      break;
    default:
      break;
  }
}

void link_monitor::works() {
  const std::lock_guard lock(mutex_);
  status_ = {true, false, {}};
}

link_status link_monitor::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace troupe::kafka
