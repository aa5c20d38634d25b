#include "bench/kafka_bridge/bridge.hpp"

#include <librdkafka/rdkafka.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace troupe::bench {
namespace {

std::atomic<bool> stop{false};

/// Offsets of one partition in arrival order; the contiguous delivered prefix may be stored.
class ledger {
 public:
  std::uint64_t add(std::int64_t offset) {
    const std::lock_guard lock(mutex_);
    offsets_[tail_ & mask] = offset;
    done_[tail_ & mask] = 0;
    return tail_++;
  }
  void finish(std::uint64_t seq) {
    const std::lock_guard lock(mutex_);
    done_[seq & mask] = 1;
    while (head_ < tail_ && done_[head_ & mask]) next_ = offsets_[head_++ & mask] + 1;
  }
  bool take(std::int64_t& next) {
    const std::lock_guard lock(mutex_);
    if (next_ == taken_) return false;
    next = taken_ = next_;
    return true;
  }

 private:
  static constexpr std::uint64_t mask = (1U << 20) - 1;
  std::mutex mutex_;
  std::vector<std::int64_t> offsets_ = std::vector<std::int64_t>(mask + 1);
  std::vector<std::uint8_t> done_ = std::vector<std::uint8_t>(mask + 1);
  std::uint64_t head_ = 0, tail_ = 0;
  std::int64_t next_ = -1, taken_ = -1;
};

struct bridge {
  rd_kafka_t* consumer = nullptr;
  rd_kafka_t* producer = nullptr;
  rd_kafka_topic_t* out = nullptr;
  std::map<std::int32_t, std::unique_ptr<ledger>> ledgers;
  std::mutex mutex;

  ledger& of(std::int32_t partition) {
    const std::lock_guard lock(mutex);
    auto& l = ledgers[partition];
    if (!l) l = std::make_unique<ledger>();
    return *l;
  }
};

void* pack(std::int32_t partition, std::uint64_t seq) {
  return reinterpret_cast<void*>((static_cast<std::uint64_t>(partition) << 48) | seq);
}

void on_report(rd_kafka_t*, const rd_kafka_message_t* m, void* opaque) {
  if (m->err) {
    std::fprintf(stderr, "bridge: delivery failed: %s\n", rd_kafka_err2str(m->err));
    return;
  }
  const auto v = reinterpret_cast<std::uint64_t>(m->_private);
  static_cast<bridge*>(opaque)->of(static_cast<std::int32_t>(v >> 48)).finish(v & 0xffffffffffffULL);
}

void set(rd_kafka_conf_t* conf, const char* key, const std::string& value) {
  char error[256];
  if (rd_kafka_conf_set(conf, key, value.c_str(), error, sizeof error) != RD_KAFKA_CONF_OK) {
    std::fprintf(stderr, "bridge: %s\n", error);
    std::exit(2);
  }
}

void send(bridge& b, rd_kafka_message_t* m) {
  void* opaque = pack(m->partition, b.of(m->partition).add(m->offset));
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    for (;;) {
      rd_kafka_headers_t* copy = rd_kafka_headers_copy(headers);
      const auto error =
          rd_kafka_producev(b.producer, RD_KAFKA_V_RKT(b.out), RD_KAFKA_V_PARTITION(m->partition),
                            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_VALUE(m->payload, m->len),
                            RD_KAFKA_V_KEY(m->key, m->key_len), RD_KAFKA_V_HEADERS(copy),
                            RD_KAFKA_V_OPAQUE(opaque), RD_KAFKA_V_END);
      if (!error) return;
      rd_kafka_headers_destroy(copy);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }
  while (rd_kafka_produce(b.out, m->partition, RD_KAFKA_MSG_F_COPY, m->payload, m->len, m->key, m->key_len,
                          opaque) != 0)
    std::this_thread::sleep_for(std::chrono::microseconds(200));
}

void store_offsets(bridge& b, const std::string& topic) {
  auto* list = rd_kafka_topic_partition_list_new(4);
  {
    const std::lock_guard lock(b.mutex);
    for (auto& [partition, l] : b.ledgers) {
      std::int64_t next = 0;
      if (l->take(next)) rd_kafka_topic_partition_list_add(list, topic.c_str(), partition)->offset = next;
    }
  }
  if (list->cnt) rd_kafka_offsets_store(b.consumer, list);
  rd_kafka_topic_partition_list_destroy(list);
}

}  // namespace

int run_bridge(const bridge_options& o) {
  char error[512];
  bridge b;
  std::signal(SIGTERM, [](int) { stop = true; });
  std::signal(SIGINT, [](int) { stop = true; });

  auto* pc = rd_kafka_conf_new();
  set(pc, "bootstrap.servers", o.brokers);
  set(pc, "enable.idempotence", "true");
  set(pc, "linger.ms", std::to_string(o.linger_ms));
  set(pc, "socket.nagle.disable", "true");
  set(pc, "queue.buffering.max.messages", "1000000");
  rd_kafka_conf_set_dr_msg_cb(pc, on_report);
  rd_kafka_conf_set_opaque(pc, &b);
  b.producer = rd_kafka_new(RD_KAFKA_PRODUCER, pc, error, sizeof error);
  auto* cc = rd_kafka_conf_new();
  set(cc, "bootstrap.servers", o.brokers);
  set(cc, "group.id", o.group);
  set(cc, "auto.offset.reset", "earliest");
  set(cc, "enable.auto.offset.store", "false");
  set(cc, "auto.commit.interval.ms", "1000");
  set(cc, "socket.nagle.disable", "true");
  set(cc, "fetch.queue.backoff.ms", "1");
  set(cc, "queued.min.messages", "10000");
  b.consumer = rd_kafka_new(RD_KAFKA_CONSUMER, cc, error, sizeof error);
  if (!b.producer || !b.consumer) {
    std::fprintf(stderr, "bridge: %s\n", error);
    return 2;
  }
  b.out = rd_kafka_topic_new(b.producer, o.out.c_str(), nullptr);
  rd_kafka_poll_set_consumer(b.consumer);
  auto* topics = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(topics, o.in.c_str(), -1);
  rd_kafka_subscribe(b.consumer, topics);
  rd_kafka_topic_partition_list_destroy(topics);

  std::thread reports([&] {
    while (!stop) {
      rd_kafka_poll(b.producer, 50);
      store_offsets(b, o.in);
    }
  });
  auto* queue = rd_kafka_queue_get_consumer(b.consumer);
  std::vector<rd_kafka_message_t*> m(1000);
  while (!stop) {
    auto n = rd_kafka_consume_batch_queue(queue, 50, m.data(), 1);
    if (n > 0) {
      const auto more = rd_kafka_consume_batch_queue(queue, 0, m.data() + 1, m.size() - 1);
      if (more > 0) n += more;
    }
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      auto* x = m[static_cast<std::size_t>(i)];
      if (!x->err) send(b, x);
      rd_kafka_message_destroy(x);
    }
  }
  reports.join();
  rd_kafka_flush(b.producer, 10'000);
  store_offsets(b, o.in);
  rd_kafka_queue_destroy(queue);
  rd_kafka_consumer_close(b.consumer);
  rd_kafka_destroy(b.consumer);
  rd_kafka_topic_destroy(b.out);
  rd_kafka_destroy(b.producer);
  return 0;
}

}  // namespace troupe::bench
