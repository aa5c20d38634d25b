#include <librdkafka/rdkafka.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "cli/commands.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;

void show(const rd_kafka_message_t& m, bool as_json) {
  const std::string value(static_cast<const char*>(m.payload ? m.payload : ""), m.payload ? m.len : 0);
  json v = json::parse(value, nullptr, false);
  rd_kafka_timestamp_type_t kind{};
  const auto at = rd_kafka_message_timestamp(&m, &kind);
  std::string reason;
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const void* text = nullptr;
    std::size_t size = 0;
    if (rd_kafka_header_get_last(headers, "__connect.errors.exception.message", &text, &size) == RD_KAFKA_RESP_ERR_NO_ERROR)
      reason.assign(static_cast<const char*>(text), size);
  }
  if (as_json) {
    json out;
    out["topic"] = rd_kafka_topic_name(m.rkt);
    out["partition"] = m.partition;
    out["offset"] = m.offset;
    out["timestamp_ms"] = at;
    if (m.key) out["key"] = std::string(static_cast<const char*>(m.key), m.key_len);
    if (!reason.empty()) out["reason"] = reason;
    if (v.is_discarded()) out["text"] = value;
    else out["value"] = v;
    std::printf("%s\n", out.dump(-1, ' ', false, json::error_handler_t::replace).c_str());
    return;
  }
  if (!reason.empty()) {
    std::printf("%d/%lld  dead letter  %s\n", m.partition, static_cast<long long>(m.offset), reason.c_str());
  } else if (!v.is_object()) {
    std::printf("%d/%lld  %.*s\n", m.partition, static_cast<long long>(m.offset), 200, value.c_str());
  } else if (v.contains("error")) {
    std::printf("%s  %s: %s\n", v.value("request_id", "?").c_str(), v["error"].value("code", "?").c_str(),
                v["error"].value("message", "").c_str());
  } else {
    std::printf("%s  %s  %s/%s%s\n", v.value("request_id", "?").c_str(), v.contains("prediction") ? v["prediction"].dump().c_str() : "?",
                v.value("model_name", "?").c_str(), v.value("model_version", "?").c_str(),
                v.contains("fallback_from") ? (" (asked for " + v["fallback_from"].get<std::string>() + ")").c_str() : "");
  }
}

}  // namespace

int results(const results_options& o) {
  const auto loaded = settings_of(o.common, true);
  const auto& kafka = loaded.values.kafka;
  const std::string brokers = o.brokers.empty() ? kafka.brokers : o.brokers;
  const std::string topic = !o.topic.empty() ? o.topic : o.dead_letters ? kafka.dead_letter_topic : kafka.results_topic;
  const auto& stop = stop_requested();
  char error[512];
  auto* conf = rd_kafka_conf_new();
  auto set = [&](const std::string& k, const std::string& v) {
    if (rd_kafka_conf_set(conf, k.c_str(), v.c_str(), error, sizeof error) != RD_KAFKA_CONF_OK) throw std::runtime_error(error);
  };
  set("bootstrap.servers", brokers);
  set("group.id", "troupe-results");
  set("enable.auto.commit", "false");
  set("enable.partition.eof", "true");
  set("auto.offset.reset", "earliest");
  set("log_level", "2");
  for (const auto& [k, v] : kafka.properties) set(k, v);
  const std::unique_ptr<rd_kafka_t, decltype(&rd_kafka_destroy)> rk(
      rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error), &rd_kafka_destroy);
  if (!rk) throw std::runtime_error(error);
  rd_kafka_poll_set_consumer(rk.get());
  auto* t = rd_kafka_topic_new(rk.get(), topic.c_str(), nullptr);
  const rd_kafka_metadata_t* meta = nullptr;
  const auto e = rd_kafka_metadata(rk.get(), 0, t, &meta, 5000);
  rd_kafka_topic_destroy(t);
  if (e != RD_KAFKA_RESP_ERR_NO_ERROR) throw std::runtime_error(brokers + ": " + rd_kafka_err2str(e));
  const int partitions = meta->topic_cnt == 1 ? meta->topics[0].partition_cnt : 0;
  rd_kafka_metadata_destroy(meta);
  if (partitions == 0) throw std::runtime_error("topic " + topic + " at " + brokers + " does not exist");
  // What is there, then with --follow what comes; --follow alone begins at the end.
  auto* list = rd_kafka_topic_partition_list_new(partitions);
  for (int p = 0; p < partitions; ++p)
    rd_kafka_topic_partition_list_add(list, topic.c_str(), p)->offset =
        o.follow && !o.from_beginning ? RD_KAFKA_OFFSET_END : RD_KAFKA_OFFSET_BEGINNING;
  rd_kafka_assign(rk.get(), list);
  rd_kafka_topic_partition_list_destroy(list);
  int at_end = 0;
  std::int64_t shown = 0;
  while (!stop && (o.most == 0 || shown < o.most) && (o.follow || at_end < partitions)) {
    auto* m = rd_kafka_consumer_poll(rk.get(), 200);
    if (!m) continue;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) ++at_end;
    else if (!m->err) ++shown, show(*m, o.common.json);
    rd_kafka_message_destroy(m);
    if (o.follow) std::fflush(stdout);
  }
  rd_kafka_consumer_close(rk.get());
  return ok;
}

}  // namespace troupe::cli
