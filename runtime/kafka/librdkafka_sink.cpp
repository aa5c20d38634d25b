#include "runtime/kafka/librdkafka_sink.hpp"

#include <librdkafka/rdkafka.h>

#include <atomic>
#include <algorithm>
#include <mutex>
#include <utility>

namespace troupe::kafka {
namespace {

constexpr std::size_t small = 65'536;  // bytes; far below any message.max.bytes

class librdkafka_sink final : public record_sink {
 public:
  explicit librdkafka_sink(const sink_options& o) : log_(o.log) {
    auto* conf = rd_kafka_conf_new();
    try {
      set_property(conf, "bootstrap.servers", o.brokers);
      set_property(conf, "client.id", "troupe");
      set_property(conf, "enable.idempotence", "true");
      set_property(conf, "message.timeout.ms", "0");  // an answer is never given up: its offset would be stuck
      set_property(conf, "linger.ms", std::to_string(o.linger_ms));
      set_property(conf, "socket.nagle.disable", "true");
      set_property(conf, "socket.keepalive.enable", "true");
      set_property(conf, "reconnect.backoff.max.ms", "2000");
      set_property(conf, "queue.buffering.max.messages", "1000000");
      set_property(conf, "queue.buffering.max.kbytes", std::to_string(std::max<std::size_t>(1024, o.queue_bytes / 1024)));
      set_property(conf, "message.max.bytes", std::to_string(o.max_message_bytes));
      set_properties(conf, o.own, true);
    } catch (...) {
      rd_kafka_conf_destroy(conf);
      throw;
    }
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
    rd_kafka_conf_set(conf, "log.queue", "true", nullptr, 0);
    char error[512];
    producer_ = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (!producer_) {
      rd_kafka_conf_destroy(conf);
      throw property_error(std::string("Kafka producer: ") + error);
    }
    rd_kafka_set_log_queue(producer_, nullptr);
    queue_ = rd_kafka_queue_get_main(producer_);
    auto* topic_conf = rd_kafka_default_topic_conf_dup(producer_);
    rd_kafka_topic_conf_set_opaque(topic_conf, this);
    rd_kafka_topic_conf_set_partitioner_cb(topic_conf, &librdkafka_sink::partition_of);
    topics_[0] = rd_kafka_topic_new(producer_, o.results_topic.c_str(), topic_conf);
    topics_[1] = rd_kafka_topic_new(producer_, o.dead_letter_topic.c_str(), nullptr);
  }

  ~librdkafka_sink() override { close(); }

  std::size_t produce_many(std::span<const outgoing> records, produced& stopped) override {
    stopped = produced::ok;
    std::size_t i = 0;
    while (i < records.size()) {
      const std::int32_t partition = partition_for(records[i]);
      std::size_t end = i;
      if (partition >= 0)
        while (end < records.size() && plain(records[end]) && records[end].value.size() <= small && records[end].to == records[i].to &&
               !records[end].key.data() && records[end].source_partition == records[i].source_partition)
          ++end;
      if (end - i < 2) {
        if ((stopped = produce(records[i])) != produced::ok) return i;
        ++i;
        continue;
      }
      run_.clear();
      for (std::size_t k = i; k < end; ++k) {
        rd_kafka_message_t m{};
        m.payload = const_cast<char*>(records[k].value.data());
        m.len = records[k].value.size();
        m._private = records[k].opaque;
        run_.push_back(m);
      }
      const int taken = rd_kafka_produce_batch(topics_[static_cast<std::size_t>(records[i].to)], partition, 0, run_.data(),
                                               static_cast<int>(run_.size()));
      in_flight_.fetch_add(static_cast<std::size_t>(taken), std::memory_order_relaxed);
      if (static_cast<std::size_t>(taken) == run_.size()) {
        i = end;
        continue;
      }
      // Small records fail for the queue's sake alone, and then all that follow do: the first `taken` are in.
      stopped = refused(run_[static_cast<std::size_t>(taken)].err);
      return i + static_cast<std::size_t>(taken);
    }
    return records.size();
  }

  produced produce(const outgoing& r) override {
    auto* topic = topics_[static_cast<std::size_t>(r.to)];
    const std::int32_t partition = partition_for(r);
    auto* value = const_cast<char*>(r.value.data());
    if (plain(r)) {
      if (rd_kafka_produce(topic, partition, 0, value, r.value.size(), r.key.data(), r.key.size(), r.opaque) == 0) {
        in_flight_.fetch_add(1, std::memory_order_relaxed);
        return produced::ok;
      }
      return refused(rd_kafka_last_error());
    }
    rd_kafka_headers_t* headers = nullptr;
    if (!r.headers.empty() || !r.more_headers.empty()) {
      headers = rd_kafka_headers_new(r.headers.size() + r.more_headers.size());
      for (const auto part : {r.headers, r.more_headers})
        for (const header& h : part)
          rd_kafka_header_add(headers, h.name.data(), static_cast<ssize_t>(h.name.size()), h.value.data(),
                              static_cast<ssize_t>(h.value.size()));
    }
    rd_kafka_vu_t vus[7];
    std::size_t n = 0;
    vus[n].vtype = RD_KAFKA_VTYPE_RKT, vus[n++].u.rkt = topic;
    vus[n].vtype = RD_KAFKA_VTYPE_PARTITION, vus[n++].u.i32 = partition;
    vus[n].vtype = RD_KAFKA_VTYPE_VALUE, vus[n].u.mem.ptr = value, vus[n++].u.mem.size = r.value.size();
    vus[n].vtype = RD_KAFKA_VTYPE_KEY, vus[n].u.mem.ptr = const_cast<char*>(r.key.data()),
    vus[n++].u.mem.size = r.key.size();
    vus[n].vtype = RD_KAFKA_VTYPE_OPAQUE, vus[n++].u.ptr = r.opaque;
    if (r.timestamp_ms) vus[n].vtype = RD_KAFKA_VTYPE_TIMESTAMP, vus[n++].u.i64 = r.timestamp_ms;
    if (headers) vus[n].vtype = RD_KAFKA_VTYPE_HEADERS, vus[n++].u.headers = headers;
    if (auto* error = rd_kafka_produceva(producer_, vus, n)) {
      const auto code = rd_kafka_error_code(error);
      rd_kafka_error_destroy(error);
      if (headers) rd_kafka_headers_destroy(headers);
      return refused(code);
    }
    in_flight_.fetch_add(1, std::memory_order_relaxed);
    return produced::ok;
  }

  std::size_t reports(std::vector<delivery_report>& out, std::size_t max) override {
    const std::lock_guard lock(reports_mutex_);
    std::size_t n = 0;
    while (n < max) {
      if (!event_) {
        event_ = rd_kafka_queue_poll(queue_, 0);
        if (!event_) break;
      }
      switch (rd_kafka_event_type(event_)) {
        case RD_KAFKA_EVENT_DR:
          while (n < max) {
            const auto* m = rd_kafka_event_message_next(event_);
            if (!m) break;
            out.push_back(report_of(*m));
            ++n;
          }
          if (n >= max && rd_kafka_event_message_count(event_) > 0) goto full;
          break;
        case RD_KAFKA_EVENT_ERROR: {
          const auto code = rd_kafka_event_error(event_);
          std::string text = rd_kafka_event_error_string(event_);
          if (code == RD_KAFKA_RESP_ERR__FATAL) {
            char why[512];
            rd_kafka_fatal_error(producer_, why, sizeof why);
            text = why;
          }
          link_.error(code, text);
          if (log_) log_(3, "producer", text);
          break;
        }
        case RD_KAFKA_EVENT_LOG: {
          const char *facility = nullptr, *text = nullptr;
          int level = 6;
          if (rd_kafka_event_log(event_, &facility, &text, &level) == 0 && log_) log_(level, facility, text);
          break;
        }
        default:
          break;
      }
      rd_kafka_event_destroy(event_);
      event_ = nullptr;
    }
  full:
    in_flight_.fetch_sub(n, std::memory_order_relaxed);
    return n;
  }

  void on_reports(std::function<void()> wake) override {
    const std::lock_guard lock(wake_mutex_);
    wake_ = std::move(wake);
    rd_kafka_queue_cb_event_enable(queue_, wake_ ? &librdkafka_sink::woken : nullptr, this);
  }

  void hurry() override {}  // nothing lingers longer than linger_ms

  std::size_t in_flight() const override { return in_flight_.load(std::memory_order_relaxed); }
  link_status status() const override { return link_.status(); }
  std::string error_text(int code) const override { return rd_kafka_err2str(static_cast<rd_kafka_resp_err_t>(code)); }

  void close() override {
    if (!producer_) return;
    on_reports({});
    if (event_) rd_kafka_event_destroy(std::exchange(event_, nullptr));
    for (auto*& t : topics_) rd_kafka_topic_destroy(std::exchange(t, nullptr));
    rd_kafka_queue_destroy(queue_);
    rd_kafka_destroy(std::exchange(producer_, nullptr));
  }

 private:
  static void woken(rd_kafka_t*, void* opaque) {
    auto* self = static_cast<librdkafka_sink*>(opaque);
    const std::lock_guard lock(self->wake_mutex_);
    if (self->wake_) self->wake_();
  }

  delivery_report report_of(const rd_kafka_message_t& m) {
    delivery_report r;
    r.opaque = m._private;
    r.to = m.rkt == topics_[1] ? destination::dead_letters : destination::results;
    r.ok = m.err == RD_KAFKA_RESP_ERR_NO_ERROR;
    r.code = m.err;
    if (r.ok) {
      link_.works();
    } else {
      r.too_large = m.err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || m.err == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
      r.bad_timestamp = m.err == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
    }
    return r;
  }

  static bool plain(const outgoing& r) {
    return r.headers.empty() && r.more_headers.empty() && r.timestamp_ms == 0;
  }

  std::int32_t partition_for(const outgoing& r) {
    return !r.key.data() && r.source_partition >= 0 && r.to == destination::results &&
                   r.source_partition < partition_count()
               ? r.source_partition
               : RD_KAFKA_PARTITION_UA;
  }

  static produced refused(rd_kafka_resp_err_t code) {
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL) return produced::queue_full;
    if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) return produced::too_large;
    return produced::failed;
  }

  /// Keyed records are spread as Java's clients do. Also where the number of partitions is learned.
  static std::int32_t partition_of(const rd_kafka_topic_t* topic, const void* key, std::size_t size, std::int32_t count,
                                   void* self, void* opaque) {
    static_cast<librdkafka_sink*>(self)->partitions_.store(count, std::memory_order_relaxed);
    return rd_kafka_msg_partitioner_murmur2_random(topic, key, size, count, self, opaque);
  }

  /// Of the results topic; 0 while it is not known, and now and then so that growth is noticed: the partitioner
  /// decides then.
  std::int32_t partition_count() {
    if ((++asked_ & 0xffff) == 0) return 0;
    return partitions_.load(std::memory_order_relaxed);
  }

  log_function log_;
  rd_kafka_t* producer_ = nullptr;
  rd_kafka_queue_t* queue_ = nullptr;
  rd_kafka_topic_t* topics_[2] = {};
  rd_kafka_event_t* event_ = nullptr;  // partly read
  std::mutex reports_mutex_;
  std::mutex wake_mutex_;
  std::function<void()> wake_;
  std::vector<rd_kafka_message_t> run_;
  link_monitor link_;
  std::atomic<std::size_t> in_flight_{0};
  std::atomic<std::int32_t> partitions_{0};
  std::uint32_t asked_ = 0;
};

}  // namespace

std::unique_ptr<record_sink> make_librdkafka_sink(const sink_options& options) {
  return std::make_unique<librdkafka_sink>(options);
}

}  // namespace troupe::kafka
