#include "runtime/kafka/admin.hpp"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <chrono>

namespace troupe::kafka {
namespace {

constexpr int slice_ms = 200;  // between two looks at what went wrong

[[nodiscard]] int milliseconds(nanos t) {
  return static_cast<int>(std::clamp<nanos>(t / 1'000'000, 1, 3'600'000));
}

}  // namespace

struct admin::impl {
  rd_kafka_t* handle = nullptr;
  log_function log;
  link_monitor link{ask_listeners()};

  ~impl() {
    if (handle) rd_kafka_destroy(handle);
  }
};

admin::admin(const std::string& brokers, const properties& own, log_function log)
    : impl_(std::make_unique<impl>()) {
  impl_->log = std::move(log);
  auto* conf = rd_kafka_conf_new();
  try {
    set_property(conf, "bootstrap.servers", brokers);
    set_property(conf, "client.id", "troupe");
    set_property(conf, "reconnect.backoff.max.ms", "500");
    set_properties(conf, own, client_kind::consumer);
  } catch (...) {
    rd_kafka_conf_destroy(conf);
    throw;
  }
  rd_kafka_conf_set_opaque(conf, impl_.get());
  rd_kafka_conf_set_error_cb(conf, [](rd_kafka_t*, int code, const char* reason, void* self) {
    static_cast<impl*>(self)->link.error(code, reason);
  });
  rd_kafka_conf_set_log_cb(conf,
                           [](const rd_kafka_t* handle, int level, const char* facility, const char* text) {
                             auto* self = static_cast<impl*>(rd_kafka_opaque(handle));
                             self->link.log(level, facility, text);
                             if (self->log) self->log(level, facility, text);
                           });
  // A consumer, because asking a producer for a topic may create it.
  impl_->handle = make_client(client_kind::consumer, conf, own, "Kafka");
}

admin::~admin() = default;

cluster_summary admin::reach(nanos timeout) {
  cluster_summary out;
  const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout);
  for (;;) {
    const rd_kafka_metadata_t* found = nullptr;
    const auto code =
        rd_kafka_metadata(impl_->handle, 1, nullptr, &found, std::min(slice_ms, milliseconds(timeout)));
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
      for (int i = 0; i < found->broker_cnt; ++i)
        out.brokers.push_back(found->brokers[i].host + (":" + std::to_string(found->brokers[i].port)));
      for (int i = 0; i < found->topic_cnt; ++i)
        if (found->topics[i].err == RD_KAFKA_RESP_ERR_NO_ERROR)
          out.topics[found->topics[i].topic] = found->topics[i].partition_cnt;
      rd_kafka_metadata_destroy(found);
      return out;
    }
    while (rd_kafka_poll(impl_->handle, 0) > 0) {
    }
    const auto link = impl_->link.status();
    if (!link.fatal && std::chrono::steady_clock::now() < end) continue;
    out.reason = link.reason.empty() ? rd_kafka_err2str(code) : link.reason;
    out.fatal = link.fatal;
    return out;
  }
}

void admin::create_topic(const std::string& name, int partitions, int replication, nanos timeout) {
  char error[512];
  auto fail = [&name](const std::string& why) {
    throw std::runtime_error("Kafka topic '" + name + "': " + why);
  };
  auto* topic = rd_kafka_NewTopic_new(name.c_str(), partitions, replication, error, sizeof error);
  if (!topic) fail(error);
  auto* options = rd_kafka_AdminOptions_new(impl_->handle, RD_KAFKA_ADMIN_OP_CREATETOPICS);
  rd_kafka_AdminOptions_set_request_timeout(options, milliseconds(timeout), error, sizeof error);
  rd_kafka_AdminOptions_set_operation_timeout(options, milliseconds(timeout), error, sizeof error);
  auto* queue = rd_kafka_queue_new(impl_->handle);
  rd_kafka_CreateTopics(impl_->handle, &topic, 1, options, queue);
  auto* event = rd_kafka_queue_poll(queue, milliseconds(timeout) + slice_ms);
  std::string why;
  if (!event) {
    why = "no answer in time";
  } else if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    why = rd_kafka_event_error_string(event);
  } else {
    std::size_t n = 0;
    const auto* results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto code = rd_kafka_topic_result_error(results[i]);
      if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) continue;
      const char* text = rd_kafka_topic_result_error_string(results[i]);
      why = text ? text : rd_kafka_err2str(code);
    }
  }
  if (event) rd_kafka_event_destroy(event);
  rd_kafka_queue_destroy(queue);
  rd_kafka_AdminOptions_destroy(options);
  rd_kafka_NewTopic_destroy(topic);
  if (why.empty()) return;
  while (rd_kafka_poll(impl_->handle, 0) > 0) {
  }
  const auto link = impl_->link.status();
  fail(link.reason.empty() ? why : why + " (" + link.reason + ")");
}

}  // namespace troupe::kafka
