#include "cli/raw_records.hpp"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <vector>

#include "cli/commands.hpp"
#include "cli/kafka_client.hpp"
#include "runtime/policy/nearest.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

std::optional<std::string> bytes_of(const json& j, const char* name) {
  const std::string encoded = std::string(name) + "_base64";
  if (j.contains(encoded)) return from_base64(j.at(encoded).get<std::string>());
  if (!j.contains(name) || j.at(name).is_null()) return std::nullopt;
  return j.at(name).is_string() ? j.at(name).get<std::string>() : j.at(name).dump();
}

/// Lines 3, 7 and 12 of FILE were not delivered: ...; 40 were.
std::string not_delivered(const kafka_client& client, const std::string& file, std::int64_t sent) {
  const std::vector<std::uintptr_t> lines = client.refused_opaques();
  std::string text = client.refused() == 1 ? "line " : "lines ";
  for (std::size_t i = 0; i < lines.size(); ++i) text += (i ? ", " : "") + std::to_string(lines[i]);
  if (client.refused() > static_cast<std::int64_t>(lines.size())) text += ", ...";
  return "--raw " + file + ": " + text + " not delivered: " + client.complaint() + "; " +
         std::to_string(sent - client.refused()) + " of " + std::to_string(sent) + " delivered";
}

std::string complaint_about(const json& j) {
  static const std::vector<std::string> known{"value",   "value_base64", "key",         "key_base64",
                                              "headers", "partition",    "timestamp_ms"};
  if (!j.is_object()) return "not a JSON object";
  for (const auto& [name, ignored] : j.items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string near = policy::nearest(name, known, 2);
    return "unknown key '" + name.substr(0, 64) + "'" +
           (near.empty() ? "; expected value, key, headers, partition or timestamp_ms"
                         : "; did you mean '" + near + "'?");
  }
  if (!j.contains("value") && !j.contains("value_base64"))
    return "there is no value; a tombstone is \"value\": null";
  return "";
}

}  // namespace

std::string complaint_about_raw(std::string_view line) {
  return complaint_about(json::parse(line, nullptr, false));
}

std::string from_base64(std::string_view text) {
  constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  unsigned bits = 0;
  int have = 0;
  for (const char c : text) {
    if (c == '=') break;
    const auto value = alphabet.find(c);
    if (value == std::string_view::npos) throw std::runtime_error("not base64");
    bits = bits << 6 | static_cast<unsigned>(value);
    if ((have += 6) >= 8) out += static_cast<char>(bits >> (have -= 8) & 0xff);
  }
  return out;
}

std::int64_t send_raw(const load_options& o, const std::string& file, const std::atomic<bool>& stop) {
  std::ifstream opened;
  if (file != "-") {
    opened.open(file);
    if (!opened) throw usage_error("--raw " + file + ": can't be read");
  }
  std::istream& in = file == "-" ? std::cin : opened;

  const kafka_client client(kafka::client_kind::producer, o.brokers, o.properties,
                            {{"enable.idempotence", "true"},
                             {"message.max.bytes", "104857600"},  // the broker decides
                             {"message.timeout.ms", "30000"}});
  (void)client.metadata();  // says why when no broker answers

  std::int64_t sent = 0;
  std::size_t number = 0;
  for (std::string line; !stop && std::getline(in, line);) {
    ++number;
    if (line.empty()) continue;
    const std::string where = "--raw " + file + ":" + std::to_string(number) + ": ";
    const json j = json::parse(line, nullptr, false);
    if (const std::string wrong = complaint_about(j); !wrong.empty()) throw usage_error(where + wrong);
    std::optional<std::string> value, key;
    std::int32_t partition = RD_KAFKA_PARTITION_UA;
    std::int64_t timestamp = 0;
    try {
      value = bytes_of(j, "value");
      key = bytes_of(j, "key");
      partition = j.value("partition", partition);
      timestamp = j.value("timestamp_ms", timestamp);
    } catch (const std::exception& e) {
      throw usage_error(where + e.what());
    }
    if (j.contains("headers") && !j.at("headers").is_object())
      throw usage_error(where + "headers is not an object");
    auto* headers = rd_kafka_headers_new(4);
    if (j.contains("headers"))
      for (const auto& [name, v] : j.at("headers").items()) {
        const std::string text = v.is_string() ? v.get<std::string>() : v.dump();
        rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), text.data(),
                            static_cast<ssize_t>(text.size()));
      }
    char* const value_at = value ? value->data() : nullptr;
    char* const key_at = key ? key->data() : nullptr;
    const std::size_t value_size = value ? value->size() : 0;
    const std::size_t key_size = key ? key->size() : 0;
    for (;;) {
      const auto e = rd_kafka_producev(
          client.get(), RD_KAFKA_V_TOPIC(o.requests_topic.c_str()), RD_KAFKA_V_PARTITION(partition),
          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_TIMESTAMP(timestamp),
          RD_KAFKA_V_VALUE(value_at, value_size), RD_KAFKA_V_KEY(key_at, key_size),
          RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(reinterpret_cast<void*>(number)), RD_KAFKA_V_END);
      if (e == RD_KAFKA_RESP_ERR_NO_ERROR) break;
      if (e != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        rd_kafka_headers_destroy(headers);
        throw std::runtime_error(where + rd_kafka_err2str(e));
      }
      rd_kafka_poll(client.get(), 100);
    }
    rd_kafka_poll(client.get(), 0);
    ++sent;
  }
  rd_kafka_flush(client.get(), 35'000);
  if (client.refused()) throw std::runtime_error(not_delivered(client, file, sent));
  if (rd_kafka_outq_len(client.get()) > 0)
    throw std::runtime_error("not everything was delivered within 35 s");
  return sent;
}

}  // namespace troupe::cli
