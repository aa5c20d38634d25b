#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <vector>

#include "cli/commands.hpp"
#include "cli/kafka_client.hpp"
#include "cli/replay_letters.hpp"
#include "cli/replay_progress.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;
using clock = std::chrono::steady_clock;

constexpr int ask_ms = 10'000;
constexpr std::size_t most_in_flight = 10'000;
constexpr auto patience = std::chrono::seconds(60);

struct list_deleter {
  void operator()(rd_kafka_topic_partition_list_t* list) const {
    rd_kafka_topic_partition_list_destroy(list);
  }
};
using partition_list = std::unique_ptr<rd_kafka_topic_partition_list_t, list_deleter>;

struct message_deleter {
  void operator()(rd_kafka_message_t* m) const { rd_kafka_message_destroy(m); }
};
using message_ptr = std::unique_ptr<rd_kafka_message_t, message_deleter>;

struct one_partition {
  replay_progress progress;   ///< delivered, by this run and those before
  replay_progress planned;    ///< and what is on its way
  std::int64_t position = 0;  ///< read up to here
  std::int64_t end = 0;       ///< what comes later is the next run's
  bool changed = false;       ///< since the last commit

  /// From where it was read to, no record has an offset before this one.
  void absent(std::int64_t until) {
    progress.add(position, until);
    planned.add(position, until);
  }
};

struct counts {
  std::int64_t sent = 0;
  std::int64_t sent_before = 0;
  std::int64_t other = 0;  ///< than those that were asked for
  std::int64_t without_value = 0;
  std::int64_t too_often = 0;
  std::int64_t no_letters = 0;
  std::int64_t refused = 0;
};

struct in_flight {
  int partition;
  std::int64_t offset;
};

class replayer {
 public:
  replayer(const replay_options& o, const config::kafka_settings& kafka)
      : options_(o),
        from_(o.from.empty() ? kafka.dead_letter_topic : o.from),
        to_(o.to.empty() ? kafka.requests_topic : o.to),
        reader_(kafka::client_kind::consumer, kafka.brokers, kafka.properties,
                {{"group.id", o.group},
                 {"enable.auto.commit", "false"},
                 {"enable.auto.offset.store", "false"},
                 {"enable.partition.eof", "true"},
                 {"auto.offset.reset", "earliest"}}),
        writer_(kafka::client_kind::producer, kafka.brokers, kafka.properties,
                {{"enable.idempotence", "true"},
                 {"partitioner", "murmur2_random"},
                 {"message.max.bytes", "104857600"},  // the broker decides
                 {"message.timeout.ms", "30000"}}) {
    read_filter();
    writer_.on_delivery([this](std::uintptr_t opaque, bool delivered) {
      const std::unique_ptr<in_flight> one(reinterpret_cast<in_flight*>(opaque));
      --waiting_;
      if (!delivered) return;
      ++counts_.sent;
      done(one->partition, one->offset);
    });
  }

  int run(const std::atomic<bool>& stop) {
    open();
    rd_kafka_poll_set_consumer(reader_.get());
    assign();
    auto committed = heard_ = clock::now();
    while (!stop && !full_ && !enough() && !all_read()) {
      read_one();
      rd_kafka_poll(writer_.get(), 0);
      while (waiting_ >= most_in_flight && writer_.refused() == 0) rd_kafka_poll(writer_.get(), 50);
      if (writer_.refused() > 0) break;  // what was not delivered is tried by the next run
      if (clock::now() - committed > std::chrono::seconds(1)) {
        commit();
        committed = clock::now();
      }
      show_progress();
    }
    stopped_ = stop && !enough() && !all_read();
    while (waiting_ > 0) rd_kafka_poll(writer_.get(), 50);  // each is reported within message.timeout.ms
    commit();
    line_.clear();
    counts_.refused = writer_.refused();
    report();
    rd_kafka_consumer_close(reader_.get());
    return counts_.refused > 0 || full_ ? failed : ok;
  }

 private:
  void read_filter() {
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
    filter_.codes = options_.codes;
    filter_.reason = options_.reason;
    filter_.partition = options_.source_partition;
    if (!options_.since.empty()) filter_.since_ms = read_time("--since", options_.since, now);
    if (!options_.until.empty()) filter_.until_ms = read_time("--until", options_.until, now);
    if (!options_.source_offset.empty())
      std::tie(filter_.first_offset, filter_.last_offset) = offsets_of(options_.source_offset);
  }

  /// Where each partition ends now, and what the group has sent of it.
  void open() {
    const int count = reader_.partitions(from_);
    if (!exists(to_))  // a typo would be created by many a broker, and have the letters
      throw std::runtime_error("topic " + to_ +
                               " does not exist (--to): name the one to send to, or create it first");
    partition_list list(rd_kafka_topic_partition_list_new(count));
    for (int p = 0; p < count; ++p) rd_kafka_topic_partition_list_add(list.get(), from_.c_str(), p);
    if (const auto error = rd_kafka_committed(reader_.get(), list.get(), ask_ms);
        error != RD_KAFKA_RESP_ERR_NO_ERROR)
      throw std::runtime_error("group " + options_.group + ": " + rd_kafka_err2str(error));
    for (int p = 0; p < count; ++p) {
      one_partition& one = partitions_[p];
      const auto& was = list->elems[p];
      if (was.err != RD_KAFKA_RESP_ERR_NO_ERROR)
        throw std::runtime_error("group " + options_.group + ": " + rd_kafka_err2str(was.err));
      if (was.offset >= 0)
        one.progress = {was.offset, was.metadata ? std::string_view(static_cast<const char*>(was.metadata),
                                                                    was.metadata_size)
                                                 : std::string_view()};
      std::int64_t low = 0;
      if (const auto error =
              rd_kafka_query_watermark_offsets(reader_.get(), from_.c_str(), p, &low, &one.end, ask_ms);
          error != RD_KAFKA_RESP_ERR_NO_ERROR)
        throw std::runtime_error("end of " + from_ + "/" + std::to_string(p) + ": " +
                                 rd_kafka_err2str(error));
      one.progress.add(0, low);  // no longer there
      look_.records += one.end - low;
      one.planned = one.progress;
      one.position = options_.from_beginning ? low : one.progress.next();
    }
  }

  [[nodiscard]] bool exists(const std::string& topic) const {
    const auto all = writer_.metadata();
    return std::any_of(all->topics, all->topics + all->topic_cnt,
                       [&](const auto& t) { return topic == t.topic && t.partition_cnt > 0; });
  }

  void assign() {
    partition_list list(rd_kafka_topic_partition_list_new(static_cast<int>(partitions_.size())));
    for (const auto& [p, one] : partitions_)
      if (one.position < one.end)
        rd_kafka_topic_partition_list_add(list.get(), from_.c_str(), p)->offset = one.position;
    if (list->cnt == 0) return;
    if (const auto error = rd_kafka_assign(reader_.get(), list.get()); error != RD_KAFKA_RESP_ERR_NO_ERROR)
      throw std::runtime_error("topic " + from_ + ": " + rd_kafka_err2str(error));
  }

  [[nodiscard]] bool all_read() const {
    return std::all_of(partitions_.begin(), partitions_.end(),
                       [](const auto& p) { return p.second.position >= p.second.end; });
  }
  [[nodiscard]] bool enough() const { return options_.limit > 0 && taken_ >= options_.limit; }

  void done(int partition, std::int64_t offset) {
    one_partition& one = partitions_[partition];
    one.progress.add(offset, offset + 1);
    one.changed = true;
  }

  void read_one() {
    const message_ptr m(rd_kafka_consumer_poll(reader_.get(), 100));
    if (!m) {
      if (clock::now() - heard_ > patience)
        throw std::runtime_error("nothing comes from " + from_ + " any more: " +
                                 (reader_.complaint().empty() ? "no answer" : reader_.complaint()));
      return;
    }
    heard_ = clock::now();
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      one_partition& one = partitions_[m->partition];
      one.absent(std::min(m->offset, one.end));  // a transaction's marks, or nothing
      one.position = std::max(one.position, one.end);
      return;
    }
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) return;  // it goes on by itself
    one_partition& one = partitions_[m->partition];
    if (m->offset >= one.end) {
      one.absent(one.end);
      one.position = one.end;
      return;
    }
    one.absent(m->offset);
    one.position = m->offset + 1;
    take(*m, one);
  }

  void take(const rd_kafka_message_t& m, one_partition& one) {
    ++look_.looked_at;
    if (!options_.from_beginning && one.progress.has(m.offset)) {
      ++counts_.sent_before;
      return;
    }
    rd_kafka_timestamp_type_t kind{};
    const dead_letter letter = read_letter(headers_of(m), rd_kafka_message_timestamp(&m, &kind));
    if (letter.timestamp_ms >= 0) {
      look_.first_ms =
          look_.first_ms < 0 ? letter.timestamp_ms : std::min(look_.first_ms, letter.timestamp_ms);
      look_.last_ms = std::max(look_.last_ms, letter.timestamp_ms);
    }
    if (letter.code.empty() && !options_.any_record) {  // results, say, would be answered as requests
      ++counts_.no_letters;
      return;
    }
    if (!filter_.wants(letter)) {
      ++counts_.other;
      return;
    }
    if (!m.payload) {
      ++counts_.without_value;
      say_left_out(m, letter,
                   letter.dropped_value >= 0 ? "its value of " + std::to_string(letter.dropped_value) +
                                                   " bytes was dropped, as the broker had refused its size"
                                             : std::string("it never had a value"));
      one.planned.add(m.offset, m.offset + 1);
      if (!options_.dry_run) done(m.partition, m.offset);
      return;
    }
    if (letter.replays >= options_.max_replays) {
      ++counts_.too_often;
      say_left_out(m, letter,
                   "it was sent " + std::to_string(letter.replays) +
                       (letter.replays == 1 ? " time" : " times") +
                       " and came back; --max-replays allows more");
      return;
    }
    one.planned.add(m.offset, m.offset + 1);
    if (!options_.dry_run && !fits(one.planned)) {
      full_ = true;
      return;
    }
    ++taken_;
    if (options_.dry_run)
      list(m, letter);
    else
      send(m, letter);
  }

  /// Whether a commit can tell it.
  static bool fits(const replay_progress& p) {
    constexpr std::size_t surely = 90;  // ranges of two numbers of 20 digits
    return p.ranges() <= surely || p.text().size() <= replay_progress::most_text;
  }

  void send(const rd_kafka_message_t& m, const dead_letter& letter) {
    const auto all = replay_headers(letter);
    for (;;) {
      auto* headers = rd_kafka_headers_new(all.size());
      for (const auto& [name, value] : all)
        rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()),
                            value ? value->data() : nullptr, value ? static_cast<ssize_t>(value->size()) : 0);
      auto mark = std::make_unique<in_flight>(in_flight{m.partition, m.offset});
      const auto error = rd_kafka_producev(
          writer_.get(), RD_KAFKA_V_TOPIC(to_.c_str()), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
          RD_KAFKA_V_VALUE(m.payload, m.len), RD_KAFKA_V_KEY(m.key, m.key_len), RD_KAFKA_V_HEADERS(headers),
          RD_KAFKA_V_OPAQUE(mark.get()), RD_KAFKA_V_END);
      if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        (void)mark.release();  // its report has it
        ++waiting_;
        return;
      }
      rd_kafka_headers_destroy(headers);
      if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL)
        throw std::runtime_error(place(m) + ": " + rd_kafka_err2str(error));
      rd_kafka_poll(writer_.get(), 100);
    }
  }

  /// What was sent, for the next run. Its text has limits: then this run ends.
  void commit() {
    if (options_.dry_run) return;
    partition_list list(rd_kafka_topic_partition_list_new(static_cast<int>(partitions_.size())));
    for (auto& [p, one] : partitions_) {
      if (!one.changed) continue;
      const std::string text = one.progress.text();
      if (text.size() > replay_progress::most_text) continue;  // until what is on its way fills the gaps
      auto* to = rd_kafka_topic_partition_list_add(list.get(), from_.c_str(), p);
      to->offset = one.progress.next();
      if (!text.empty()) {
        to->metadata = std::malloc(text.size());  // the list's destructor frees it
        if (!to->metadata) throw std::bad_alloc();
        std::memcpy(to->metadata, text.data(), text.size());
        to->metadata_size = text.size();
      }
      one.changed = false;
    }
    if (list->cnt == 0) return;
    auto error = rd_kafka_commit(reader_.get(), list.get(), 0);
    for (int i = 0; i < list->cnt && error == RD_KAFKA_RESP_ERR_NO_ERROR; ++i) error = list->elems[i].err;
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
      throw std::runtime_error("group " + options_.group + " could not note what was sent (" +
                               count_text(static_cast<std::uint64_t>(counts_.sent), "letter") +
                               " by now): " + rd_kafka_err2str(error));
  }

  // --- what is told

  [[nodiscard]] std::string place(const rd_kafka_message_t& m) const {
    return from_ + " " + std::to_string(m.partition) + "/" + std::to_string(m.offset);
  }

  static std::string harmless(std::string text) {
    for (char& c : text)
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
        c = ' ';  // what others wrote must not drive the terminal
    return text;
  }

  void say_left_out(const rd_kafka_message_t& m, const dead_letter& letter, const std::string& why) {
    constexpr std::int64_t told = 20;
    if (counts_.without_value + counts_.too_often > told) return;  // the summary counts them
    line_.clear();
    std::fprintf(stderr, "troupe: %s is left out (%s): %s\n", place(m).c_str(),
                 harmless(letter.code.empty() ? "no code" : letter.code).c_str(), why.c_str());
  }

  void list(const rd_kafka_message_t& m, const dead_letter& letter) const {
    const std::string key = m.key ? std::string(static_cast<const char*>(m.key), m.key_len) : std::string();
    if (options_.common.json) {
      json j;
      j["topic"] = from_;
      j["partition"] = m.partition;
      j["offset"] = m.offset;
      if (m.key) j["key"] = key;
      j["code"] = letter.code;
      j["reason"] = letter.reason;
      j["source_topic"] = letter.source_topic;
      j["source_partition"] = letter.source_partition;
      j["source_offset"] = letter.source_offset;
      j["timestamp_ms"] = letter.timestamp_ms;
      j["replays"] = letter.replays;
      j["bytes"] = m.len;
      std::printf("%s\n", j.dump(-1, ' ', false, json::error_handler_t::replace).c_str());
      return;
    }
    std::string text = place(m);
    text += source_text(letter);
    text += "  " + utc_text(letter.timestamp_ms);
    if (m.key) text += "  key=" + key.substr(0, 100);
    text += "  " + std::to_string(m.len) + " bytes";
    text += replays_text(letter);
    text += "  " + (letter.code.empty() ? "no code" : letter.code + ": " + letter.reason);
    std::printf("%s\n", harmless(text).c_str());
  }

  void show_progress() {
    std::int64_t read = 0;
    std::int64_t all = 0;
    for (const auto& [p, one] : partitions_) {
      read += one.position;
      all += one.end;
    }
    line_.show("sent " + std::to_string(counts_.sent) + "; " +
               std::to_string(std::max<std::int64_t>(0, all - read)) + " to look at");
  }

  /// The options that chose, with times as they were understood.
  [[nodiscard]] std::string filters() const {
    std::string all;
    const auto add = [&all](const char* name, const std::string& value) {
      if (!value.empty()) all += (all.empty() ? "" : " ") + std::string(name) + " " + value;
    };
    for (const auto& code : options_.codes) add("--code", code);
    add("--reason", options_.reason);
    if (!options_.since.empty()) add("--since", utc_text(filter_.since_ms));
    if (!options_.until.empty()) add("--until", utc_text(filter_.until_ms));
    if (options_.source_partition >= 0) add("--source-partition", std::to_string(options_.source_partition));
    add("--source-offset", options_.source_offset);
    return all;
  }

  void say_why_nothing() {
    look_.topic = from_;
    look_.group = options_.group;
    look_.filters = filters();
    look_.sent_before = counts_.sent_before;
    look_.other = counts_.other;
    look_.without_value = counts_.without_value;
    look_.too_often = counts_.too_often;
    look_.no_letters = counts_.no_letters;
    std::fprintf(stderr, "troupe: %s\n", nothing_to_send(look_).c_str());
  }

  void report() {
    const counts& c = counts_;
    if (taken_ == 0 && !stopped_ && !full_) say_why_nothing();
    if (full_)
      std::fprintf(
          stderr,
          "troupe: group %s can't remember more gaps between what was sent: use --group with another name, a "
          "filter that leaves less out, or none\n",
          options_.group.c_str());
    if (c.refused > 0)
      std::fprintf(stderr, "troupe: %lld not delivered to %s, and left for the next run: %s\n",
                   static_cast<long long>(c.refused), to_.c_str(), writer_.complaint().c_str());
    if (options_.common.json) {
      json j;
      j["from"] = from_;
      j["to"] = to_;
      j["group"] = options_.group;
      j["dry_run"] = options_.dry_run;
      j[options_.dry_run ? "would_send" : "sent"] = options_.dry_run ? taken_ : c.sent;
      j["not_delivered"] = c.refused;
      j["records"] = look_.records;
      j["looked_at"] = look_.looked_at;
      j["sent_before"] = c.sent_before;
      j["not_asked_for"] = c.other;
      j["without_value"] = c.without_value;
      j["replayed_too_often"] = c.too_often;
      j["no_dead_letters"] = c.no_letters;
      j["stopped"] = stopped_;
      std::printf("%s\n", j.dump().c_str());
      return;
    }
    std::string text =
        options_.dry_run ? "would send " + std::to_string(taken_) : "sent " + std::to_string(c.sent);
    text += " from " + from_ + " to " + to_;
    const auto also = [&](std::int64_t n, const char* what) {
      if (n > 0) text += "; " + std::to_string(n) + " " + what;
    };
    also(c.refused, "not delivered");
    also(c.other, "not asked for");
    also(c.without_value, "without a value");
    also(c.too_often, "replayed too often");
    also(c.no_letters, "no dead letters (--any-record sends them, too)");
    if (stopped_) text += "; stopped before the end";
    std::fprintf(options_.dry_run ? stderr : stdout, "%s\n", text.c_str());
  }

  const replay_options& options_;
  std::string from_, to_;
  kafka_client reader_;
  kafka_client writer_;
  replay_filter filter_;
  std::map<int, one_partition> partitions_;
  counts counts_;
  replay_look look_;
  std::int64_t taken_ = 0;
  std::size_t waiting_ = 0;
  clock::time_point heard_ = clock::now();
  bool full_ = false;
  bool stopped_ = false;
  progress_line line_;
};

}  // namespace

int replay(const replay_options& o) {
  const auto loaded = settings_of(o.common, true);
  const auto& kafka = loaded.values.kafka;
  usage_mistakes wrong;
  if (kafka.brokers == "embedded")
    wrong.add(
        "kafka.brokers is embedded, a broker inside another process: give its address with --brokers; that "
        "process's log has it in the line 'started', as 'brokers'");
  if (o.group == kafka.group)
    wrong.add("--group " + o.group + ": is the group of the requests (kafka.group); take another name");
  const std::string& to = o.to.empty() ? kafka.requests_topic : o.to;
  if (to == (o.from.empty() ? kafka.dead_letter_topic : o.from))
    wrong.add("--to " + to + ": must differ from the topic of the letters");
  wrong.end();
  const auto& stop = stop_requested();
  return replayer(o, kafka).run(stop);
}

}  // namespace troupe::cli
