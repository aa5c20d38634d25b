#include "runtime/kafka/librdkafka_source.hpp"

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace troupe::kafka {
namespace {

constexpr int poll_ms = 50;
constexpr std::size_t chunk = 256;

[[nodiscard]] nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Owns what was polled into one batch: keys and values are views into these messages.
struct messages_owner {
  std::vector<rd_kafka_message_t*> messages;
  ~messages_owner() {
    for (auto* m : messages) rd_kafka_message_destroy(m);
  }
};

class librdkafka_queue final : public partition_queue {
 public:
  librdkafka_queue(rd_kafka_t* consumer, std::string topic, std::int32_t partition, std::uint32_t generation,
                   link_monitor& link)
      : consumer_(consumer),
        topic_(std::make_shared<const std::string>(std::move(topic))),
        partition_(partition),
        generation_(generation),
        link_(link),
        queue_(rd_kafka_queue_get_partition(consumer, topic_->c_str(), partition)) {
    rd_kafka_queue_forward(queue_, nullptr);  // before the assignment: nothing may reach the main queue
  }

  ~librdkafka_queue() override { fence(); }

  const std::shared_ptr<const std::string>& topic() const override { return topic_; }
  std::int32_t partition() const override { return partition_; }
  std::uint32_t generation() const override { return generation_; }

  std::size_t poll(record_batch& batch, std::size_t max_records, std::size_t max_bytes) override {
    const std::lock_guard lock(mutex_);
    if (fenced_) return 0;
    std::shared_ptr<messages_owner> owner;
    std::size_t taken = 0;
    std::size_t bytes = 0;
    rd_kafka_message_t* got[chunk];
    while (taken < max_records && bytes < max_bytes) {
      // One at a time near the byte limit, so that it is overrun by one record at most.
      const std::size_t room = max_bytes - bytes;
      const std::size_t want = std::min({chunk, max_records - taken, std::max<std::size_t>(1, room / largest_)});
      const auto n = rd_kafka_consume_batch_queue(queue_, 0, got, want);
      if (n <= 0) break;
      if (!owner) {
        owner = std::make_shared<messages_owner>();
        owner->messages.reserve(std::min(max_records, chunk));
        batch.records.reserve(std::min(max_records, chunk));
      }
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        auto* m = got[i];
        owner->messages.push_back(m);
        if (m->err) {
          if (m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) link_.error(m->err, rd_kafka_message_errstr(m));
          continue;
        }
        record& r = batch.records.emplace_back();
        r.offset = m->offset;
        r.value = {static_cast<const char*>(m->payload), m->len};
        if (m->key) r.key = {static_cast<const char*>(m->key), m->key_len};
        rd_kafka_timestamp_type_t kind{};
        r.timestamp_ms = rd_kafka_message_timestamp(m, &kind);
        if (r.timestamp_ms < 0) r.timestamp_ms = batch.arrived_ms;
        const std::size_t size = m->len + m->key_len + take_headers(batch, r, m);
        largest_ = std::max(largest_, size);
        bytes += size;
        ++taken;
      }
      position_.store(got[n - 1]->offset + 1, std::memory_order_relaxed);
      if (static_cast<std::size_t>(n) < want) break;
    }
    if (largest_ > 1024) largest_ -= largest_ / 16;  // forgets an unusually large record
    if (!owner) return 0;
    batch.bytes += bytes;
    if (batch.storage) {  // a second poll into the same batch
      auto both = std::make_shared<std::pair<std::shared_ptr<void>, std::shared_ptr<messages_owner>>>(batch.storage, owner);
      batch.storage = both;
    } else {
      batch.storage = owner;
    }
    if (taken) link_.works();
    return taken;
  }

  void on_records(std::function<void()> wake) override {
    {
      const std::lock_guard lock(wake_mutex_);
      wake_ = std::move(wake);
    }
    const std::lock_guard lock(mutex_);
    if (!fenced_) rd_kafka_queue_cb_event_enable(queue_, &librdkafka_queue::woken, this);
  }

  bool store(std::int64_t next_offset) override {
    const std::lock_guard lock(mutex_);
    if (fenced_) return false;
    auto* list = rd_kafka_topic_partition_list_new(1);
    auto* entry = rd_kafka_topic_partition_list_add(list, topic_->c_str(), partition_);
    entry->offset = next_offset;
    const auto error = rd_kafka_offsets_store(consumer_, list);
    const bool ok = error == RD_KAFKA_RESP_ERR_NO_ERROR && entry->err == RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_destroy(list);
    if (ok) stored_ = next_offset;
    return ok;
  }

  void rewind() override {
    const std::lock_guard lock(mutex_);
    if (fenced_) return;
    auto* list = rd_kafka_topic_partition_list_new(1);
    auto* entry = rd_kafka_topic_partition_list_add(list, topic_->c_str(), partition_);
    std::int64_t to = stored_;
    if (to < 0 && rd_kafka_committed(consumer_, list, 5000) == RD_KAFKA_RESP_ERR_NO_ERROR) to = entry->offset;
    entry->offset = to >= 0 ? to : RD_KAFKA_OFFSET_BEGINNING;
    if (auto* error = rd_kafka_seek_partitions(consumer_, list, 5000)) {
      const std::string why = rd_kafka_error_string(error);
      rd_kafka_error_destroy(error);
      rd_kafka_topic_partition_list_destroy(list);
      throw std::runtime_error("can't read " + *topic_ + "/" + std::to_string(partition_) + " again: " + why);
    }
    rd_kafka_topic_partition_list_destroy(list);
  }

  std::int64_t lag() const override {
    const std::lock_guard lock(mutex_);
    if (fenced_) return -1;
    std::int64_t low = 0, high = 0;
    if (rd_kafka_get_watermark_offsets(consumer_, topic_->c_str(), partition_, &low, &high) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        high < 0)
      return -1;
    const auto at = position_.load(std::memory_order_relaxed);
    return at < 0 ? -1 : std::max<std::int64_t>(0, high - at);
  }

  /// No store, poll or wake from now on.
  void fence() {
    {
      const std::lock_guard lock(mutex_);
      if (fenced_) return;
      fenced_ = true;
      rd_kafka_queue_cb_event_enable(queue_, nullptr, nullptr);
      rd_kafka_queue_destroy(queue_);
    }
    const std::lock_guard lock(wake_mutex_);
    wake_ = {};
  }

 private:
  static void woken(rd_kafka_t*, void* opaque) {
    auto* self = static_cast<librdkafka_queue*>(opaque);
    const std::lock_guard lock(self->wake_mutex_);
    if (self->wake_) self->wake_();
  }

  static std::size_t take_headers(record_batch& batch, record& r, rd_kafka_message_t* m) {
    rd_kafka_headers_t* headers = nullptr;
    if (rd_kafka_message_headers(m, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return 0;
    std::size_t bytes = 0;
    r.headers_begin = static_cast<std::uint32_t>(batch.headers.size());
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (std::size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; ++i) {
      batch.headers.push_back({name, {static_cast<const char*>(value), size}});
      bytes += batch.headers.back().name.size() + size;
    }
    r.headers_count = static_cast<std::uint32_t>(batch.headers.size()) - r.headers_begin;
    return bytes;
  }

  rd_kafka_t* consumer_;
  std::shared_ptr<const std::string> topic_;
  std::int32_t partition_;
  std::uint32_t generation_;
  link_monitor& link_;
  rd_kafka_queue_t* queue_;
  mutable std::mutex mutex_;
  bool fenced_ = false;
  std::int64_t stored_ = -1;
  std::size_t largest_ = 256;
  std::atomic<std::int64_t> position_{-1};
  std::mutex wake_mutex_;
  std::function<void()> wake_;
};

class librdkafka_source final : public record_source {
 public:
  explicit librdkafka_source(const source_options& o) : options_(o) {
    auto* conf = rd_kafka_conf_new();
    try {
      set_property(conf, "bootstrap.servers", o.brokers);
      set_property(conf, "client.id", "troupe");
      set_property(conf, "group.id", o.group);
      // Cooperative rebalancing is sound from 2.10 on; before, an assignment could be lost between two rebalances.
      set_property(conf, "partition.assignment.strategy",
                   rd_kafka_version() >= 0x020a00ff ? "cooperative-sticky" : "range");
      set_property(conf, "auto.offset.reset", "earliest");
      set_property(conf, "enable.auto.offset.store", "false");
      set_property(conf, "auto.commit.interval.ms", "1000");
      set_property(conf, "session.timeout.ms", "6000");
      set_property(conf, "heartbeat.interval.ms", "1000");
      set_property(conf, "socket.nagle.disable", "true");
      set_property(conf, "socket.keepalive.enable", "true");
      set_property(conf, "reconnect.backoff.max.ms", "2000");
      set_property(conf, "fetch.queue.backoff.ms", "1");
      set_property(conf, "fetch.wait.max.ms", "100");
      set_property(conf, "fetch.error.backoff.ms", "100");
      set_property(conf, "queued.min.messages", "10000");
      set_property(conf, "queued.max.messages.kbytes", std::to_string(std::max<std::size_t>(64, o.prefetch_bytes / 1024)));
      set_property(conf, "fetch.message.max.bytes", "1048576");
      set_property(conf, "fetch.max.bytes", "8388608");
      set_property(conf, "receive.message.max.bytes", "104857600");
      set_properties(conf, o.own, false);
    } catch (...) {
      rd_kafka_conf_destroy(conf);
      throw;
    }
    rd_kafka_conf_set_opaque(conf, this);
    rd_kafka_conf_set_rebalance_cb(conf, [](rd_kafka_t*, rd_kafka_resp_err_t error,
                                            rd_kafka_topic_partition_list_t* list, void* self) {
      static_cast<librdkafka_source*>(self)->rebalance(error, list);
    });
    rd_kafka_conf_set_error_cb(conf, [](rd_kafka_t*, int code, const char* reason, void* self) {
      auto* s = static_cast<librdkafka_source*>(self);
      s->link_.error(code, reason);
      if (s->options_.log) s->options_.log(code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ? 3 : 4, "consumer", reason);
    });
    rd_kafka_conf_set_log_cb(conf, [](const rd_kafka_t* rk, int level, const char* facility, const char* text) {
      auto* s = static_cast<librdkafka_source*>(rd_kafka_opaque(rk));
      if (s && s->options_.log) s->options_.log(level, facility, text);
    });
    char error[512];
    consumer_ = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
    if (!consumer_) {
      rd_kafka_conf_destroy(conf);
      throw property_error(std::string("Kafka consumer: ") + error);
    }
    rd_kafka_poll_set_consumer(consumer_);
  }

  ~librdkafka_source() override {
    close(steady_now());
    rd_kafka_destroy(consumer_);
  }

  void start(assignment_listener& listener) override {
    listener_ = &listener;
    auto* topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, options_.topic.c_str(), RD_KAFKA_PARTITION_UA);
    rd_kafka_subscribe(consumer_, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "kafka-source");
      run();
    });
  }

  void stop_intake() override { stop_intake_ = true; }

  void close(nanos deadline) override {
    deadline_ = deadline;
    closing_ = true;
    if (thread_.joinable()) thread_.join();
  }

  link_status status() const override {
    auto s = link_.status();
    if (s.up && !joined_) return {false, false, "joining group " + options_.group};
    return s;
  }

  std::size_t assigned_partitions() const override { return assigned_; }
  std::uint64_t rebalances() const override { return rebalances_; }

 private:
  void run() {
    bool paused = false;
    while (!closing_) {
      if (auto* m = rd_kafka_consumer_poll(consumer_, poll_ms)) {
        if (m->err && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
          link_.error(m->err, rd_kafka_message_errstr(m));
          if (options_.log) options_.log(4, "consumer", rd_kafka_message_errstr(m));
        }
        rd_kafka_message_destroy(m);
      }
      if (stop_intake_ && !paused) {
        paused = true;
        auto* list = list_of_assigned();
        rd_kafka_pause_partitions(consumer_, list);
        rd_kafka_topic_partition_list_destroy(list);
      }
    }
    rd_kafka_consumer_close(consumer_);  // the rebalance callback gives everything back, then the group is left
  }

  rd_kafka_topic_partition_list_t* list_of_assigned() {
    const std::lock_guard lock(mutex_);
    auto* list = rd_kafka_topic_partition_list_new(static_cast<int>(queues_.size()));
    for (const auto& [p, q] : queues_) rd_kafka_topic_partition_list_add(list, options_.topic.c_str(), p);
    return list;
  }

  void rebalance(rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t* list) {
    ++rebalances_;
    const char* protocol = rd_kafka_rebalance_protocol(consumer_);
    const bool cooperative = protocol && std::string_view(protocol) == "COOPERATIVE";
    link_.works();
    if (error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
      std::vector<std::shared_ptr<partition_queue>> fresh;
      {
        const std::lock_guard lock(mutex_);
        ++generation_;
        for (int i = 0; i < list->cnt; ++i) {
          auto q = std::make_shared<librdkafka_queue>(consumer_, list->elems[i].topic, list->elems[i].partition,
                                                      generation_, link_);
          queues_[list->elems[i].partition] = q;
          fresh.push_back(std::move(q));
        }
        assigned_ = queues_.size();
      }
      check(cooperative ? rd_kafka_incremental_assign(consumer_, list) : nullptr, "assign");
      if (!cooperative) rd_kafka_assign(consumer_, list);
      joined_ = true;
      listener_->assigned(std::move(fresh));
      return;
    }
    const bool lost = rd_kafka_assignment_lost(consumer_) != 0;
    std::vector<std::shared_ptr<partition_queue>> gone;
    std::vector<std::shared_ptr<librdkafka_queue>> ours;
    {
      const std::lock_guard lock(mutex_);
      for (int i = 0; i < list->cnt; ++i) {
        const auto it = queues_.find(list->elems[i].partition);
        if (it == queues_.end()) continue;
        gone.push_back(it->second);
        ours.push_back(it->second);
      }
    }
    if (!gone.empty()) {
      const nanos now = steady_now();
      const nanos deadline = lost ? now : closing_ ? deadline_.load() : now + options_.drain_timeout;
      listener_->revoked(gone, lost, deadline);
      if (!lost) {
        const auto code = rd_kafka_commit(consumer_, nullptr, 0);  // what was stored
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR__NO_OFFSET && options_.log)
          options_.log(4, "commit", std::string("commit on revoke: ") + rd_kafka_err2str(code));
      }
      for (auto& q : ours) q->fence();
    }
    check(cooperative ? rd_kafka_incremental_unassign(consumer_, list) : nullptr, "unassign");
    if (!cooperative) rd_kafka_assign(consumer_, nullptr);
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < list->cnt; ++i) queues_.erase(list->elems[i].partition);
    assigned_ = queues_.size();
    if (lost) joined_ = false;
  }

  void check(rd_kafka_error_t* error, const char* what) {
    if (!error) return;
    if (options_.log) options_.log(3, what, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
  }

  source_options options_;
  rd_kafka_t* consumer_ = nullptr;
  assignment_listener* listener_ = nullptr;
  std::thread thread_;
  std::atomic<bool> closing_{false};
  std::atomic<bool> stop_intake_{false};
  std::atomic<nanos> deadline_{0};
  std::atomic<bool> joined_{false};
  std::atomic<std::size_t> assigned_{0};
  std::atomic<std::uint64_t> rebalances_{0};
  std::mutex mutex_;
  std::map<std::int32_t, std::shared_ptr<librdkafka_queue>> queues_;
  std::uint32_t generation_ = 0;
  link_monitor link_;
};

}  // namespace

std::unique_ptr<record_source> make_librdkafka_source(const source_options& options) {
  return std::make_unique<librdkafka_source>(options);
}

}  // namespace troupe::kafka
