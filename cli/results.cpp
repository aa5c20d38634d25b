#include <librdkafka/rdkafka.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "cli/commands.hpp"
#include "cli/kafka_client.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;

struct shown_record {
  json value;          // discarded when it is no JSON
  std::string text;    // the value as it is
  std::string reason;  // of a dead letter
  std::string code, source_topic, source_partition, source_offset;
  std::int64_t timestamp_ms = -1;
};

shown_record read(const rd_kafka_message_t& m) {
  shown_record r;
  if (m.payload) r.text.assign(static_cast<const char*>(m.payload), m.len);
  r.value = json::parse(r.text, nullptr, false);
  rd_kafka_timestamp_type_t kind{};
  r.timestamp_ms = rd_kafka_message_timestamp(&m, &kind);
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const auto get = [&](const char* name, std::string& into) {
      const void* text = nullptr;
      std::size_t size = 0;
      if (rd_kafka_header_get_last(headers, name, &text, &size) == RD_KAFKA_RESP_ERR_NO_ERROR && text)
        into.assign(static_cast<const char*>(text), size);
    };
    get("__connect.errors.exception.message", r.reason);
    get("__connect.errors.exception.class.name", r.code);
    get("__connect.errors.topic", r.source_topic);
    get("__connect.errors.partition", r.source_partition);
    get("__connect.errors.offset", r.source_offset);
  }
  return r;
}

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

/// One JSON document a line.
std::string machine_line(const rd_kafka_message_t& m, const shown_record& r) {
  json out;
  out["topic"] = rd_kafka_topic_name(m.rkt);
  out["partition"] = m.partition;
  out["offset"] = m.offset;
  out["timestamp_ms"] = r.timestamp_ms;
  if (m.key) out["key"] = std::string(static_cast<const char*>(m.key), m.key_len);
  if (!r.reason.empty()) out["reason"] = r.reason;
  if (!r.code.empty()) out["code"] = r.code;
  if (!r.source_topic.empty()) out["source_topic"] = r.source_topic;
  if (const auto n = number(r.source_partition)) out["source_partition"] = *n;
  if (const auto n = number(r.source_offset)) out["source_offset"] = *n;
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

/// id, prediction, model/version, age.
std::string people_line(const rd_kafka_message_t& m, const shown_record& r) {
  const std::string place = std::to_string(m.partition) + "/" + std::to_string(m.offset);
  std::string line;
  if (!r.reason.empty()) {
    // Where the request is; the place in this topic where its headers say nothing.
    line = r.source_topic.empty() ? place : r.source_topic + " " + r.source_partition + "/" + r.source_offset;
    if (m.key) line += " key=" + std::string(static_cast<const char*>(m.key), m.key_len).substr(0, 100);
    line += " " + (r.code.empty() ? "dead letter" : r.code) + ": " + r.reason;
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
  return line + age(r.timestamp_ms);
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
