#include "bench/kafka_bridge/reader.hpp"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace troupe::bench {
namespace {

std::atomic<bool> stop{false};

struct handle_deleter {
  void operator()(rd_kafka_t* rk) const { rd_kafka_destroy(rk); }
};
using handle = std::unique_ptr<rd_kafka_t, handle_deleter>;

handle consumer(const std::string& brokers) {
  char error[512];
  auto* conf = rd_kafka_conf_new();
  const std::pair<const char*, std::string> settings[] = {
      {"bootstrap.servers", brokers},        {"group.id", "read-results"},
      {"isolation.level", "read_committed"}, {"enable.auto.commit", "false"},
      {"enable.partition.eof", "true"},      {"auto.offset.reset", "earliest"},
      {"fetch.queue.backoff.ms", "1"},       {"queued.min.messages", "100000"},
      {"socket.nagle.disable", "true"},      {"fetch.error.backoff.ms", "50"},
      {"reconnect.backoff.max.ms", "500"},   {"fetch.wait.max.ms", "20"}};
  for (const auto& [name, value] : settings)
    if (rd_kafka_conf_set(conf, name, value.c_str(), error, sizeof error) != RD_KAFKA_CONF_OK) {
      rd_kafka_conf_destroy(conf);
      throw std::runtime_error(error);
    }
  rd_kafka_conf_set_log_cb(conf, nullptr);  // a broker that restarts is no news here
  auto* rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
  if (!rk) {
    rd_kafka_conf_destroy(conf);
    throw std::runtime_error(error);
  }
  rd_kafka_poll_set_consumer(rk);
  return handle(rk);
}

int assign_all(rd_kafka_t* rk, const std::string& name) {
  auto* topic = rd_kafka_topic_new(rk, name.c_str(), nullptr);
  const rd_kafka_metadata_t* metadata = nullptr;
  int partitions = 0;
  if (rd_kafka_metadata(rk, 0, topic, &metadata, 15'000) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    if (metadata->topic_cnt == 1) partitions = metadata->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(metadata);
  }
  rd_kafka_topic_destroy(topic);
  if (partitions < 1) throw std::runtime_error("no topic " + name);
  auto* list = rd_kafka_topic_partition_list_new(partitions);
  for (int p = 0; p < partitions; ++p)
    rd_kafka_topic_partition_list_add(list, name.c_str(), p)->offset = RD_KAFKA_OFFSET_BEGINNING;
  const auto error = rd_kafka_assign(rk, list);
  rd_kafka_topic_partition_list_destroy(list);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) throw std::runtime_error(rd_kafka_err2str(error));
  return partitions;
}

/// The n of `"request_id":"<run>-<n>"`; -1 when there is none.
std::int64_t number_of(std::string_view value) {
  constexpr std::string_view field = "\"request_id\":\"";
  const auto at = value.find(field);
  if (at == std::string_view::npos) return -1;
  const auto begin = at + field.size();
  const auto end = value.find('"', begin);
  if (end == std::string_view::npos) return -1;
  const auto dash = value.rfind('-', end);
  if (dash == std::string_view::npos || dash < begin) return -1;
  std::int64_t n = -1;
  const auto [last, error] = std::from_chars(value.data() + dash + 1, value.data() + end, n);
  return error == std::errc() && last == value.data() + end ? n : -1;
}

std::int64_t epoch_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

read_account read_results(const reader_options& o) {
  std::signal(SIGTERM, [](int) { stop = true; });
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> arrivals(nullptr, &std::fclose);
  if (!o.arrivals.empty()) {
    arrivals.reset(std::fopen(o.arrivals.c_str(), "w"));
    if (!arrivals) throw std::runtime_error(o.arrivals + ": " + std::strerror(errno));
    std::setvbuf(arrivals.get(), nullptr, _IOLBF, 4096);  // who watches it sees each line
  }
  const auto rk = consumer(o.brokers);
  const auto partitions = static_cast<std::size_t>(assign_all(rk.get(), o.topic));
  const std::unique_ptr<rd_kafka_queue_t, decltype(&rd_kafka_queue_destroy)> queue(
      rd_kafka_queue_get_consumer(rk.get()), &rd_kafka_queue_destroy);

  read_account account;
  std::vector<std::uint8_t> seen(static_cast<std::size_t>(o.records));
  std::vector<std::int64_t> arrived(static_cast<std::size_t>(o.partitions));
  std::vector<bool> at_end(partitions);
  auto moved = std::chrono::steady_clock::now();
  std::vector<rd_kafka_message_t*> messages(2000);
  const auto take = [&](const rd_kafka_message_t& m) {
    const std::string_view value(static_cast<const char*>(m.payload), m.payload ? m.len : 0);
    const auto n = number_of(value);
    if (n < 0 || n >= o.records) {
      ++account.strange;
      return;
    }
    ++account.results;
    ++arrived[static_cast<std::size_t>(n % o.partitions)];
    if (value.find("\"error\":{") != std::string_view::npos) ++account.errors;
    if (seen[static_cast<std::size_t>(n)]++ == 0) {
      ++account.answered;
    } else {
      seen[static_cast<std::size_t>(n)] = 1;
      ++account.doubled;
    }
  };

  for (;;) {
    if (o.follow && stop) return account;
    auto n = rd_kafka_consume_batch_queue(queue.get(), 50, messages.data(), 1);
    if (n > 0)
      n += std::max<ssize_t>(
          0, rd_kafka_consume_batch_queue(queue.get(), 0, messages.data() + 1, messages.size() - 1));
    const auto now = epoch_ms();
    for (ssize_t i = 0; i < n; ++i) {
      auto* m = messages[static_cast<std::size_t>(i)];
      if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        at_end[static_cast<std::size_t>(m->partition)] = true;
      } else if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        at_end[static_cast<std::size_t>(m->partition)] = false;
        take(*m);
      }
      rd_kafka_message_destroy(m);
    }
    if (n > 0) {
      moved = std::chrono::steady_clock::now();
      for (std::size_t p = 0; p < arrived.size(); ++p) {
        if (arrived[p] && arrivals)
          std::fprintf(arrivals.get(), "%lld %zu %lld\n", static_cast<long long>(now), p,
                       static_cast<long long>(arrived[p]));
        arrived[p] = 0;
      }
    }
    if (o.follow) continue;
    bool done = true;
    for (const bool end : at_end) done = done && end;
    if (done) return account;
    if (std::chrono::steady_clock::now() - moved > std::chrono::seconds(60))
      throw std::runtime_error("nothing comes of " + o.topic + ", and not all of its ends were reached");
  }
}

}  // namespace troupe::bench
