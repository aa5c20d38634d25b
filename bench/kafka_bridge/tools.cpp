#include "bench/kafka_bridge/tools.hpp"

#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>

namespace troupe::bench {
namespace {

rd_kafka_t* client(rd_kafka_type_t type, const std::string& brokers,
                   const std::vector<std::pair<const char*, const char*>>& more) {
  char error[512];
  auto* conf = rd_kafka_conf_new();
  rd_kafka_conf_set(conf, "bootstrap.servers", brokers.c_str(), error, sizeof error);
  for (const auto& [k, v] : more)
    if (rd_kafka_conf_set(conf, k, v, error, sizeof error) != RD_KAFKA_CONF_OK)
      throw std::runtime_error(error);
  auto* rk = rd_kafka_new(type, conf, error, sizeof error);
  if (!rk) throw std::runtime_error(error);
  return rk;
}

double cpu_of(int pid) {
  std::ifstream f("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(f)), {});
  const auto at = text.rfind(')');
  if (at == std::string::npos) return 0;
  std::istringstream in(text.substr(at + 2));
  std::string skip;
  for (int i = 0; i < 11; ++i) in >> skip;
  double user = 0, system = 0;
  in >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::int64_t peak_rss(int pid) {
  std::ifstream f("/proc/" + std::to_string(pid) + "/status");
  std::string line;
  while (std::getline(f, line))
    if (line.rfind("VmHWM:", 0) == 0) return std::atoll(line.c_str() + 6);
  return 0;
}

int partitions_of(rd_kafka_t* rk, const std::string& topic) {
  auto* t = rd_kafka_topic_new(rk, topic.c_str(), nullptr);
  const rd_kafka_metadata_t* m = nullptr;
  int n = 0;
  if (rd_kafka_metadata(rk, 0, t, &m, 10'000) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    if (m->topic_cnt == 1) n = m->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(m);
  }
  rd_kafka_topic_destroy(t);
  return n;
}

}  // namespace

void make_topic(const std::string& brokers, const std::string& topic, int partitions) {
  auto* rk = client(RD_KAFKA_PRODUCER, brokers, {});
  auto* queue = rd_kafka_queue_new(rk);
  char error[256];
  auto* t = rd_kafka_NewTopic_new(topic.c_str(), partitions, 1, error, sizeof error);
  rd_kafka_CreateTopics(rk, &t, 1, nullptr, queue);
  if (auto* e = rd_kafka_queue_poll(queue, 15'000)) rd_kafka_event_destroy(e);
  rd_kafka_NewTopic_destroy(t);
  rd_kafka_queue_destroy(queue);
  for (int i = 0; i < 100 && partitions_of(rk, topic) != partitions; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  rd_kafka_destroy(rk);
}

std::size_t fill(const std::string& brokers, const std::string& topic, std::int64_t records,
                 const std::string& model, int distinct) {
  auto* rk =
      client(RD_KAFKA_PRODUCER, brokers,
             {{"linger.ms", "20"}, {"batch.size", "1000000"}, {"queue.buffering.max.messages", "500000"}});
  const int partitions = partitions_of(rk, topic);
  if (partitions < 1) throw std::runtime_error("no topic " + topic);
  auto* t = rd_kafka_topic_new(rk, topic.c_str(), nullptr);
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> value(-0.12, 0.12);
  std::vector<std::string> rows;
  for (int i = 0; i < distinct; ++i) {
    std::string s = "],\"model\":\"" + model + "\",\"customer\":\"acct-0001234567\",\"ts\":1700000000000}";
    std::string f;
    char number[32];
    for (int k = 0; k < 10; ++k) {
      std::snprintf(number, sizeof number, "%s%.6f", k ? "," : "", value(random));
      f += number;
    }
    rows.push_back(f + s);
  }
  std::string text;
  for (std::int64_t i = 0; i < records; ++i) {
    char head[80];
    std::snprintf(head, sizeof head, "{\"request_id\":\"fill-%012lld\",\"features\":[",
                  static_cast<long long>(i));
    text = head + rows[static_cast<std::size_t>(i % distinct)];
    while (rd_kafka_produce(t, static_cast<std::int32_t>((i >> 7) % partitions), RD_KAFKA_MSG_F_COPY,
                            text.data(), text.size(), nullptr, 0, nullptr) != 0)
      rd_kafka_poll(rk, 10);
    if ((i & 1023) == 0) rd_kafka_poll(rk, 0);
  }
  rd_kafka_flush(rk, 120'000);
  rd_kafka_topic_destroy(t);
  rd_kafka_destroy(rk);
  return text.size();
}

watched watch(const std::string& brokers, const std::string& topic, std::int64_t skip, std::int64_t count,
              int pid, bool committed) {
  auto* rk =
      client(RD_KAFKA_CONSUMER, brokers,
             {{"group.id", "watch"}, {"isolation.level", committed ? "read_committed" : "read_uncommitted"}});
  const int partitions = partitions_of(rk, topic);
  auto total = [&] {
    std::int64_t sum = 0;
    for (int p = 0; p < partitions; ++p) {
      std::int64_t low = 0, high = 0;
      if (rd_kafka_query_watermark_offsets(rk, topic.c_str(), p, &low, &high, 10'000) ==
          RD_KAFKA_RESP_ERR_NO_ERROR)
        sum += high;
    }
    return sum;
  };
  using clock = std::chrono::steady_clock;
  watched w;
  const std::int64_t base = 0;  // topics are new: counted from nothing, so a fast start is not missed
  std::int64_t first = -1;
  double cpu = 0;
  clock::time_point from, moved = clock::now();
  std::int64_t last = -1;
  for (;;) {
    const std::int64_t n = total() - base;
    const auto now = clock::now();
    if (first < 0 && n >= skip) {
      first = n;
      from = now;
      cpu = cpu_of(pid);
    }
    if (n != last) moved = now;
    last = n;
    if (n >= count) {
      w.seconds = std::chrono::duration<double>(now - from).count();
      w.cpu_seconds = cpu_of(pid) - cpu;
      w.records = n - first;
      break;
    }
    if (now - moved > std::chrono::seconds(30)) {
      rd_kafka_destroy(rk);
      throw std::runtime_error("only " + std::to_string(n) + " of " + std::to_string(count) +
                               " records arrived in " + topic);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  w.peak_rss_kb = peak_rss(pid);
  rd_kafka_destroy(rk);
  return w;
}

}  // namespace troupe::bench
