#include <librdkafka/rdkafka.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "cli/commands.hpp"
#include "cli/kafka_client.hpp"
#include "cli/replay_letters.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;

struct shown_record {
  json value;        // discarded when it is no JSON
  std::string text;  // the value as it is
  dead_letter letter;
};

shown_record read(const rd_kafka_message_t& m) {
  shown_record r;
  if (m.payload) r.text.assign(static_cast<const char*>(m.payload), m.len);
  r.value = json::parse(r.text, nullptr, false);
  rd_kafka_timestamp_type_t kind{};
  r.letter = read_letter(headers_of(m), rd_kafka_message_timestamp(&m, &kind));
  return r;
}

/// Any header of a dead letter.
bool is_letter(const dead_letter& l) {
  return !l.reason.empty() || !l.code.empty() || !l.source_topic.empty();
}

/// One JSON document a line.
std::string machine_line(const rd_kafka_message_t& m, const shown_record& r) {
  const dead_letter& l = r.letter;
  json out;
  out["topic"] = rd_kafka_topic_name(m.rkt);
  out["partition"] = m.partition;
  out["offset"] = m.offset;
  out["timestamp_ms"] = l.timestamp_ms;
  if (m.key) out["key"] = std::string(static_cast<const char*>(m.key), m.key_len);
  if (!l.reason.empty()) out["reason"] = l.reason;
  if (!l.code.empty()) out["code"] = l.code;
  if (!l.source_topic.empty()) out["source_topic"] = l.source_topic;
  if (l.source_partition >= 0) out["source_partition"] = l.source_partition;
  if (l.source_offset >= 0) out["source_offset"] = l.source_offset;
  if (is_letter(l)) out["replays"] = l.replays;
  if (!m.payload)
    out["value"] = nullptr;
  else if (r.value.is_discarded())
    out["text"] = r.text;
  else
    out["value"] = r.value;
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string member(const json& value, const char* name) {
  const auto at = value.find(name);
  if (at == value.end() || at->is_null()) return "?";
  return at->is_string() ? at->get<std::string>() : at->dump();
}

std::string age(std::int64_t timestamp_ms) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const double s =
      static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count() - timestamp_ms) /
      1000;
  if (timestamp_ms < 0) return "";
  if (s < 48 * 3600) return "  " + span_text(s) + " ago";
  char text[32];
  const std::time_t at = timestamp_ms / 1000;
  std::tm utc{};
  if (!gmtime_r(&at, &utc) || std::strftime(text, sizeof text, "  %Y-%m-%d %H:%M UTC", &utc) == 0) return "";
  return text;
}

/// id, prediction, model/version, age; of a dead letter its place, the request's, why.
std::string people_line(const rd_kafka_message_t& m, const shown_record& r) {
  const std::string place = std::to_string(m.partition) + "/" + std::to_string(m.offset);
  const dead_letter& l = r.letter;
  std::string line;
  if (is_letter(l)) {
    line = rd_kafka_topic_name(m.rkt) + (" " + place) + source_text(l);
    if (m.key) line += "  key=" + std::string(static_cast<const char*>(m.key), m.key_len).substr(0, 100);
    line += replays_text(l) + "  " + (l.code.empty() ? "dead letter" : l.code) + ": " + l.reason;
  } else if (!r.value.is_object()) {
    line = place + "  " + r.text.substr(0, 200);
  } else if (const auto error = r.value.find("error"); error != r.value.end() && error->is_object()) {
    line = member(r.value, "request_id") + "  " + member(*error, "code") + ": " + member(*error, "message");
  } else {
    line = member(r.value, "request_id") + "  " + member(r.value, "prediction") + "  " +
           member(r.value, "model_name") + "/" + member(r.value, "model_version");
    if (r.value.contains("fallback_from")) line += " (asked for " + member(r.value, "fallback_from") + ")";
  }
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';  // what others wrote must not drive the terminal
  return line + age(l.timestamp_ms);
}

}  // namespace

int results(const results_options& o) {
  const auto loaded = settings_of(o.common, true);
  const auto& kafka = loaded.values.kafka;
  if (kafka.brokers == "embedded")
    throw usage_error(
        "kafka.brokers is embedded, a broker inside another process: give its address with --brokers; that "
        "process's log has it in the line 'started', as 'brokers'");
  const std::string topic = !o.topic.empty() ? o.topic
                            : o.dead_letters ? kafka.dead_letter_topic
                                             : kafka.results_topic;
  const auto& stop = stop_requested();
  const kafka_client client(kafka::client_kind::consumer, kafka.brokers, kafka.properties,
                            {{"group.id", "troupe-results"},
                             {"enable.auto.commit", "false"},
                             {"enable.partition.eof", "true"},
                             {"auto.offset.reset", "earliest"}});
  const int partitions = client.partitions(topic);
  rd_kafka_poll_set_consumer(client.get());
  // What is there, and with --follow what comes; --follow alone begins at the end.
  auto* list = rd_kafka_topic_partition_list_new(partitions);
  for (int p = 0; p < partitions; ++p)
    rd_kafka_topic_partition_list_add(list, topic.c_str(), p)->offset =
        o.follow && !o.from_beginning ? RD_KAFKA_OFFSET_END : RD_KAFKA_OFFSET_BEGINNING;
  const auto error = rd_kafka_assign(client.get(), list);
  rd_kafka_topic_partition_list_destroy(list);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
    throw std::runtime_error("topic " + topic + ": " + rd_kafka_err2str(error));

  int at_end = 0;
  std::int64_t shown = 0;
  while (!stop && (o.most == 0 || shown < o.most) && (o.follow || at_end < partitions)) {
    const std::unique_ptr<rd_kafka_message_t, decltype(&rd_kafka_message_destroy)> m(
        rd_kafka_consumer_poll(client.get(), 200), &rd_kafka_message_destroy);
    if (!m) continue;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      ++at_end;
      continue;
    }
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) continue;  // it goes on by itself
    ++shown;
    const shown_record r = read(*m);
    const std::string line = o.common.json ? machine_line(*m, r) : people_line(*m, r);
    std::printf("%s\n", line.c_str());
    if (o.follow) std::fflush(stdout);
    if (std::ferror(stdout)) return failed;  // nobody reads on
  }
  rd_kafka_consumer_close(client.get());
  return ok;
}

}  // namespace troupe::cli
