#include "runtime/kafka/librdkafka_source.hpp"

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "runtime/policy/socket_watch.hpp"

namespace troupe::kafka {
namespace {

constexpr int poll_ms = 50;
constexpr int seek_ms = 5'000;
constexpr std::size_t chunk = 256;

[[nodiscard]] nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

[[nodiscard]] std::uint32_t next_generation() {
  static std::atomic<std::uint32_t> last{0};
  return ++last;
}

struct list_deleter {
  void operator()(rd_kafka_topic_partition_list_t* list) const {
    rd_kafka_topic_partition_list_destroy(list);
  }
};
using partition_list = std::unique_ptr<rd_kafka_topic_partition_list_t, list_deleter>;

[[nodiscard]] partition_list list_of(const std::string& topic, std::int32_t partition, std::int64_t offset) {
  partition_list list(rd_kafka_topic_partition_list_new(1));
  rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), partition)->offset = offset;
  return list;
}

class librdkafka_source;

std::string fenced_text(const std::string& instance_id, const std::string& group) {
  return "kafka.instance_id '" + instance_id + "' is another process's too, which joined group " + group +
         " after this one and has its place there: give each instance a kafka.instance_id of its own";
}

/// The consumer and what its callbacks need. Shared by the source, its queues and every polled batch: a
/// message must be destroyed before its consumer.
struct client {
  rd_kafka_t* handle = nullptr;
  log_function log;
  broken_function broken;
  std::string instance_id;
  std::string group;
  bool told_broken = false;
  link_monitor link{ask_listeners()};
  std::unique_ptr<client_rescue> rescue;
  std::shared_ptr<policy::socket_watch> sockets;  // null: nobody watches
  librdkafka_source* source = nullptr;  // for the rebalance callback, which only runs on the source's thread

  client() = default;
  client(const client&) = delete;
  client& operator=(const client&) = delete;
  ~client() {
    if (rescue) rescue->stop();  // it stays: librdkafka may still hand over statistics while it ends
    if (!handle) return;
    // One that librdkafka gave up closes nothing, and a rebalance that nobody serves would hold its end up.
    const bool broken_for_good = rd_kafka_fatal_error(handle, nullptr, 0) != RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_destroy_flags(handle, broken_for_good ? RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE : 0);
  }

  void say(int level, const char* facility, const std::string& text) const {
    if (log) log(level, facility, text);
  }

  void failed(int code, const char* reason) {
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
      char words[512] = "";
      const bool fenced =
          rd_kafka_fatal_error(handle, words, sizeof words) == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
      const std::string why = fenced ? fenced_text(instance_id, group) : words;
      link.broken(why);
      if (std::exchange(told_broken, true)) return;
      if (broken)
        broken(fenced, why);
      else
        say(3, "FATAL", why);
      return;
    }
    const std::string why = code == RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT ? session_text() : reason;
    link.error(code, why);
    say(code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ? 3 : 4,
        rd_kafka_err2name(static_cast<rd_kafka_resp_err_t>(code)), why);
  }

  [[nodiscard]] std::string session_text() const {
    std::array<char, 32> now{};
    std::size_t size = now.size();
    (void)rd_kafka_conf_get(rd_kafka_conf(handle), "session.timeout.ms", now.data(), &size);
    return "the brokers refuse a session.timeout.ms of " + std::string(now.data()) +
           ": set kafka.properties.session.timeout.ms to what they allow, from their "
           "group.min.session.timeout.ms (usually 6000) to group.max.session.timeout.ms (1800000)";
  }

  void committed(rd_kafka_resp_err_t error) const {
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR && error != RD_KAFKA_RESP_ERR__NO_OFFSET)
      say(4, "COMMIT", std::string("offsets were not committed: ") + rd_kafka_err2str(error));
  }

  void check(const char* what, rd_kafka_resp_err_t error) const {
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) say(3, what, rd_kafka_err2str(error));
  }
  void check(const char* what, rd_kafka_error_t* error) const {
    if (!error) return;
    say(3, what, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
  }
};

[[nodiscard]] client& client_of(void* opaque) {
  return *static_cast<client*>(opaque);
}

/// Owns what was polled into one batch: keys, values and headers are views into these messages.
struct polled_messages {
  std::shared_ptr<client> owner;
  std::vector<rd_kafka_message_t*> messages;
  std::shared_ptr<void> earlier;  // of the same batch

  ~polled_messages() {
    for (auto* m : messages) rd_kafka_message_destroy(m);
  }
};

class librdkafka_queue final : public partition_queue {
 public:
  librdkafka_queue(std::shared_ptr<client> owner, std::string topic, std::int32_t partition,
                   std::uint32_t generation, bool transactional)
      : client_(std::move(owner)),
        topic_(std::make_shared<const std::string>(std::move(topic))),
        partition_(partition),
        generation_(generation),
        transactional_(transactional),
        queue_(rd_kafka_queue_get_partition(client_->handle, topic_->c_str(), partition)) {
    rd_kafka_queue_forward(queue_, nullptr);  // before the assignment: nothing may reach the main queue
  }

  ~librdkafka_queue() override { fence(); }

  const std::shared_ptr<const std::string>& topic() const override { return topic_; }
  std::int32_t partition() const override { return partition_; }
  std::uint32_t generation() const override { return generation_; }

  std::size_t poll(record_batch& batch, std::size_t max_records, std::size_t max_bytes) override {
    const std::lock_guard lock(mutex_);
    if (fenced_) return 0;
    polled_messages* into = nullptr;
    std::size_t taken = 0;
    std::size_t bytes = 0;
    bool more = true;
    while (taken < max_records && bytes < max_bytes) {
      if (next_ == end_) {
        if (!more) break;
        const std::size_t want = std::min(chunk, max_records - taken);
        const auto n = rd_kafka_consume_batch_queue(queue_, 0, waiting_.data(), want);
        if (n <= 0) break;
        next_ = 0;
        end_ = static_cast<std::size_t>(n);
        more = end_ == want;
      }
      if (!into) into = open(batch);
      auto* m = waiting_[next_++];
      into->messages.push_back(m);
      if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        // The end may lie behind the last record: transaction markers are not handed out.
        if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
          position_.store(std::max(position_.load(std::memory_order_relaxed), m->offset),
                          std::memory_order_relaxed);
        else
          complain(*m);
        continue;
      }
      bytes += add(batch, m);
      ++taken;
    }
    if (taken != 0) client_->link.accepted();
    batch.bytes += bytes;
    return taken;
  }

  void on_records(std::function<void()> wake) override {
    const bool wanted = static_cast<bool>(wake);
    {
      const std::lock_guard lock(wake_mutex_);
      wake_.swap(wake);  // the old one ends outside of the lock: it may own who calls us
    }
    // librdkafka calls woken() with its queue's lock held, so that one may not be taken inside wake_mutex_.
    const std::lock_guard lock(mutex_);
    if (!fenced_ && wanted) rd_kafka_queue_cb_event_enable(queue_, &librdkafka_queue::woken, this);
  }

  bool store(std::int64_t next_offset) override {
    const std::lock_guard lock(mutex_);
    if (fenced_ || transactional_) return false;
    const auto list = list_of(*topic_, partition_, next_offset);
    if (rd_kafka_offsets_store(client_->handle, list.get()) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        list->elems[0].err != RD_KAFKA_RESP_ERR_NO_ERROR)
      return false;
    stored_ = next_offset;
    return true;
  }

  [[nodiscard]] bool fenced() const {
    const std::lock_guard lock(mutex_);
    return fenced_;
  }
  void committed(std::int64_t next_offset) {
    const std::lock_guard lock(mutex_);
    stored_ = next_offset;
  }

  void rewind() override {
    const std::lock_guard lock(mutex_);
    if (fenced_) return;
    // Without a stored offset this assignment began at its first record, whether that was the committed
    // offset or where auto.offset.reset pointed.
    const std::int64_t to = stored_ >= 0 ? stored_ : first_;
    if (to < 0) return;
    const auto list = list_of(*topic_, partition_, to);
    auto* error = rd_kafka_seek_partitions(client_->handle, list.get(), seek_ms);
    const std::string why = error ? rd_kafka_error_string(error) : rd_kafka_err2str(list->elems[0].err);
    const bool failed = error || list->elems[0].err != RD_KAFKA_RESP_ERR_NO_ERROR;
    if (error) rd_kafka_error_destroy(error);
    if (failed)
      throw std::runtime_error("Kafka: can't read " + *topic_ + "/" + std::to_string(partition_) +
                               " again from offset " + std::to_string(to) + ": " + why);
    drop_waiting();
    position_.store(to, std::memory_order_relaxed);
  }

  std::int64_t lag() const override {
    const std::lock_guard lock(mutex_);
    if (fenced_) return -1;
    std::int64_t low = 0;
    std::int64_t high = -1;
    if (rd_kafka_get_watermark_offsets(client_->handle, topic_->c_str(), partition_, &low, &high) !=
            RD_KAFKA_RESP_ERR_NO_ERROR ||
        high < 0)
      return -1;
    const auto at = position_.load(std::memory_order_relaxed);
    if (at >= 0) return std::max<std::int64_t>(0, high - at);
    // Fetched, and nothing there: the assignment began at the partition's end.
    return rd_kafka_queue_length(queue_) == 0 ? 0 : -1;
  }

  /// No store, poll, rewind or wake from now on.
  void fence() {
    {
      const std::lock_guard lock(mutex_);
      if (fenced_) return;
      fenced_ = true;
      drop_waiting();
      rd_kafka_queue_cb_event_enable(queue_, nullptr, nullptr);
      rd_kafka_queue_destroy(queue_);
    }
    std::function<void()> last;
    const std::lock_guard lock(wake_mutex_);
    wake_.swap(last);
  }

 private:
  static void woken(rd_kafka_t*, void* opaque) {
    auto* self = static_cast<librdkafka_queue*>(opaque);
    const std::lock_guard lock(self->wake_mutex_);
    if (self->wake_) self->wake_();
  }

  [[nodiscard]] polled_messages* open(record_batch& batch) const {
    auto messages = std::make_shared<polled_messages>();
    messages->owner = client_;
    messages->earlier = std::move(batch.storage);
    const std::size_t n = end_ - next_;
    messages->messages.reserve(n);
    if (batch.records.empty()) batch.records.reserve(n);
    auto* raw = messages.get();
    batch.storage = std::move(messages);
    return raw;
  }

  void complain(const rd_kafka_message_t& m) const {
    const std::string text = *topic_ + "/" + std::to_string(partition_) + ": " + rd_kafka_message_errstr(&m);
    client_->link.error(m.err, text);
    client_->say(4, "FETCH", text);
  }

  /// Returns its size in bytes.
  std::size_t add(record_batch& batch, rd_kafka_message_t* m) {
    record& r = batch.records.emplace_back();
    r.offset = m->offset;
    if (m->payload) r.value = {static_cast<const char*>(m->payload), m->len};
    if (m->key) r.key = {static_cast<const char*>(m->key), m->key_len};
    rd_kafka_timestamp_type_t kind{};
    r.timestamp_ms = rd_kafka_message_timestamp(m, &kind);
    if (r.timestamp_ms < 0) r.timestamp_ms = batch.arrived_ms;
    if (first_ < 0) first_ = m->offset;
    position_.store(m->offset + 1, std::memory_order_relaxed);
    return m->len + m->key_len + take_headers(batch, r, m);
  }

  static std::size_t take_headers(record_batch& batch, record& r, rd_kafka_message_t* m) {
    rd_kafka_headers_t* headers = nullptr;
    if (rd_kafka_message_headers(m, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return 0;
    std::size_t bytes = 0;
    r.headers_begin = static_cast<std::uint32_t>(batch.headers.size());
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (std::size_t i = 0;
         rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; ++i) {
      header& h = batch.headers.emplace_back();
      h.name = name;
      if (value) h.value = {static_cast<const char*>(value), size};
      bytes += h.name.size() + h.value.size();
    }
    r.headers_count = static_cast<std::uint32_t>(batch.headers.size()) - r.headers_begin;
    return bytes;
  }

  void drop_waiting() {
    while (next_ < end_) rd_kafka_message_destroy(waiting_[next_++]);
  }

  std::shared_ptr<client> client_;
  std::shared_ptr<const std::string> topic_;
  std::int32_t partition_;
  std::uint32_t generation_;
  const bool transactional_;
  rd_kafka_queue_t* queue_;
  mutable std::mutex mutex_;
  bool fenced_ = false;
  std::int64_t first_ = -1;
  std::int64_t stored_ = -1;
  std::array<rd_kafka_message_t*, chunk>
      waiting_{};  // taken from librdkafka, but beyond the last poll's byte limit
  std::size_t next_ = 0;
  std::size_t end_ = 0;
  std::atomic<std::int64_t> position_{-1};
  std::mutex wake_mutex_;
  std::function<void()> wake_;
};

/// The partitions that are assigned now.
class librdkafka_group final : public consumer_group {
 public:
  librdkafka_group(std::shared_ptr<client> owner, std::string topic)
      : client_(std::move(owner)), topic_(std::move(topic)) {}

  rd_kafka_s* consumer() const override { return client_->handle; }
  const std::string& topic() const override { return topic_; }
  bool owns(std::int32_t partition, std::uint32_t generation) const override {
    const auto q = find(partition);
    return q && q->generation() == generation && !q->fenced();
  }
  void committed(std::int32_t partition, std::uint32_t generation, std::int64_t next_offset) override {
    if (const auto q = find(partition); q && q->generation() == generation) q->committed(next_offset);
  }

  mutable std::mutex mutex;
  std::map<std::int32_t, std::shared_ptr<librdkafka_queue>> queues;

 private:
  [[nodiscard]] std::shared_ptr<librdkafka_queue> find(std::int32_t partition) const {
    const std::lock_guard lock(mutex);
    const auto it = queues.find(partition);
    return it == queues.end() ? nullptr : it->second;
  }

  std::shared_ptr<client> client_;
  std::string topic_;
};

/// Brokers decide who gets which partition, and after which silence somebody is gone (KIP-848).
[[nodiscard]] bool by_brokers(const source_options& o) {
  const auto protocol = o.own.find("group.protocol");
  return protocol != o.own.end() && protocol->second == "consumer";
}

/// All but the callbacks.
void configure(rd_kafka_conf_t* conf, const source_options& o) {
  auto set = [conf](const char* name, const std::string& value) { set_property(conf, name, value); };
  const auto kib = [](std::size_t bytes) { return std::to_string(std::max<std::size_t>(64, bytes / 1024)); };
  set("bootstrap.servers", o.brokers);
  set("client.id", "troupe");
  set("group.id", o.group);
  if (!o.instance_id.empty()) set("group.instance.id", o.instance_id);
  if (!by_brokers(o)) {
    // Cooperative rebalancing is sound from librdkafka 2.10 on (confluentinc/librdkafka#4059).
    set("partition.assignment.strategy", rd_kafka_version() >= 0x020a00ff ? "cooperative-sticky" : "range");
    set("session.timeout.ms", std::to_string(o.session_timeout_ms));
    set("heartbeat.interval.ms", std::to_string(std::clamp(o.session_timeout_ms / 6, 100, 1'000)));
  }
  set("max.poll.interval.ms", std::to_string(std::max<nanos>(300'000, o.drain_timeout / 1'000'000 + 60'000)));
  set("auto.offset.reset", "earliest");
  set("enable.partition.eof", "true");  // for lag()
  set("enable.auto.offset.store", "false");
  if (o.transactional)
    set("enable.auto.commit", "false");
  else
    set("auto.commit.interval.ms", "1000");
  set("statistics.interval.ms", "1000");  // for link_monitor
  set("socket.nagle.disable", "true");
  set("socket.keepalive.enable", "true");
  set("reconnect.backoff.max.ms", "2000");
  set("fetch.queue.backoff.ms", "1");
  set("fetch.wait.max.ms", std::to_string(o.fetch_wait_ms));
  set("fetch.error.backoff.ms", "100");
  set("queued.min.messages", std::to_string(o.prefetch_records));
  set("queued.max.messages.kbytes", kib(o.prefetch_bytes));
  // A record that is larger than these still comes, alone.
  set("fetch.message.max.bytes", "1048576");
  set("fetch.max.bytes", "8388608");
  set("receive.message.max.bytes", "104857600");
  set_properties(conf, o.own, client_kind::consumer);
}

class librdkafka_source final : public librdkafka_record_source {
 public:
  explicit librdkafka_source(const source_options& o)
      : options_(o),
        client_(std::make_shared<client>()),
        group_(std::make_shared<librdkafka_group>(client_, o.topic)) {
    client_->log = o.log;
    client_->broken = o.broken;
    client_->instance_id = o.instance_id;
    client_->group = o.group;
    auto* conf = rd_kafka_conf_new();
    try {
      configure(conf, o);
    } catch (...) {
      rd_kafka_conf_destroy(conf);
      throw;
    }
    client_->source = this;
    client_->sockets = o.sockets;
    if (o.sockets) {
      rd_kafka_conf_set_connect_cb(conf, [](int fd, const sockaddr* to, int size, const char*, void* opaque) {
        return connect_watched(*client_of(opaque).sockets, fd, to, size);
      });
      rd_kafka_conf_set_closesocket_cb(
          conf, [](int fd, void* opaque) { return close_watched(*client_of(opaque).sockets, fd); });
    }
    client_->rescue = std::make_unique<client_rescue>(options_.brokers);
    rd_kafka_conf_set_opaque(conf, client_.get());
    rd_kafka_conf_set_rebalance_cb(
        conf, [](rd_kafka_t*, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t* list,
                 void* opaque) { client_of(opaque).source->rebalance(error, list); });
    rd_kafka_conf_set_offset_commit_cb(
        conf, [](rd_kafka_t*, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t*, void* opaque) {
          client_of(opaque).committed(error);
        });
    rd_kafka_conf_set_error_cb(conf, [](rd_kafka_t*, int code, const char* reason, void* opaque) {
      client_of(opaque).failed(code, reason);
    });
    rd_kafka_conf_set_stats_cb(conf, [](rd_kafka_t* handle, char* json, std::size_t size, void* opaque) {
      auto& c = client_of(opaque);
      c.link.statistics({json, size});
      c.rescue->statistics(handle, {json, size}, c.log);
      return 0;
    });
    rd_kafka_conf_set_log_cb(conf,
                             [](const rd_kafka_t* handle, int level, const char* facility, const char* text) {
                               auto& c = client_of(rd_kafka_opaque(handle));
                               c.link.log(level, facility, text);
                               if (std::string_view(facility) != "FATAL")  // failed() says it better
                                 c.say(level, facility, text);
                             });
    client_->handle = make_client(client_kind::consumer, conf, o.own, "Kafka consumer");
    rd_kafka_poll_set_consumer(client_->handle);
  }

  ~librdkafka_source() override {
    close(steady_now());
    if (!thread_started_) rd_kafka_consumer_close(client_->handle);
  }

  void start(assignment_listener& listener) override {
    listener_ = &listener;
    const auto topics = list_of(options_.topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_OFFSET_INVALID);
    if (const auto error = rd_kafka_subscribe(client_->handle, topics.get());
        error != RD_KAFKA_RESP_ERR_NO_ERROR)
      throw std::runtime_error("Kafka: can't subscribe to " + options_.topic + ": " +
                               rd_kafka_err2str(error));
    thread_started_ = true;
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "kafka-source");
      run();
    });
  }

  void stop_intake() override { stop_intake_ = true; }

  void rejoin() override { rejoin_ = true; }

  void close(nanos deadline) override {
    deadline_ = deadline;
    closing_ = true;
    if (thread_.joinable()) thread_.join();
  }

  link_status status() const override {
    auto s = client_->link.status();
    if (!s.up || joined_) return s;
    std::string why = "joining group " + options_.group;
    // Brokers without it are left in silence, and asked again and again.
    if (by_brokers(options_))
      why +=
          "; if it stays so, the brokers have no kafka.properties.group.protocol: consumer, which is Kafka "
          "4.0's: remove it";
    s.up = false;
    s.reason = std::move(why);
    return s;
  }

  std::shared_ptr<consumer_group> group() const override { return group_; }
  std::size_t assigned_partitions() const override { return assigned_; }
  std::uint64_t rebalances() const override { return rebalances_; }

 private:
  void run() {
    auto* handle = client_->handle;
    bool paused = false;
    while (!closing_) {
      if (auto* m = rd_kafka_consumer_poll(handle, poll_ms)) {
        if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
          client_->failed(m->err, rd_kafka_message_errstr(m));
        rd_kafka_message_destroy(m);
      }
      if (stop_intake_ && !paused) {
        paused = true;
        pause();
      }
      if (rejoin_.exchange(false) && !stop_intake_ && !closing_) leave_and_join();
    }
    rd_kafka_consumer_close(handle);  // the rebalance callback gives everything back, then the group is left
    lose_all();
    while (auto* event = rd_kafka_consumer_poll(handle, 0)) rd_kafka_message_destroy(event);
  }

  /// What a client that librdkafka gave up does not give back.
  void lose_all() {
    std::vector<std::shared_ptr<partition_queue>> gone;
    std::vector<std::shared_ptr<librdkafka_queue>> ours;
    {
      const std::lock_guard lock(group_->mutex);
      for (auto& [partition, queue] : group_->queues) {
        gone.push_back(queue);
        ours.push_back(std::move(queue));
      }
      group_->queues.clear();
    }
    if (gone.empty()) return;
    joined_ = false;
    assigned_ = 0;
    listener_->revoked(gone, true, steady_now());
    for (auto& q : ours) q->fence();
  }

  /// Whatever it holds is revoked first, by the rebalance callback.
  void leave_and_join() {
    const auto topics = list_of(options_.topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_OFFSET_INVALID);
    client_->check("unsubscribe", rd_kafka_unsubscribe(client_->handle));
    client_->check("subscribe", rd_kafka_subscribe(client_->handle, topics.get()));
  }

  void pause() {
    partition_list list;
    {
      const std::lock_guard lock(group_->mutex);
      list.reset(rd_kafka_topic_partition_list_new(static_cast<int>(group_->queues.size())));
      for (const auto& [p, q] : group_->queues)
        rd_kafka_topic_partition_list_add(list.get(), options_.topic.c_str(), p);
    }
    rd_kafka_pause_partitions(client_->handle, list.get());
  }

  void rebalance(rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t* list) {
    const char* protocol = rd_kafka_rebalance_protocol(client_->handle);
    const bool cooperative = protocol && std::string_view(protocol) == "COOPERATIVE";
    if (error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
      assign(list, cooperative);
    else
      revoke(list, cooperative);
  }

  void assign(rd_kafka_topic_partition_list_t* list, bool cooperative) {
    std::vector<std::shared_ptr<partition_queue>> fresh;
    const auto generation = next_generation();
    {
      const std::lock_guard lock(group_->mutex);
      for (int i = 0; i < list->cnt; ++i) {
        auto q = std::make_shared<librdkafka_queue>(client_, list->elems[i].topic, list->elems[i].partition,
                                                    generation, options_.transactional);
        group_->queues[list->elems[i].partition] = q;
        fresh.push_back(std::move(q));
      }
      assigned_ = group_->queues.size();
    }
    if (cooperative)
      client_->check("assign", rd_kafka_incremental_assign(client_->handle, list));
    else
      client_->check("assign", rd_kafka_assign(client_->handle, list));
    if (stop_intake_) pause();
    ++rebalances_;
    joined_ = true;
    if (!fresh.empty()) {
      client_->link.works();
      listener_->assigned(std::move(fresh));
    }
  }

  void revoke(rd_kafka_topic_partition_list_t* list, bool cooperative) {
    const bool lost = rd_kafka_assignment_lost(client_->handle) != 0;
    std::vector<std::shared_ptr<partition_queue>> gone;
    std::vector<std::shared_ptr<librdkafka_queue>> ours;
    {
      const std::lock_guard lock(group_->mutex);
      for (int i = 0; i < list->cnt; ++i) {
        const auto it = group_->queues.find(list->elems[i].partition);
        if (it == group_->queues.end()) continue;
        gone.push_back(it->second);
        ours.push_back(it->second);
      }
    }
    if (!gone.empty()) {
      const nanos now = steady_now();
      listener_->revoked(gone, lost, lost ? now : closing_ ? deadline_.load() : now + options_.drain_timeout);
      for (auto& q : ours) q->fence();
      // Without a broker this would wait for the whole session time-out, for nothing.
      if (!lost && !options_.transactional && client_->link.status().up)
        client_->committed(rd_kafka_commit(client_->handle, nullptr, 0));
    }
    if (cooperative)
      client_->check("unassign", rd_kafka_incremental_unassign(client_->handle, list));
    else
      client_->check("unassign", rd_kafka_assign(client_->handle, nullptr));
    const std::lock_guard lock(group_->mutex);
    for (int i = 0; i < list->cnt; ++i) group_->queues.erase(list->elems[i].partition);
    assigned_ = group_->queues.size();
    if (lost) joined_ = false;
  }

  source_options options_;
  std::shared_ptr<client> client_;
  std::shared_ptr<librdkafka_group> group_;
  assignment_listener* listener_ = nullptr;
  std::thread thread_;
  bool thread_started_ = false;
  std::atomic<bool> closing_{false};
  std::atomic<bool> stop_intake_{false};
  std::atomic<bool> rejoin_{false};
  std::atomic<nanos> deadline_{0};
  std::atomic<bool> joined_{false};
  std::atomic<std::size_t> assigned_{0};
  std::atomic<std::uint64_t> rebalances_{0};
};

}  // namespace

void check_librdkafka_source(source_options options) {
  options.own = without_connection(options.own);
  options.brokers.clear();
  check_client(client_kind::consumer, options.own, [&](rd_kafka_conf_t* conf) { configure(conf, options); });
}

std::unique_ptr<librdkafka_record_source> make_librdkafka_source(const source_options& options) {
  return std::make_unique<librdkafka_source>(options);
}

}  // namespace troupe::kafka
