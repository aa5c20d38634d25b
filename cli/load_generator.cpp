#include "cli/load_generator.hpp"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "cli/kafka_client.hpp"
#include "cli/load_account.hpp"

namespace troupe::cli {
namespace {

std::int64_t now_us() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

void pause_us(std::int64_t us) {
  std::this_thread::sleep_for(std::chrono::microseconds(us));
}

std::string random_id() {
  std::random_device entropy;
  char text[16];
  std::snprintf(text, sizeof text, "%08x", entropy());
  return text;
}

std::vector<std::string> rows_of(const load_options& o) {
  if (!o.rows.empty()) return o.rows;
  return traffic::generated_rows(
      std::clamp<std::int64_t>(o.distinct, 1, std::max<std::int64_t>(1, o.records)), o.features, o.seed);
}

/// Of an error result; empty where there is none. Without what would drive a terminal.
std::string error_message(std::string_view value) {
  const auto j = nlohmann::json::parse(value, nullptr, false);
  if (!j.is_object() || !j.contains("error") || !j["error"].is_object()) return "";
  const auto message = j["error"].find("message");
  if (message == j["error"].end() || !message->is_string()) return "";
  std::string text = message->get<std::string>().substr(0, 300);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return text;
}

/// When each request was sent or due, for the reader; the sender writes a number's entry before it sends.
class send_times {
 public:
  explicit send_times(const load_options& o) {
    if (o.rate > 0)
      plan_.emplace(o.rate);
    else
      sent_.resize(static_cast<std::size_t>(o.records));
  }
  void begin(std::int64_t us) { begin_ = us; }
  [[nodiscard]] std::int64_t begin() const { return begin_; }
  [[nodiscard]] const std::optional<schedule>& plan() const { return plan_; }
  void sent(std::int64_t n, std::int64_t us) {
    if (!plan_) sent_[static_cast<std::size_t>(n)] = static_cast<std::uint32_t>((us - begin_) / unit);
  }
  [[nodiscard]] std::int64_t of(std::int64_t n) const {
    return begin_ + (plan_ ? plan_->due_us(n) : std::int64_t{sent_[static_cast<std::size_t>(n)]} * unit);
  }

 private:
  static constexpr std::int64_t unit = 4;  // 32 bits of it last for almost five hours
  std::optional<schedule> plan_;
  std::vector<std::uint32_t> sent_;
  std::atomic<std::int64_t> begin_{0};
};

/// Follows the result and dead-letter topics from their ends of now, on a thread of its own.
class reader {
 public:
  /// Returns when every partition's end is known, so nothing that is sent later is missed.
  reader(const load_options& o, const std::string& run_id, const kafka_client& producer,
         const send_times& times, const std::atomic<std::int64_t>& sent)
      : options_(o),
        run_id_(run_id),
        times_(times),
        sent_(sent),
        ledger_(o.records),
        client_(kafka::client_kind::consumer, o.brokers, o.properties,
                {{"group.id", "troupe-load-" + run_id},
                 {"enable.auto.commit", "false"},
                 {"auto.offset.reset", "earliest"},
                 {"fetch.wait.max.ms", std::to_string(o.fetch_wait_ms)},
                 {"fetch.queue.backoff.ms", "1"},
                 {"queued.min.messages", "100000"},
                 {"socket.nagle.disable", "true"}}) {
    rd_kafka_poll_set_consumer(client_.get());
    const std::unique_ptr<rd_kafka_topic_partition_list_t, decltype(&rd_kafka_topic_partition_list_destroy)>
        list(rd_kafka_topic_partition_list_new(8), &rd_kafka_topic_partition_list_destroy);
    for (const auto& topic : {o.results_topic, o.dead_letter_topic}) {
      if (topic.empty() || (list->cnt > 0 && topic == o.results_topic)) continue;
      const int count = producer.partitions(topic);
      for (int p = 0; p < count; ++p)
        rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), p)->offset = end_of(producer, topic, p);
    }
    if (const auto error = rd_kafka_assign(client_.get(), list.get()); error != RD_KAFKA_RESP_ERR_NO_ERROR)
      throw std::runtime_error(std::string("reading results: ") + rd_kafka_err2str(error));
    queue_ = rd_kafka_queue_get_consumer(client_.get());
    thread_ = std::thread([this] { run(); });
  }
  reader(const reader&) = delete;
  reader& operator=(const reader&) = delete;
  ~reader() {
    end();
    if (queue_) rd_kafka_queue_destroy(queue_);
  }

  [[nodiscard]] std::int64_t answered() const { return answered_.load(std::memory_order_relaxed); }
  /// Microseconds, of the last answer to this run, a duplicate or not; 0 before the first.
  [[nodiscard]] std::int64_t last_answer_us() const { return last_answer_us_; }

  /// Ends the thread; the report may be read then.
  void end() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  void report(load_report& r) const {
    r.predicted = ledger_.answered() - errors_ - dead_letters_;
    r.errors = errors_;
    r.dead_letters = dead_letters_;
    r.duplicated = ledger_.duplicated();
    r.lost = ledger_.lost(r.sent);
    r.error_codes = error_codes_;
    r.error_examples = error_examples_;
    r.p50_ms = latency_.quantile_ms(0.50);
    r.p95_ms = latency_.quantile_ms(0.95);
    r.p99_ms = latency_.quantile_ms(0.99);
    r.max_ms = latency_.max_ms();
    r.longest_gap_ms = static_cast<double>(longest_gap_us_) / 1000.0;
    for (std::size_t i = 0; i < intervals_.size(); ++i) {
      auto us = intervals_[i];
      std::sort(us.begin(), us.end());
      load_interval& part = r.intervals.emplace_back();
      part.from_s = static_cast<double>(i) * options_.interval;
      part.answered = static_cast<std::int64_t>(us.size());
      if (us.empty()) continue;
      const auto at = [&](double q) {
        return us[static_cast<std::size_t>(std::ceil(q * static_cast<double>(us.size()))) - 1] / 1000.0;
      };
      part.p50_ms = at(0.5);
      part.p99_ms = at(0.99);
      part.max_ms = at(1);
    }
    if (last_first_us_) r.duration_s = static_cast<double>(last_first_us_ - times_.begin()) / 1e6;
  }

 private:
  static std::int64_t end_of(const kafka_client& client, const std::string& topic, int partition) {
    std::int64_t low = 0;
    std::int64_t high = 0;
    const auto error =
        rd_kafka_query_watermark_offsets(client.get(), topic.c_str(), partition, &low, &high, 15'000);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
      throw std::runtime_error("end of " + topic + "/" + std::to_string(partition) + ": " +
                               rd_kafka_err2str(error));
    return high;
  }

  void run() {
    std::vector<rd_kafka_message_t*> messages(2000);
    while (!stop_) {
      auto n = rd_kafka_consume_batch_queue(queue_, 50, messages.data(), 1);
      if (n <= 0) continue;
      const auto more = rd_kafka_consume_batch_queue(queue_, 0, messages.data() + 1, messages.size() - 1);
      n += std::max<ssize_t>(0, more);
      const std::int64_t now = now_us();
      for (ssize_t i = 0; i < n; ++i) {
        auto* m = messages[static_cast<std::size_t>(i)];
        if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR && m->payload) take(*m, now);
        rd_kafka_message_destroy(m);
      }
    }
  }

  void take(const rd_kafka_message_t& m, std::int64_t now) {
    const answer found = read_answer({static_cast<const char*>(m.payload), m.len}, run_id_);
    if (!ledger_.knows(found.number)) return;
    const std::int64_t before = last_answer_us_.exchange(now, std::memory_order_relaxed);
    if (before && sent_.load(std::memory_order_relaxed) > ledger_.answered())
      longest_gap_us_ = std::max(longest_gap_us_, now - before);
    if (!ledger_.first(found.number)) return;
    if (options_.dead_letter_topic == rd_kafka_topic_name(m.rkt)) {
      ++dead_letters_;
    } else if (!found.error.empty()) {
      ++errors_;
      const std::string code(found.error);
      if (++error_codes_[code] == 1)
        error_examples_[code] = error_message({static_cast<const char*>(m.payload), m.len});
    }
    const std::int64_t from = times_.of(found.number);
    latency_.add(now - from);
    if (options_.interval > 0) {
      const auto i = static_cast<std::size_t>(
          std::max(0.0, static_cast<double>(from - times_.begin()) / 1e6) / options_.interval);
      if (i >= intervals_.size()) intervals_.resize(i + 1);
      intervals_[i].push_back(
          static_cast<std::uint32_t>(std::clamp<std::int64_t>(now - from, 0, UINT32_MAX)));
    }
    last_first_us_ = now;
    answered_.store(ledger_.answered(), std::memory_order_release);
  }

  const load_options& options_;
  const std::string& run_id_;
  const send_times& times_;
  const std::atomic<std::int64_t>& sent_;
  answer_ledger ledger_;
  latency_histogram latency_;
  std::vector<std::vector<std::uint32_t>> intervals_;  ///< microseconds
  std::map<std::string, std::int64_t> error_codes_;
  std::map<std::string, std::string> error_examples_;
  std::int64_t errors_ = 0;
  std::int64_t dead_letters_ = 0;
  std::int64_t longest_gap_us_ = 0;
  std::int64_t last_first_us_ = 0;
  std::atomic<std::int64_t> last_answer_us_{0};
  std::atomic<std::int64_t> answered_{0};
  std::atomic<bool> stop_{false};
  kafka_client client_;
  rd_kafka_queue_t* queue_ = nullptr;
  std::thread thread_;
};

/// Writes requests and hands them to librdkafka.
class sender {
 public:
  sender(const load_options& o, const std::string& run_id, const kafka_client& client, send_times& times)
      : keyed_(o.keyed),
        times_(times),
        rows_(rows_of(o)),
        partitions_(client.partitions(o.requests_topic)),
        topic_(rd_kafka_topic_new(client.get(), o.requests_topic.c_str(), nullptr)) {
    text_ = "{\"request_id\":\"" + run_id + "-";
    id_at_ = text_.size() - run_id.size() - 1;
    digits_at_ = text_.size();
    if (!o.model.empty()) tail_ += ",\"model\":" + quoted(o.model);
    if (!o.model_version.empty()) tail_ += ",\"model_version\":" + quoted(o.model_version);
    if (o.priority > 0) tail_ += ",\"priority\":" + std::to_string(o.priority);
    if (o.timeout_ms > 0) tail_ += ",\"timeout_ms\":" + std::to_string(o.timeout_ms);
    tail_ += "}";
  }
  sender(const sender&) = delete;
  sender& operator=(const sender&) = delete;
  ~sender() { rd_kafka_topic_destroy(topic_); }

  /// False while librdkafka's queue is full.
  bool send(std::int64_t n) {
    char digits[24];
    text_.resize(digits_at_);
    text_.append(digits, std::to_chars(digits, digits + sizeof digits, n).ptr);
    const std::size_t id_size = text_.size() - id_at_;
    text_ += "\",\"features\":";
    text_ += rows_[static_cast<std::size_t>(n) % rows_.size()];
    text_ += tail_;
    times_.sent(n, now_us());
    const int result =
        rd_kafka_produce(topic_, keyed_ ? RD_KAFKA_PARTITION_UA : static_cast<std::int32_t>(n % partitions_),
                         RD_KAFKA_MSG_F_COPY, text_.data(), text_.size(),
                         keyed_ ? text_.data() + id_at_ : nullptr, keyed_ ? id_size : 0, nullptr);
    if (result == 0) return true;
    if (const auto error = rd_kafka_last_error(); error != RD_KAFKA_RESP_ERR__QUEUE_FULL)
      throw std::runtime_error(std::string("sending: ") + rd_kafka_err2str(error));
    return false;
  }

 private:
  static std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    return out + '"';
  }

  bool keyed_;
  send_times& times_;
  std::vector<std::string> rows_;
  int partitions_;
  rd_kafka_topic_t* topic_;
  std::string text_;
  std::size_t id_at_ = 0;
  std::size_t digits_at_ = 0;
  std::string tail_;
};

}  // namespace

load_report run_load(const load_options& o, const std::atomic<bool>& stop,
                     const std::function<void(const load_progress&)>& progress) {
  load_report report;
  report.run_id = o.run_id.empty() ? random_id() : o.run_id;
  const kafka_client producer(
      kafka::client_kind::producer, o.brokers, o.properties,
      {{"enable.idempotence", "true"},
       {"partitioner", "murmur2_random"},  // as Java's clients, and as answers are sent
       {"linger.ms", o.rate > 0 && o.rate <= 5000 ? "1" : "5"},
       {"socket.nagle.disable", "true"},
       {"message.timeout.ms", "0"},
       {"delivery.report.only.error", "true"},
       {"queue.buffering.max.messages", "1000000"}});
  send_times times(o);
  std::atomic<std::int64_t> sent{0};
  sender out(o, report.run_id, producer, times);
  std::optional<reader> in;
  if (o.follow) {
    in.emplace(o, report.run_id, producer, times, sent);
    pause_us(200'000);  // its first fetches are on their way: no start-up delay in the first latencies
  }

  times.begin(now_us());
  std::int64_t told = times.begin();
  auto tell = [&] {
    const std::int64_t now = now_us();
    if (!progress || now - told < 200'000) return;
    told = now;
    progress({sent, in ? in->answered() : 0, static_cast<double>(now - times.begin()) / 1e6});
  };
  auto serve = [&](int ms) {
    rd_kafka_poll(producer.get(), ms);
    tell();
  };

  std::int64_t n = 0;
  while (n < o.records && !stop) {
    std::int64_t until = std::min(o.records, n + 200);
    if (times.plan())
      until = std::min(until, times.plan()->due(now_us() - times.begin()));
    else if (in)
      until = std::min(until, in->answered() + o.window);
    const std::int64_t before = n;
    while (n < until && out.send(n)) ++n;
    sent.store(n, std::memory_order_relaxed);
    if (n == until && n > before) {
      if (n / 2000 != before / 2000) serve(0);
      continue;
    }
    if (n < until) {
      serve(5);  // full
      continue;
    }
    serve(0);
    // Nothing is due, or the window is full.
    const std::int64_t idle = times.plan() ? times.begin() + times.plan()->due_us(n) - now_us() : 100;
    pause_us(std::clamp<std::int64_t>(idle, 50, 20'000));
  }
  report.sent = n;
  report.stopped = stop;
  while (rd_kafka_outq_len(producer.get()) > 0) serve(50);
  report.duration_s = static_cast<double>(now_us() - times.begin()) / 1e6;

  if (in) {
    const std::int64_t done_sending = now_us();
    const auto patience = static_cast<std::int64_t>(o.wait_for * 1e6);
    while (in->answered() < n && now_us() - std::max(done_sending, in->last_answer_us()) < patience) serve(5);
    // Duplicates come late: until it has been quiet for a moment.
    for (const std::int64_t end = now_us();
         now_us() - std::max(end, in->last_answer_us()) < 300'000 && now_us() - end < 5'000'000;)
      serve(5);
    in->end();
    in->report(report);
  }
  report.refused = producer.refused();
  if (report.refused) report.refusal = producer.complaint();
  const std::int64_t done = in ? n - report.lost : n;
  report.records_per_second = report.duration_s > 0 ? static_cast<double>(done) / report.duration_s : 0;
  return report;
}

}  // namespace troupe::cli
