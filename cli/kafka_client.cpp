#include "cli/kafka_client.hpp"

#include <librdkafka/rdkafka.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>

namespace troupe::cli {

struct kafka_client::reports {
  std::mutex mutex;
  std::string complaint;
  bool hopeless = false;          // credentials or certificates
  bool away = false;              // no connection came about
  std::atomic<bool> met = false;  // a broker has answered
  std::string doubt;              // the listener that may speak something else than we do
  std::string doubted;            // and the complaint that says so
  std::int64_t refused = 0;
  std::vector<std::uintptr_t> opaques;
  std::function<void(std::uintptr_t, bool)> told;
  std::unique_ptr<kafka::client_rescue> rescue;

  void complain(int code, std::string_view text) {
    auto found = kafka::judge(code, text);
    const std::lock_guard lock(mutex);
    if (hopeless && !found.refused) return;  // what follows from it
    complaint = std::move(found.text);
    hopeless = found.refused;
    away = found.away;
    if (found.doubt.empty()) return;
    doubt = std::move(found.doubt);
    doubted = text;
  }
};

void metadata_deleter::operator()(const struct rd_kafka_metadata* m) const {
  rd_kafka_metadata_destroy(m);
}

std::vector<std::pair<std::string, std::optional<std::string>>> headers_of(const rd_kafka_message_t& m) {
  std::vector<std::pair<std::string, std::optional<std::string>>> out;
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&m, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return out;
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  for (std::size_t i = 0;
       rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; ++i)
    out.emplace_back(name,
                     value ? std::optional<std::string>(std::in_place, static_cast<const char*>(value), size)
                           : std::nullopt);
  return out;
}

kafka_client::kafka_client(kafka::client_kind kind, const std::string& brokers, const kafka::properties& own,
                           const settings& ours)
    : brokers_(brokers), reports_(std::make_unique<reports>()) {
  auto* conf = rd_kafka_conf_new();
  try {
    kafka::set_property(conf, "bootstrap.servers", brokers);
    kafka::set_property(conf, "statistics.interval.ms", "1000");  // for client_rescue
    for (const auto& [name, value] : ours) kafka::set_property(conf, name, value);
    kafka::set_properties(conf, own, kind);
  } catch (...) {
    rd_kafka_conf_destroy(conf);
    throw;
  }
  reports_->rescue = std::make_unique<kafka::client_rescue>(brokers);
  rd_kafka_conf_set_opaque(conf, reports_.get());
  rd_kafka_conf_set_stats_cb(conf, [](rd_kafka_t* handle, char* json, std::size_t size, void* opaque) {
    auto& r = *static_cast<reports*>(opaque);
    r.rescue->statistics(handle, {json, size}, {});
    return 0;
  });
  rd_kafka_conf_set_error_cb(conf, [](rd_kafka_t*, int code, const char* text, void* opaque) {
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) return;  // its reasons came before it
    static_cast<reports*>(opaque)->complain(code, text);
  });
  rd_kafka_conf_set_log_cb(conf,
                           [](const rd_kafka_t* handle, int level, const char* facility, const char* line) {
                             // Nothing of it is shown: complaint() has what matters.
                             auto& r = *static_cast<reports*>(rd_kafka_opaque(handle));
                             const auto text = kafka::complaint_in(level, facility, line);
                             if (!text.empty() && !r.met) r.complain(RD_KAFKA_RESP_ERR__TRANSPORT, text);
                           });
  if (kind == kafka::client_kind::producer)
    rd_kafka_conf_set_dr_msg_cb(conf, [](rd_kafka_t*, const rd_kafka_message_t* m, void* opaque) {
      auto& r = *static_cast<reports*>(opaque);
      if (r.told) r.told(reinterpret_cast<std::uintptr_t>(m->_private), m->err == RD_KAFKA_RESP_ERR_NO_ERROR);
      if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR) return;
      const std::lock_guard lock(r.mutex);
      r.complaint = rd_kafka_err2str(m->err);
      ++r.refused;
      if (r.opaques.size() < 5) r.opaques.push_back(reinterpret_cast<std::uintptr_t>(m->_private));
    });
  client_ = kafka::make_client(kind, conf, own, "Kafka");
}

kafka_client::~kafka_client() {
  reports_->rescue->stop();
  if (client_) rd_kafka_destroy(client_);
}

void kafka_client::on_delivery(std::function<void(std::uintptr_t, bool)> told) {
  reports_->told = std::move(told);
}

std::string kafka_client::complaint() const {
  const std::lock_guard lock(reports_->mutex);
  return reports_->complaint;
}

std::int64_t kafka_client::refused() const {
  const std::lock_guard lock(reports_->mutex);
  return reports_->refused;
}

std::vector<std::uintptr_t> kafka_client::refused_opaques() const {
  const std::lock_guard lock(reports_->mutex);
  return reports_->opaques;
}

metadata_ptr kafka_client::metadata() const {
  using clock = std::chrono::steady_clock;
  const auto begin = clock::now();
  for (;;) {
    const rd_kafka_metadata_t* m = nullptr;
    const auto error = rd_kafka_metadata(client_, 1, nullptr, &m, 500);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
      reports_->met = true;
      return metadata_ptr(m);
    }
    rd_kafka_poll(client_, 0);  // complaints
    look_at_doubts();
    const std::lock_guard lock(reports_->mutex);
    // Not of the first broker alone: another one may take us.
    if (reports_->hopeless && clock::now() - begin > std::chrono::seconds(1))
      throw kafka::link_refused(reports_->complaint);
    if (clock::now() - begin < std::chrono::seconds(reports_->complaint.empty() ? 10 : 3)) continue;
    if (reports_->complaint.empty())
      throw kafka::no_broker(brokers_ + ": " + rd_kafka_err2str(error) +
                             "; look at the address, the port and kafka.properties.security.protocol");
    if (reports_->away) throw kafka::no_broker(reports_->complaint);
    throw std::runtime_error(reports_->complaint);
  }
}

void kafka_client::look_at_doubts() const {
  auto& r = *reports_;
  std::string address;
  std::string complaint;
  {
    const std::lock_guard lock(r.mutex);
    if (r.hopeless) return;
    address = std::exchange(r.doubt, {});
    complaint = r.doubted;
  }
  if (address.empty()) return;
  std::string text = kafka::mismatch(complaint, kafka::spoken_at(address));
  if (text.empty()) return;
  const std::lock_guard lock(r.mutex);
  r.complaint = std::move(text);
  r.hopeless = true;
}

std::string kafka_client::broker_setting(int broker, std::string_view name) const {
  const std::unique_ptr<rd_kafka_queue_t, decltype(&rd_kafka_queue_destroy)> queue(
      rd_kafka_queue_new(client_), &rd_kafka_queue_destroy);
  const std::unique_ptr<rd_kafka_AdminOptions_t, decltype(&rd_kafka_AdminOptions_destroy)> options(
      rd_kafka_AdminOptions_new(client_, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS), &rd_kafka_AdminOptions_destroy);
  char why[256];
  if (rd_kafka_AdminOptions_set_request_timeout(options.get(), 5000, why, sizeof why) !=
      RD_KAFKA_RESP_ERR_NO_ERROR)
    return {};
  const std::unique_ptr<rd_kafka_ConfigResource_t, decltype(&rd_kafka_ConfigResource_destroy)> resource(
      rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_BROKER, std::to_string(broker).c_str()),
      &rd_kafka_ConfigResource_destroy);
  rd_kafka_ConfigResource_t* asked = resource.get();
  rd_kafka_DescribeConfigs(client_, &asked, 1, options.get(), queue.get());
  const std::unique_ptr<rd_kafka_event_t, decltype(&rd_kafka_event_destroy)> event(
      rd_kafka_queue_poll(queue.get(), 6000), &rd_kafka_event_destroy);
  const auto* result = event ? rd_kafka_event_DescribeConfigs_result(event.get()) : nullptr;
  if (!result) return {};
  std::size_t resources = 0;
  const auto** found = rd_kafka_DescribeConfigs_result_resources(result, &resources);
  for (std::size_t r = 0; r < resources; ++r) {
    std::size_t entries = 0;
    const auto** entry = rd_kafka_ConfigResource_configs(found[r], &entries);
    for (std::size_t e = 0; e < entries; ++e) {
      const char* value = rd_kafka_ConfigEntry_value(entry[e]);
      if (rd_kafka_ConfigEntry_name(entry[e]) == name) return value ? value : "";
    }
  }
  return {};
}

int kafka_client::partitions(const std::string& topic) const {
  (void)metadata();  // says why when no broker answers
  auto* t = rd_kafka_topic_new(client_, topic.c_str(), nullptr);
  std::string why;
  int count = 0;
  for (int attempt = 0; attempt < 50 && count == 0; ++attempt) {
    if (attempt) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const rd_kafka_metadata_t* m = nullptr;
    const auto error = rd_kafka_metadata(client_, 0, t, &m, 5000);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
      why = rd_kafka_err2str(error);
      continue;
    }
    if (m->topic_cnt == 1) {
      count = m->topics[0].partition_cnt;
      why = rd_kafka_err2str(m->topics[0].err);
    }
    rd_kafka_metadata_destroy(m);
  }
  rd_kafka_topic_destroy(t);
  if (count == 0) throw std::runtime_error("topic " + topic + " at " + brokers_ + ": " + why);
  return count;
}

}  // namespace troupe::cli
