#include "runtime/kafka/librdkafka_sink.hpp"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "runtime/policy/socket_watch.hpp"

namespace troupe::kafka {
namespace {

constexpr int close_ms = 2'000;
constexpr std::size_t destinations = 3;
constexpr std::uint32_t ask_again =
    1U << 16;  // keyless records after which a partition that was not there is tried

constexpr const char* closed_text = "the producer is closed";

struct event_deleter {
  void operator()(rd_kafka_event_t* event) const { rd_kafka_event_destroy(event); }
};
using event_ptr = std::unique_ptr<rd_kafka_event_t, event_deleter>;

/// Cuts linger.ms short. librdkafka does so only while a flush is under way, so a thread keeps one open from
/// when it is asked to until everything is delivered, or until something is given that may linger. Asking
/// costs no system call while one is open.
class hurrier {
 public:
  explicit hurrier(rd_kafka_t* producer) : producer_(producer), thread_([this] { run(); }) {}
  hurrier(const hurrier&) = delete;
  hurrier& operator=(const hurrier&) = delete;
  ~hurrier() {
    wanted_.store(ending);
    wanted_.notify_one();
    thread_.join();
  }

  void given() { may_linger_.store(true, std::memory_order_relaxed); }
  void ask() {
    may_linger_.store(false, std::memory_order_relaxed);
    int quiet = nothing;
    if (wanted_.compare_exchange_strong(quiet, asked)) wanted_.notify_one();
  }

 private:
  enum state : int { nothing, asked, ending };
  static constexpr int flush_ms = 20;  // how long it may stay open when lingering is right again

  void run() {
    for (;;) {
      wanted_.wait(nothing);
      int was = asked;
      if (!wanted_.compare_exchange_strong(was, nothing)) return;
      while (rd_kafka_flush(producer_, flush_ms) == RD_KAFKA_RESP_ERR__TIMED_OUT &&
             !may_linger_.load(std::memory_order_relaxed) && wanted_.load() != ending) {
      }
    }
  }

  rd_kafka_t* producer_;
  std::atomic<int> wanted_{nothing};
  std::atomic<bool> may_linger_{false};
  std::thread thread_;
};

void configure(rd_kafka_conf_t* conf, const sink_options& o) {
  auto set = [conf](const char* name, const std::string& value) { set_property(conf, name, value); };
  set("bootstrap.servers", o.brokers);
  set("client.id", "troupe");
  set("enable.idempotence", "true");  // with it acks=all, and order within a partition
  if (o.transactional_id.empty()) {
    set("message.timeout.ms", "0");  // an answer is never given up: its offset would be stuck
    set("linger.ms", std::to_string(o.linger_ms));
  } else {
    const auto timeout = std::to_string(o.transaction_timeout / 1'000'000);
    set("transactional.id", o.transactional_id);
    set("transaction.timeout.ms", timeout);
    set("message.timeout.ms", timeout);  // then the transaction is aborted, and all of it sent again
    set("delivery.report.only.error", "true");
    set("linger.ms", "5");  // the commit waits for none of it
    // The broker still writes the markers of the last transaction when the next one wants to add its
    // offsets, and says so: with the default of 100 ms that answer, one a transaction, is most of its time.
    set("retry.backoff.ms", "5");
  }
  set("partitioner", "murmur2_random");   // as Java's clients
  set("statistics.interval.ms", "1000");  // for link_monitor
  set("socket.nagle.disable", "true");
  set("socket.keepalive.enable", "true");
  set("reconnect.backoff.max.ms", "2000");
  set("queue.buffering.max.messages", "1000000");
  // One record must always fit, or it would find the queue full forever.
  const std::size_t bytes = std::max(o.queue_bytes, o.max_message_bytes + (std::size_t{64} << 10));
  set("queue.buffering.max.kbytes", std::to_string(bytes / 1024));
  set("message.max.bytes", std::to_string(o.max_message_bytes));
  set("log.queue", "true");
  set_properties(conf, o.own, client_kind::producer);
}

class librdkafka_sink final : public librdkafka_producer {
 public:
  explicit librdkafka_sink(const sink_options& o)
      : log_(o.log),
        broken_(o.broken),
        sockets_(o.sockets),
        transactional_(!o.transactional_id.empty()),
        rescue_(o.brokers) {
    auto* conf = rd_kafka_conf_new();
    try {
      configure(conf, o);
    } catch (...) {
      rd_kafka_conf_destroy(conf);
      throw;
    }
    rd_kafka_conf_set_events(
        conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS);
    if (sockets_) {
      rd_kafka_conf_set_opaque(conf, sockets_.get());
      rd_kafka_conf_set_connect_cb(conf, [](int fd, const sockaddr* to, int size, const char*, void* opaque) {
        return connect_watched(*static_cast<policy::socket_watch*>(opaque), fd, to, size);
      });
      rd_kafka_conf_set_closesocket_cb(conf, [](int fd, void* opaque) {
        return close_watched(*static_cast<policy::socket_watch*>(opaque), fd);
      });
    }
    producer_ = make_client(client_kind::producer, conf, o.own, "Kafka producer");
    rd_kafka_set_log_queue(producer_, nullptr);
    queue_ = rd_kafka_queue_get_main(producer_);
    const std::array names = {&o.results_topic, &o.dead_letter_topic, &o.parking_topic};
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i]->empty()) continue;
      topics_[i] = rd_kafka_topic_new(producer_, names[i]->c_str(), nullptr);
      if (topics_[i]) continue;
      const std::string why = rd_kafka_err2str(rd_kafka_last_error());
      close();
      throw property_error("Kafka topic '" + *names[i] + "': " + why);
    }
    if (o.linger_ms > 0 && !transactional_) hurrier_ = std::make_unique<hurrier>(producer_);
  }

  ~librdkafka_sink() override { close(); }

  produced produce(const outgoing& r) override {
    if (!producer_) {
      failure_ = closed_text;
      return produced::failed;
    }
    if (hurrier_) hurrier_->given();
    auto* topic = topic_of(r);
    const std::int32_t partition = partition_of(r);
    count(1);
    auto code = send(topic, partition, r);
    if (code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION && partition != RD_KAFKA_PARTITION_UA) {
      absent_from_ = std::min(absent_from_, partition);
      code = send(topic, RD_KAFKA_PARTITION_UA, r);
    }
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return produced::ok;
    uncount(1);
    return refused(code, topic);
  }

  std::size_t produce_many(std::span<const outgoing> records, produced& stopped) override {
    stopped = produced::ok;
    if (hurrier_) hurrier_->given();
    std::size_t i = 0;
    while (i < records.size() && producer_) {
      const std::int32_t partition = partition_of(records[i]);
      const std::size_t n = alike(records.subspan(i), partition);
      const std::size_t taken = n > 1 ? send_alike(records.subspan(i, n), partition, stopped) : 0;
      i += taken;
      if (n > 1 && taken == n) continue;
      if (stopped == produced::ok) stopped = produce(records[i]);
      if (stopped != produced::ok) return i;
      ++i;
    }
    if (i < records.size()) {
      failure_ = closed_text;
      stopped = produced::failed;
    }
    return i;
  }

  std::size_t reports(std::vector<delivery_report>& out, std::size_t max) override {
    const std::lock_guard lock(reports_mutex_);
    std::size_t n = 0;
    for (; n < max && !last_reports_.empty(); ++n) {
      out.push_back(last_reports_.back());
      last_reports_.pop_back();
    }
    while (n < max && producer_) {
      if (!event_) event_.reset(rd_kafka_queue_poll(queue_, 0));
      if (!event_) break;
      if (rd_kafka_event_type(event_.get()) == RD_KAFKA_EVENT_DR) {
        const std::size_t taken = take_reports(out, max - n);
        n += taken;
        if (rd_kafka_event_message_count(event_.get()) > 0) break;  // `max` is reached; the rest next time
      } else {
        serve(*event_);
      }
      event_.reset();
    }
    uncount(n);
    return n;
  }

  void on_reports(std::function<void()> wake) override {
    const bool wanted = static_cast<bool>(wake);
    {
      const std::lock_guard lock(wake_mutex_);
      wake_.swap(wake);  // the old one ends outside of the lock: it may own who calls us
    }
    // librdkafka calls woken() with its queue's lock held, so that one may not be taken inside wake_mutex_.
    const std::lock_guard lock(reports_mutex_);
    if (producer_ && wanted) rd_kafka_queue_cb_event_enable(queue_, &librdkafka_sink::woken, this);
  }

  void hurry() override {
    if (hurrier_) hurrier_->ask();
  }

  std::size_t in_flight() const override { return in_flight_.load(std::memory_order_relaxed); }
  link_status status() const override { return link_.status(); }
  std::string failure() const override { return failure_; }
  std::string error_text(int code) const override {
    return rd_kafka_err2str(static_cast<rd_kafka_resp_err_t>(code));
  }

  rd_kafka_s* handle() const override { return producer_; }
  void committed() override { link_.works(); }
  fatal_error fatal() const override {
    const std::lock_guard lock(reports_mutex_);
    if (!producer_) return {};
    char words[512] = "";
    const int code = rd_kafka_fatal_error(producer_, words, sizeof words);
    return {code, words};
  }

  void close() override {
    if (!producer_) return;
    on_reports({});
    hurrier_.reset();
    const std::lock_guard lock(reports_mutex_);
    rescue_.stop();
    rd_kafka_queue_cb_event_enable(queue_, nullptr, nullptr);
    // What was purged is reported too: who waits for an answer's end gets it.
    rd_kafka_purge(producer_, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    closing_ = true;
    while (event_ || rd_kafka_outq_len(producer_) > 0) {
      if (!event_) event_.reset(rd_kafka_queue_poll(queue_, close_ms));
      if (!event_) break;
      if (rd_kafka_event_type(event_.get()) == RD_KAFKA_EVENT_DR)
        take_reports(last_reports_, std::numeric_limits<std::size_t>::max());
      event_.reset();
    }
    for (auto*& t : topics_)
      if (t) rd_kafka_topic_destroy(std::exchange(t, nullptr));
    rd_kafka_queue_destroy(queue_);
    rd_kafka_destroy(std::exchange(producer_, nullptr));
  }

 private:
  // A transactional producer's successes are not reported, so they can't be counted either.
  void count(std::size_t n) {
    if (!transactional_) in_flight_.fetch_add(n, std::memory_order_relaxed);
  }
  void uncount(std::size_t n) {
    if (!transactional_) in_flight_.fetch_sub(n, std::memory_order_relaxed);
  }

  [[nodiscard]] rd_kafka_topic_t* topic_of(const outgoing& r) const {
    return topics_[static_cast<std::size_t>(r.to)];
  }

  /// The partition a keyless result asks for: the one its request came from. Whether the topic has it is only
  /// known once it was tried (and the topic may grow), so it is asked for until it was refused.
  [[nodiscard]] std::int32_t partition_of(const outgoing& r) {
    if (r.key.data() || r.to != destination::results || r.source_partition < 0) return RD_KAFKA_PARTITION_UA;
    if (r.source_partition < absent_from_) return r.source_partition;
    if (++refused_ < ask_again) return RD_KAFKA_PARTITION_UA;
    refused_ = 0;
    absent_from_ = std::numeric_limits<std::int32_t>::max();
    return r.source_partition;
  }

  produced refused(rd_kafka_resp_err_t code, rd_kafka_topic_t* topic) {
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL) return produced::queue_full;
    if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) return produced::too_large;
    complain(code, topic);
    failure_ = of_topic(code, topic);
    return produced::failed;
  }

  [[nodiscard]] static bool plain(const outgoing& r) {
    return r.headers.empty() && r.more_headers.empty() && r.timestamp_ms == 0;
  }

  /// How many records from the first one on are of one topic and partition, without headers and time: what
  /// rd_kafka_produce_batch can take. (Not with a partition a record: it loses memory for one that is not
  /// there.)
  [[nodiscard]] static std::size_t alike(std::span<const outgoing> records, std::int32_t partition) {
    const outgoing& first = records.front();
    std::size_t n = 0;
    while (n < records.size() && plain(records[n]) && records[n].to == first.to &&
           (n == 0 || (records[n].key.data() != nullptr) == (first.key.data() != nullptr)) &&
           (partition == RD_KAFKA_PARTITION_UA ? first.key.data() != nullptr
                                               : records[n].source_partition == first.source_partition))
      ++n;
    return n;
  }

  /// Returns how many were taken; `stopped` is set when the next one is known to be refused.
  std::size_t send_alike(std::span<const outgoing> records, std::int32_t partition, produced& stopped) {
    many_.assign(records.size(), rd_kafka_message_t{});
    for (std::size_t i = 0; i < records.size(); ++i) {
      const outgoing& r = records[i];
      auto& m = many_[i];
      m.payload = const_cast<char*>(r.value.data()), m.len = r.value.size();
      m.key = const_cast<char*>(r.key.data()), m.key_len = r.key.size();
      m._private = r.opaque;
    }
    auto* topic = topic_of(records.front());
    count(records.size());
    const int good =
        rd_kafka_produce_batch(topic, partition, 0, many_.data(), static_cast<int>(many_.size()));
    if (static_cast<std::size_t>(good) == records.size()) return records.size();
    uncount(records.size() - static_cast<std::size_t>(good));
    std::size_t first = 0;
    while (many_[first].err == RD_KAFKA_RESP_ERR_NO_ERROR) ++first;
    if (static_cast<std::size_t>(good) ==
        first) {  // all behind it were refused as well: as with a full queue
      if (many_[first].err != RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
        stopped = refused(many_[first].err, topic);
      return first;
    }
    // Some behind it were taken, so this one can't be handed back: its end is a report, as if the broker had
    // said it.
    {
      const std::lock_guard lock(reports_mutex_);
      for (std::size_t i = first; i < records.size(); ++i) {
        if (many_[i].err == RD_KAFKA_RESP_ERR_NO_ERROR) continue;
        count(1);
        delivery_report& r = last_reports_.emplace_back();
        r.opaque = records[i].opaque;
        r.to = records[i].to;
        r.code = many_[i].err;
        r.too_large = many_[i].err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
      }
    }
    wake();
    return records.size();
  }

  rd_kafka_resp_err_t send(rd_kafka_topic_t* topic, std::int32_t partition, const outgoing& r) const {
    auto* value = const_cast<char*>(r.value.data());
    if (plain(r)) {
      const int failed =
          rd_kafka_produce(topic, partition, 0, value, r.value.size(), r.key.data(), r.key.size(), r.opaque);
      return failed == 0 ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_last_error();
    }
    rd_kafka_headers_t* headers = nullptr;
    if (!r.headers.empty() || !r.more_headers.empty()) {
      headers = rd_kafka_headers_new(r.headers.size() + r.more_headers.size());
      for (const auto part : {r.headers, r.more_headers})
        for (const header& h : part)
          rd_kafka_header_add(headers, h.name.data(), static_cast<ssize_t>(h.name.size()), h.value.data(),
                              static_cast<ssize_t>(h.value.size()));
    }
    return send(topic, partition, {value, r.value.size()}, r.key, r.opaque, r.timestamp_ms, headers);
  }

  /// Takes over the headers, if any.
  rd_kafka_resp_err_t send(rd_kafka_topic_t* topic, std::int32_t partition, std::span<char> value,
                           std::string_view key, void* opaque, std::int64_t timestamp_ms,
                           rd_kafka_headers_t* headers) const {
    std::array<rd_kafka_vu_t, 7> vus;
    std::size_t n = 0;
    vus[n].vtype = RD_KAFKA_VTYPE_RKT, vus[n++].u.rkt = topic;
    vus[n].vtype = RD_KAFKA_VTYPE_PARTITION, vus[n++].u.i32 = partition;
    vus[n].vtype = RD_KAFKA_VTYPE_VALUE, vus[n].u.mem.ptr = value.data(), vus[n++].u.mem.size = value.size();
    vus[n].vtype = RD_KAFKA_VTYPE_KEY, vus[n].u.mem.ptr = const_cast<char*>(key.data());
    vus[n++].u.mem.size = key.size();
    vus[n].vtype = RD_KAFKA_VTYPE_OPAQUE, vus[n++].u.ptr = opaque;
    if (timestamp_ms != 0) vus[n].vtype = RD_KAFKA_VTYPE_TIMESTAMP, vus[n++].u.i64 = timestamp_ms;
    if (headers) vus[n].vtype = RD_KAFKA_VTYPE_HEADERS, vus[n++].u.headers = headers;
    auto* error = rd_kafka_produceva(producer_, vus.data(), n);
    if (!error) return RD_KAFKA_RESP_ERR_NO_ERROR;
    const auto code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    if (headers) rd_kafka_headers_destroy(headers);
    return code;
  }

  static void woken(rd_kafka_t*, void* opaque) { static_cast<librdkafka_sink*>(opaque)->wake(); }

  void wake() {
    const std::lock_guard lock(wake_mutex_);
    if (wake_) wake_();
  }

  /// Of the current event; returns how many.
  std::size_t take_reports(std::vector<delivery_report>& out, std::size_t max) {
    std::size_t n = 0;
    std::array<bool, destinations> delivered{};
    while (n < max) {
      const auto* m = rd_kafka_event_message_next(event_.get());
      if (!m) break;
      if (m->err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION && again_anywhere(*m)) continue;
      delivery_report& r = out.emplace_back();
      r.opaque = m->_private;
      r.to = m->rkt == topics_[1]                            ? destination::dead_letters
             : topics_[2] != nullptr && m->rkt == topics_[2] ? destination::parking
                                                             : destination::results;
      r.ok = m->err == RD_KAFKA_RESP_ERR_NO_ERROR;
      r.code = m->err;
      ++n;
      if (r.ok) {
        delivered[static_cast<std::size_t>(r.to)] = true;
        continue;
      }
      r.too_large =
          m->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || m->err == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
      r.bad_timestamp = m->err == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
      if (!r.too_large && !r.bad_timestamp) complain(m->err, m->rkt);
    }
    for (std::size_t i = 0; i < destinations; ++i)
      if (delivered[i]) link_.delivered(rd_kafka_topic_name(topics_[i]));
    return n;
  }

  /// A keyless record that was sent before the topic's partitions were known, to one that is not there.
  bool again_anywhere(const rd_kafka_message_t& m) {
    if (closing_ || m.key || m.partition < 0) return false;
    absent_from_ = std::min(absent_from_, m.partition);
    if (transactional_) return false;  // its transaction can't be committed any more: all of it comes again
    rd_kafka_headers_t* headers = nullptr;
    if (rd_kafka_message_detach_headers(const_cast<rd_kafka_message_t*>(&m), &headers) !=
        RD_KAFKA_RESP_ERR_NO_ERROR)
      headers = nullptr;
    rd_kafka_timestamp_type_t kind{};
    const auto timestamp = std::max<std::int64_t>(0, rd_kafka_message_timestamp(&m, &kind));
    return send(m.rkt, RD_KAFKA_PARTITION_UA, {static_cast<char*>(m.payload), m.len}, {}, m._private,
                timestamp, headers) == RD_KAFKA_RESP_ERR_NO_ERROR;
  }

  void complain(rd_kafka_resp_err_t code, rd_kafka_topic_t* topic) {
    if (code == RD_KAFKA_RESP_ERR__FATAL)
      broken();
    else
      link_.error(code, of_topic(code, topic), rd_kafka_topic_name(topic));
  }

  [[nodiscard]] static std::string of_topic(rd_kafka_resp_err_t code, rd_kafka_topic_t* topic) {
    return std::string(rd_kafka_topic_name(topic)) + ": " + rd_kafka_err2str(code);
  }

  void broken() {
    char why[512] = "";
    rd_kafka_fatal_error(producer_, why, sizeof why);
    link_.broken(why);
    if (broken_ && !transactional_ && !std::exchange(told_broken_, true)) broken_(false, plain_reason(why));
  }

  /// Everything that is not a delivery report.
  void serve(rd_kafka_event_t& event) {
    switch (rd_kafka_event_type(&event)) {
      case RD_KAFKA_EVENT_ERROR: {
        const auto code = rd_kafka_event_error(&event);
        const std::string text = rd_kafka_event_error_string(&event);
        if (rd_kafka_event_error_is_fatal(&event)) {  // the code is that of its cause
          broken();
          if (broken_ || transactional_) break;  // who is told says it better
        } else {
          link_.error(code, text);
        }
        if (log_) log_(code == RD_KAFKA_RESP_ERR__TRANSPORT ? 4 : 3, rd_kafka_err2name(code), text);
        break;
      }
      case RD_KAFKA_EVENT_LOG: {
        const char* facility = nullptr;
        const char* text = nullptr;
        int level = 6;
        if (rd_kafka_event_log(&event, &facility, &text, &level) != 0) break;
        link_.log(level, facility, text);
        if (log_ && std::string_view(facility) != "FATAL")  // an error event says the same
          log_(level, facility, text);
        break;
      }
      case RD_KAFKA_EVENT_STATS:
        link_.statistics(rd_kafka_event_stats(&event));
        rescue_.statistics(producer_, rd_kafka_event_stats(&event), log_);
        break;
      default:
        break;
    }
  }

  log_function log_;
  broken_function broken_;
  bool told_broken_ = false;
  std::shared_ptr<policy::socket_watch> sockets_;  // null: nobody watches
  const bool transactional_;
  rd_kafka_t* producer_ = nullptr;
  rd_kafka_queue_t* queue_ = nullptr;
  std::array<rd_kafka_topic_t*, destinations> topics_{};
  mutable std::mutex reports_mutex_;
  event_ptr event_;                            // partly read
  std::vector<delivery_report> last_reports_;  // made here; taken from the back
  bool closing_ = false;
  std::mutex wake_mutex_;
  std::function<void()> wake_;
  link_monitor link_{ask_listeners()};
  client_rescue rescue_;
  std::unique_ptr<hurrier> hurrier_;
  std::atomic<std::size_t> in_flight_{0};
  std::int32_t absent_from_ = std::numeric_limits<std::int32_t>::max();  // of the results topic
  std::uint32_t refused_ = 0;
  std::string failure_;  // of the last produce() that failed
  std::vector<rd_kafka_message_t> many_;
};

}  // namespace

void check_librdkafka_sink(sink_options options) {
  options.own = without_connection(options.own);
  options.brokers.clear();
  check_client(client_kind::producer, options.own, [&](rd_kafka_conf_t* conf) { configure(conf, options); });
}

std::unique_ptr<librdkafka_producer> make_librdkafka_sink(const sink_options& options) {
  return std::make_unique<librdkafka_sink>(options);
}

}  // namespace troupe::kafka
