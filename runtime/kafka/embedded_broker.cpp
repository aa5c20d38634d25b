#include "runtime/kafka/embedded_broker.hpp"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stdexcept>

namespace troupe::kafka {

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
  impl_->host = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), error, sizeof error);
  if (!impl_->host) throw std::runtime_error(std::string("embedded broker: ") + error);
  impl_->cluster = rd_kafka_mock_cluster_new(impl_->host, 1);
  if (!impl_->cluster) throw std::runtime_error("embedded broker: no port on the loopback");
#if RD_KAFKA_VERSION >= 0x020400ff
  rd_kafka_mock_group_initial_rebalance_delay_ms(impl_->cluster, 0);
#endif
  for (const auto& [topic, partitions] : topics) rd_kafka_mock_topic_create(impl_->cluster, topic.c_str(), partitions, 1);
  impl_->bootstrap = rd_kafka_mock_cluster_bootstraps(impl_->cluster);
}

embedded_broker::~embedded_broker() = default;

const std::string& embedded_broker::bootstrap() const { return impl_->bootstrap; }

}  // namespace troupe::kafka
