#include "cli/raw_records.hpp"

#include <librdkafka/rdkafka.h>

#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <vector>

namespace troupe::cli {
namespace {

using nlohmann::json;

std::optional<std::string> bytes_of(const json& j, const char* name) {
  const std::string encoded = std::string(name) + "_base64";
  if (j.contains(encoded)) return from_base64(j.at(encoded).get<std::string>());
  if (!j.contains(name) || j.at(name).is_null()) return std::nullopt;
  return j.at(name).is_string() ? j.at(name).get<std::string>() : j.at(name).dump();
}

}  // namespace

std::string from_base64(std::string_view text) {
  std::string out;
  unsigned bits = 0;
  int have = 0;
  for (const char c : text) {
    if (c == '=') break;
    const int v = c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52
                  : c == '+' ? 62 : c == '/' ? 63 : -1;
    if (v < 0) throw std::runtime_error("not base64");
    bits = bits << 6 | static_cast<unsigned>(v);
    if ((have += 6) >= 8) out += static_cast<char>(bits >> (have -= 8) & 0xff);
  }
  return out;
}

std::int64_t send_raw(const load_options& o, const std::string& file, const std::atomic<bool>& stop) {
  std::ifstream opened;
  if (file != "-") {
    opened.open(file);
    if (!opened) throw std::runtime_error("--raw " + file + ": can't be read");
  }
  std::istream& in = file == "-" ? std::cin : opened;

  char error[512];
  auto* conf = rd_kafka_conf_new();
  auto set = [&](const std::string& k, const std::string& v) {
    if (rd_kafka_conf_set(conf, k.c_str(), v.c_str(), error, sizeof error) != RD_KAFKA_CONF_OK) throw std::runtime_error(error);
  };
  set("bootstrap.servers", o.brokers);
  set("enable.idempotence", "true");
  set("message.max.bytes", "104857600");
  set("message.timeout.ms", "30000");
  for (const auto& [k, v] : o.properties) set(k, v);
  std::string refused;
  rd_kafka_conf_set_opaque(conf, &refused);
  rd_kafka_conf_set_dr_msg_cb(conf, [](rd_kafka_t*, const rd_kafka_message_t* m, void* out) {
    if (m->err && static_cast<std::string*>(out)->empty()) *static_cast<std::string*>(out) = rd_kafka_err2str(m->err);
  });
  const std::unique_ptr<rd_kafka_t, decltype(&rd_kafka_destroy)> rk(
      rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error), &rd_kafka_destroy);
  if (!rk) throw std::runtime_error(error);

  std::int64_t sent = 0;
  std::size_t number = 0;
  for (std::string line; !stop && std::getline(in, line);) {
    ++number;
    if (line.empty()) continue;
    const std::string where = "--raw " + file + ":" + std::to_string(number) + ": ";
    const json j = json::parse(line, nullptr, false);
    if (!j.is_object()) throw std::runtime_error(where + "not a JSON object");
    std::optional<std::string> value, key;
    try {
      value = bytes_of(j, "value");
      key = bytes_of(j, "key");
    } catch (const std::exception& e) {
      throw std::runtime_error(where + e.what());
    }
    auto* headers = rd_kafka_headers_new(4);
    if (j.contains("headers"))
      for (const auto& [name, v] : j.at("headers").items()) {
        const std::string text = v.is_string() ? v.get<std::string>() : v.dump();
        rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), text.data(), static_cast<ssize_t>(text.size()));
      }
    char* const value_at = value ? value->data() : nullptr;
    char* const key_at = key ? key->data() : nullptr;
    const std::size_t value_size = value ? value->size() : 0;
    const std::size_t key_size = key ? key->size() : 0;
    for (;;) {
      const auto e = rd_kafka_producev(
          rk.get(), RD_KAFKA_V_TOPIC(o.requests_topic.c_str()), RD_KAFKA_V_PARTITION(j.value("partition", RD_KAFKA_PARTITION_UA)),
          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_TIMESTAMP(j.value("timestamp_ms", std::int64_t{0})),
          RD_KAFKA_V_VALUE(value_at, value_size), RD_KAFKA_V_KEY(key_at, key_size), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
      if (e == RD_KAFKA_RESP_ERR_NO_ERROR) break;
      if (e != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        rd_kafka_headers_destroy(headers);
        throw std::runtime_error(where + rd_kafka_err2str(e));
      }
      rd_kafka_poll(rk.get(), 100);
    }
    rd_kafka_poll(rk.get(), 0);
    ++sent;
  }
  rd_kafka_flush(rk.get(), 35'000);
  if (!refused.empty()) throw std::runtime_error("a record was not delivered: " + refused);
  if (rd_kafka_outq_len(rk.get()) > 0) throw std::runtime_error("not everything was delivered within 35 s");
  return sent;
}

}  // namespace troupe::cli
