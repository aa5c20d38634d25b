#include "cli/load_generator.hpp"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string_view>
#include <thread>

namespace troupe::cli {
namespace {

using clock = std::chrono::steady_clock;

std::int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(clock::now().time_since_epoch()).count();
}

/// Log-linear: 1% wide buckets from 1 us to an hour and more.
class histogram {
 public:
  void add(std::int64_t us) {
    ++counts_[index(us)];
    ++total_;
    max_ = std::max(max_, us);
  }
  [[nodiscard]] double at(double q) const {
    const auto rank = static_cast<std::uint64_t>(q * static_cast<double>(total_));
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i)
      if ((sum += counts_[i]) > rank) return static_cast<double>(std::min(upper(i), max_)) / 1000.0;
    return static_cast<double>(max_) / 1000.0;
  }
  [[nodiscard]] double max() const { return static_cast<double>(max_) / 1000.0; }

 private:
  static constexpr int sub = 7;  // 128 steps an octave
  static std::size_t index(std::int64_t us) {
    const auto v = static_cast<std::uint64_t>(std::max<std::int64_t>(us, 0));
    if (v < 256) return static_cast<std::size_t>(v);
    const int shift = 63 - __builtin_clzll(v) - sub;
    return static_cast<std::size_t>(256 + (shift - 1) * 128) + static_cast<std::size_t>((v >> shift) - 128);
  }
  static std::int64_t upper(std::size_t i) {
    if (i < 256) return static_cast<std::int64_t>(i);
    const auto shift = (i - 256) / 128 + 1;
    return static_cast<std::int64_t>(((i - 256) % 128 + 129) << shift) - 1;
  }
  std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(256 + 128 * 48);
  std::uint64_t total_ = 0;
  std::int64_t max_ = 0;
};

struct client {
  rd_kafka_t* rk = nullptr;
  client(rd_kafka_type_t type, const load_options& o, const std::vector<std::pair<std::string, std::string>>& ours) {
    auto* conf = rd_kafka_conf_new();
    char error[512];
    auto set = [&](const std::string& k, const std::string& v) {
      if (rd_kafka_conf_set(conf, k.c_str(), v.c_str(), error, sizeof error) != RD_KAFKA_CONF_OK) {
        rd_kafka_conf_destroy(conf);
        throw std::runtime_error(error);
      }
    };
    set("bootstrap.servers", o.brokers);
    set("log_level", "2");  // what matters is in the report
    for (const auto& [k, v] : ours) set(k, v);
    for (const auto& [k, v] : o.properties) set(k, v);
    if (!(rk = rd_kafka_new(type, conf, error, sizeof error))) {
      rd_kafka_conf_destroy(conf);
      throw std::runtime_error(error);
    }
  }
  client(const client&) = delete;
  client& operator=(const client&) = delete;
  ~client() {
    if (rk) rd_kafka_destroy(rk);
  }
};

/// Partitions of a topic, which auto-creation may have to make first.
int partitions_of(rd_kafka_t* rk, const std::string& topic, const std::string& brokers) {
  auto* t = rd_kafka_topic_new(rk, topic.c_str(), nullptr);
  int n = 0;
  std::string why = "no answer";
  for (int i = 0; i < 50 && n == 0; ++i) {
    const rd_kafka_metadata_t* m = nullptr;
    const auto error = rd_kafka_metadata(rk, 0, t, &m, 5000);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
      if (m->topic_cnt == 1) {
        n = m->topics[0].partition_cnt;
        why = rd_kafka_err2str(m->topics[0].err);
      }
      rd_kafka_metadata_destroy(m);
    } else {
      why = rd_kafka_err2str(error);
      if (i >= 2) break;
    }
    if (n == 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  rd_kafka_topic_destroy(t);
  if (n == 0) throw std::runtime_error("topic " + topic + " at " + brokers + ": " + why);
  return n;
}

std::vector<std::string> rows_of(const load_options& o, std::uint64_t seed) {
  if (!o.rows.empty()) return o.rows;
  std::mt19937_64 random(seed);
  std::normal_distribution<double> value(0, 0.048);  // what the shipped diabetes models were trained on
  std::vector<std::string> rows;
  for (std::int64_t i = 0; i < std::max<std::int64_t>(1, std::min(o.distinct, o.records)); ++i) {
    std::string row = "[";
    char number[32];
    for (std::size_t k = 0; k < o.features; ++k) {
      std::snprintf(number, sizeof number, "%s%.6f", k ? "," : "", value(random));
      row += number;
    }
    rows.push_back(row + "]");
  }
  return rows;
}

struct account {
  std::vector<std::uint8_t> seen;  // answers an id has, saturating
  std::vector<std::uint32_t> sent_at;  // us since the start; closed loop
  std::atomic<std::int64_t> sent{0};
  std::atomic<std::int64_t> answered{0};
  std::atomic<bool> all_sent{false};
  std::atomic<std::int64_t> start_us{0};
};

}  // namespace

std::int64_t record_number(std::string_view value, std::string_view run_id, std::string_view& after) {
  constexpr std::string_view head = "\"request_id\":\"";
  auto at = value.find(head);
  if (at == std::string_view::npos) return -1;
  at += head.size();
  if (value.substr(at, run_id.size()) != run_id || value.substr(at + run_id.size(), 1) != "-") return -1;
  const char* begin = value.data() + at + run_id.size() + 1;
  const char* end = value.data() + value.size();
  std::int64_t n = -1;
  const auto [stop, error] = std::from_chars(begin, end, n);
  if (error != std::errc() || stop == end || *stop != '"') return -1;
  after = {stop + 1, static_cast<std::size_t>(end - stop - 1)};
  return n;
}

load_report run_load(const load_options& o, const std::atomic<bool>& stop,
                     const std::function<void(const load_progress&)>& progress) {
  load_report report;
  std::random_device entropy;
  report.run_id = o.run_id;
  if (report.run_id.empty()) {
    char text[16];
    std::snprintf(text, sizeof text, "%08x", entropy());
    report.run_id = text;
  }
  const bool open_loop = o.rate > 0;
  client producer(RD_KAFKA_PRODUCER, o,
                  {{"enable.idempotence", "true"},
                   {"linger.ms", open_loop && o.rate <= 5000 ? "1" : "5"},
                   {"socket.nagle.disable", "true"},
                   {"message.timeout.ms", "0"},
                   {"queue.buffering.max.messages", "1000000"}});
  const int partitions = partitions_of(producer.rk, o.requests_topic, o.brokers);

  account acc;
  acc.seen.resize(static_cast<std::size_t>(o.records));
  if (!open_loop) acc.sent_at.resize(static_cast<std::size_t>(o.records));
  const auto rows = rows_of(o, 7);
  const double per_record_us = open_loop ? 1e6 / o.rate : 0;

  // The reader stands at the ends of the topics before anything is sent.
  std::unique_ptr<client> consumer;
  histogram latency;
  std::thread reader;
  std::atomic<bool> reader_stop{false};
  std::int64_t last_first_us = 0;
  std::string failure;
  rd_kafka_queue_t* queue = nullptr;
  if (o.follow) {
    consumer = std::make_unique<client>(RD_KAFKA_CONSUMER, o,
                                        std::vector<std::pair<std::string, std::string>>{
                                            {"group.id", "troupe-load-" + report.run_id},
                                            {"enable.auto.commit", "false"},
                                            {"auto.offset.reset", "earliest"},
                                            {"fetch.wait.max.ms", "100"},
                                            {"fetch.queue.backoff.ms", "1"},
                                            {"queued.min.messages", "100000"},
                                            {"socket.nagle.disable", "true"}});
    rd_kafka_poll_set_consumer(consumer->rk);
    auto* list = rd_kafka_topic_partition_list_new(8);
    for (const auto& topic : {o.results_topic, o.dead_letter_topic}) {
      if (topic.empty()) continue;
      const int count = partitions_of(producer.rk, topic, o.brokers);
      for (int p = 0; p < count; ++p) {
        std::int64_t low = 0, high = 0;
        const auto error = rd_kafka_query_watermark_offsets(producer.rk, topic.c_str(), p, &low, &high, 15'000);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
          throw std::runtime_error("end of " + topic + "/" + std::to_string(p) + ": " + rd_kafka_err2str(error));
        rd_kafka_topic_partition_list_add(list, topic.c_str(), p)->offset = high;
      }
    }
    rd_kafka_assign(consumer->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    queue = rd_kafka_queue_get_consumer(consumer->rk);
    reader = std::thread([&] {
      std::vector<rd_kafka_message_t*> messages(2000);
      std::int64_t last_answer = 0;
      while (!reader_stop) {
        auto n = rd_kafka_consume_batch_queue(queue, 50, messages.data(), 1);
        if (n > 0) {
          const auto more = rd_kafka_consume_batch_queue(queue, 0, messages.data() + 1, messages.size() - 1);
          if (more > 0) n += more;
        }
        const std::int64_t now = now_us();
        const std::int64_t start = acc.start_us;
        for (std::ptrdiff_t i = 0; i < n; ++i) {
          auto* m = messages[static_cast<std::size_t>(i)];
          std::string_view after;
          const std::int64_t id =
              m->err ? -1 : record_number({static_cast<const char*>(m->payload), m->payload ? m->len : 0}, report.run_id, after);
          if (id >= 0 && id < o.records) {
            auto& seen = acc.seen[static_cast<std::size_t>(id)];
            if (seen == 0) {
              if (o.dead_letter_topic == rd_kafka_topic_name(m->rkt)) {
                ++report.dead_letters;
              } else if (after.rfind(",\"error\":{\"code\":\"", 0) == 0) {
                ++report.errors;
                const auto code = after.substr(18);
                ++report.error_codes[std::string(code.substr(0, code.find('"')))];
              } else {
                ++report.predicted;
              }
              const std::int64_t due = open_loop ? start + static_cast<std::int64_t>(static_cast<double>(id) * per_record_us)
                                                 : start + acc.sent_at[static_cast<std::size_t>(id)];
              latency.add(now - due);
              last_first_us = now;
              acc.answered.fetch_add(1, std::memory_order_relaxed);
            } else {
              ++report.duplicated;
            }
            if (seen < 255) ++seen;
            if (last_answer && acc.sent.load(std::memory_order_relaxed) > acc.answered.load(std::memory_order_relaxed))
              report.longest_gap_ms = std::max(report.longest_gap_ms, static_cast<double>(now - last_answer) / 1000.0);
            last_answer = now;
          }
          rd_kafka_message_destroy(m);
        }
      }
    });
    // The first fetch is on its way; what is sent after it arrives without a start-up delay in its latency.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }

  // Whatever ends this function, the reader ends first.
  struct joiner {
    std::atomic<bool>& ask;
    std::thread& thread;
    ~joiner() {
      ask = true;
      if (thread.joinable()) thread.join();
    }
  } const join{reader_stop, reader};

  auto* topic = rd_kafka_topic_new(producer.rk, o.requests_topic.c_str(), nullptr);
  std::string tail;
  if (!o.model.empty()) tail += ",\"model\":\"" + o.model + "\"";
  if (!o.model_version.empty()) tail += ",\"model_version\":\"" + o.model_version + "\"";
  if (o.priority > 0) tail += ",\"priority\":" + std::to_string(o.priority);
  if (o.timeout_ms > 0) tail += ",\"timeout_ms\":" + std::to_string(o.timeout_ms);
  tail += "}";

  acc.start_us = now_us();
  std::int64_t last_told = acc.start_us;
  auto tell = [&] {
    const std::int64_t now = now_us();
    if (!progress || now - last_told < 200'000) return;
    last_told = now;
    progress({acc.sent, acc.answered, static_cast<double>(now - acc.start_us) / 1e6});
  };
  std::string text;
  std::int64_t n = 0;
  auto send_one = [&] {
    text = "{\"request_id\":\"";
    const auto id_at = text.size();
    text += report.run_id;
    text += '-';
    char digits[24];
    text.append(digits, std::to_chars(digits, digits + sizeof digits, n).ptr);
    const std::string_view id(text.data() + id_at, text.size() - id_at);
    const std::string key = o.keyed ? std::string(id) : std::string();
    text += "\",\"features\":";
    text += rows[static_cast<std::size_t>(n) % rows.size()];
    text += tail;
    if (!open_loop) acc.sent_at[static_cast<std::size_t>(n)] = static_cast<std::uint32_t>(now_us() - acc.start_us);
    const auto partition = o.keyed ? RD_KAFKA_PARTITION_UA : static_cast<std::int32_t>(n % partitions);
    while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, text.data(), text.size(), o.keyed ? key.data() : nullptr,
                            key.size(), nullptr) != 0) {
      if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
        throw std::runtime_error(std::string("sending: ") + rd_kafka_err2str(rd_kafka_last_error()));
      rd_kafka_poll(producer.rk, 5);
      tell();
    }
    ++n;
  };
  while (n < o.records && !stop) {
    if (open_loop) {
      const auto due = std::min<std::int64_t>(
          o.records, static_cast<std::int64_t>(static_cast<double>(now_us() - acc.start_us) / per_record_us) + 1);
      while (n < due) send_one();
      acc.sent = n;
      rd_kafka_poll(producer.rk, 0);
      const std::int64_t next = acc.start_us + static_cast<std::int64_t>(static_cast<double>(n) * per_record_us);
      const std::int64_t pause = std::clamp<std::int64_t>(next - now_us(), 200, 50'000);
      std::this_thread::sleep_for(std::chrono::microseconds(pause));
    } else {
      if (o.follow && n - acc.answered >= o.window) {
        rd_kafka_poll(producer.rk, 0);
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        tell();
        continue;
      }
      for (int i = 0; i < 100 && n < o.records; ++i) send_one();
      acc.sent = n;
      if ((n & 1023) < 100) rd_kafka_poll(producer.rk, 0);
    }
    tell();
  }
  report.sent = acc.sent = n;
  report.stopped = stop;
  while (rd_kafka_outq_len(producer.rk) > 0) {
    rd_kafka_poll(producer.rk, 100);
    tell();
  }
  if (o.follow) {
    std::int64_t seen = -1;
    std::int64_t moved = now_us();
    while (acc.answered < n) {
      const std::int64_t a = acc.answered;
      if (a != seen) seen = a, moved = now_us();
      if (static_cast<double>(now_us() - moved) > o.wait_for * 1e6) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      tell();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // late duplicates
    reader_stop = true;
    reader.join();
    rd_kafka_queue_destroy(queue);
    for (std::int64_t i = 0; i < n; ++i) report.lost += acc.seen[static_cast<std::size_t>(i)] == 0;
    report.p50_ms = latency.at(0.50);
    report.p95_ms = latency.at(0.95);
    report.p99_ms = latency.at(0.99);
    report.max_ms = latency.max();
  }
  rd_kafka_topic_destroy(topic);
  const std::int64_t end = last_first_us ? last_first_us : now_us();
  report.duration_s = static_cast<double>(end - acc.start_us) / 1e6;
  const auto done = o.follow ? report.predicted + report.errors + report.dead_letters : report.sent;
  report.records_per_second = report.duration_s > 0 ? static_cast<double>(done) / report.duration_s : 0;
  return report;
}

}  // namespace troupe::cli
