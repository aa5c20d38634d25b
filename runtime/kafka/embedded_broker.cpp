#include "runtime/kafka/embedded_broker.hpp"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>

namespace troupe::kafka {
namespace {

constexpr int only_broker = 1;

void no_log(const rd_kafka_t*, int, const char*, const char*) {}

}  // namespace

struct embedded_broker::impl {
  rd_kafka_t* host = nullptr;  // the mock cluster lives in a client instance
  rd_kafka_mock_cluster_t* cluster = nullptr;
  std::string bootstrap;

  ~impl() {
    if (cluster) rd_kafka_mock_cluster_destroy(cluster);
    if (host) rd_kafka_destroy(host);
  }
};

embedded_broker::embedded_broker(const std::map<std::string, int>& topics) : impl_(std::make_unique<impl>()) {
  char error[512];
  auto* conf = rd_kafka_conf_new();
  rd_kafka_conf_set_log_cb(
      conf, no_log);  // the host complains that it has no broker, and of every client that leaves
  impl_->host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
  if (!impl_->host) {
    rd_kafka_conf_destroy(conf);
    throw std::runtime_error(std::string("embedded broker: ") + error);
  }
  impl_->cluster = rd_kafka_mock_cluster_new(impl_->host, only_broker);
  if (!impl_->cluster) throw std::runtime_error("embedded broker: no port is free on the loopback");
  rd_kafka_mock_group_initial_rebalance_delay_ms(impl_->cluster,
                                                 0);  // a group of one need not wait for more members
  bool first = true;
  for (const auto& [topic, partitions] : topics) {
    // A request that comes while the mock's thread ends the one before is overlooked for a second.
    if (!std::exchange(first, false)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const auto code = rd_kafka_mock_topic_create(impl_->cluster, topic.c_str(), partitions, 1);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
      throw std::runtime_error("embedded broker: topic '" + topic + "': " + rd_kafka_err2str(code));
  }
  impl_->bootstrap = rd_kafka_mock_cluster_bootstraps(impl_->cluster);
}

embedded_broker::~embedded_broker() = default;

const std::string& embedded_broker::bootstrap() const {
  return impl_->bootstrap;
}

void embedded_broker::set_down(bool down) {
  if (down)
    rd_kafka_mock_broker_set_down(impl_->cluster, only_broker);
  else
    rd_kafka_mock_broker_set_up(impl_->cluster, only_broker);
}

}  // namespace troupe::kafka
