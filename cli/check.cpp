#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "actors/node.hpp"
#include "cli/commands.hpp"
#include "cli/kafka_client.hpp"
#include "cli/listeners.hpp"
#include "runtime/guard/key_file.hpp"
#include "runtime/guard/token_keys.hpp"
#include "runtime/http/server.hpp"
#include "runtime/kafka/client.hpp"
#include "runtime/kafka/librdkafka_source.hpp"
#include "runtime/kafka/transaction_refusal.hpp"
#include "runtime/model/repository.hpp"
#include "runtime/observe/otlp_exporter.hpp"
#include "runtime/registry/from_settings.hpp"
#include "runtime/store/redis.hpp"

namespace troupe::cli {
namespace {

struct finding {
  std::string what;
  bool ok;
  std::string detail;
  bool warning = false;  ///< it works, but hardly as it is meant
};

std::string count(int n, const std::string& of) {
  return count_text(static_cast<std::uint64_t>(n), of);
}

/// Further lines of one finding stand below its first.
std::string below_one_another(std::string text) {
  for (auto at = text.find('\n'); at != std::string::npos; at = text.find('\n', at + 1))
    text.insert(at + 1, 8, ' ');
  return text;
}

/// The detail without the subject, where an error begins with it.
std::string said_once(const std::string& what, std::string_view detail) {
  const std::string_view subject = what;
  for (const auto known : {subject, subject.substr(std::min(subject.find(' '), subject.size() - 1) + 1)}) {
    if (known.empty() || !detail.starts_with(known)) continue;
    const std::string_view rest = detail.substr(known.size());
    if (rest.starts_with(": ")) return std::string(rest.substr(2));
    if (rest.starts_with(" ")) return std::string(rest.substr(1));
  }
  return std::string(detail);
}

finding check_models(const config::settings& s) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(s.models.directory, error);
  const std::string what = "models " + (error ? s.models.directory : absolute.string());
  try {
    const auto table = model::repository(model_options(s)).load();
    std::string list;
    for (const auto& m : table->all())
      list += (list.empty() ? "" : ", ") + m->name() + "/" + m->version() + " (" +
              std::string(m->engine().kind()) + ")";
    return {what, true, list};
  } catch (const model::load_error& e) {
    return {what, false, e.what()};
  }
}

std::vector<finding> check_registry(const config::settings& s) {
  std::vector<finding> out;
  const std::string what = "mlflow " + s.mlflow.uri;
  try {
    registry::mlflow_client client(registry::client_options_of(s.mlflow));
    for (const auto& text : registry::poller_options_of(s.mlflow).references) {
      const auto r = policy::parse_model_reference(text);
      if (!r) {
        out.push_back({what, false, "mlflow.models: '" + text + "' is no reference like models:/NAME/3"});
        continue;
      }
      try {
        out.push_back({what + " " + text, true, "version " + client.resolve(*r).version});
      } catch (const registry::registry_error& e) {
        out.push_back({what + " " + text, false, e.what()});
        if (e.kind == registry::failure::unreachable) break;
      }
    }
  } catch (const registry::registry_error& e) {
    out.push_back({what, false, e.what()});
  }
  return out;
}

/// An id for the question alone, always the same: with a node's own it would put that node out of its
/// transactions, and a new one each time would stay with the brokers for days.
std::string probe_id(const config::kafka_settings& k) {
  return transactional_id_of(k) + "-check";
}

finding check_transactions(const config::settings& s, const kafka_client& client,
                           const struct rd_kafka_metadata& meta) {
  const auto& k = s.kafka;
  int code = 0;
  std::string why = kafka::try_transactions(client.get(), probe_id(k), transactional_id_of(k),
                                            k.transaction_timeout, 10 * policy::second, &code);
  if (code == RD_KAFKA_RESP_ERR__TIMED_OUT) {
    const int broker = meta.brokers[0].id;
    const std::string copies = client.broker_setting(broker, "transaction.state.log.replication.factor");
    const std::string in_sync = client.broker_setting(broker, "transaction.state.log.min.isr");
    if (!copies.empty())
      why += " (here " + copies + " and " + in_sync + ", with " + count(meta.broker_cnt, "broker") + ")";
  }
  if (!why.empty() && k.eventhub) why += "; kafka.eventhub_transactions says that this namespace has them";
  return {"transactions of " + k.brokers, why.empty(), why.empty() ? "begun as '" + probe_id(k) + "'" : why};
}

/// What the brokers say of the group's members, where they let this user ask.
std::vector<finding> check_group(const config::settings& s, const kafka_client& client, int broker) {
  const std::string what = "group " + s.kafka.group;
  const auto own = [&](const char* name, std::string otherwise) {
    const auto it = s.kafka.properties.find(name);
    return it == s.kafka.properties.end() ? std::move(otherwise) : it->second;
  };
  if (own("group.protocol", "classic") == "consumer") {
    const std::string has = client.broker_setting(broker, "group.coordinator.rebalance.protocols");
    if (has.empty() || has.find("consumer") != std::string::npos) return {};
    return {{what, false,
             located({"group.protocol",
                      "the brokers have no 'consumer' (their "
                      "group.coordinator.rebalance.protocols is " +
                          has + "): remove it, or let them have it"})}};
  }
  const auto least = whole(client.broker_setting(broker, "group.min.session.timeout.ms"));
  const auto most = whole(client.broker_setting(broker, "group.max.session.timeout.ms"));
  const auto ours =
      whole(own("session.timeout.ms", std::to_string(kafka::source_options().session_timeout_ms)));
  if (!least || !most || !ours) return {};
  const std::string range = std::to_string(*least) + " to " + std::to_string(*most);
  if (*ours >= *least && *ours <= *most)
    return {{what, true, "session.timeout.ms " + std::to_string(*ours) + ", of " + range}};
  return {{what, false,
           located({"session.timeout.ms",
                    std::to_string(*ours) + " is not allowed by the brokers; expected " + range +
                        " (their group.min.session.timeout.ms and group.max.session.timeout.ms)"})}};
}

std::vector<finding> check_kafka(const config::settings& s) {
  const std::string what = "kafka " + s.kafka.brokers;
  if (s.kafka.brokers == "embedded") return {{what, true, "a broker inside the process"}};
  metadata_ptr meta;
  std::optional<kafka_client> client;
  std::optional<bool> creates_topics;  // asked only where a topic is missing
  try {
    // As the node's: properties may each be right and not go with these.
    kafka_client::settings ours = {{"enable.idempotence", "true"}};
    if (s.kafka.delivery == config::delivery::exactly_once) {
      ours.push_back({"transactional.id", probe_id(s.kafka)});
      ours.push_back({"transaction.timeout.ms", std::to_string(s.kafka.transaction_timeout / 1'000'000)});
    }
    client.emplace(kafka::client_kind::producer, s.kafka.brokers, s.kafka.properties, ours);
    meta = client->metadata();
    // What only the consumer takes is looked at too.
    (void)kafka_client(kafka::client_kind::consumer, s.kafka.brokers, s.kafka.properties,
                       {{"group.id", s.kafka.group}});
  } catch (const kafka::property_error& e) {
    return {{what, false, located(e)}};
  } catch (const kafka::no_broker& e) {
    return {{what, false,
             std::string(e.what()) + "; without a broker: --set kafka.enabled=false, or --brokers embedded"}};
  } catch (const std::exception& e) {
    return {{what, false, e.what()}};
  }
  std::vector<finding> out{{what, true, count(meta->broker_cnt, "broker")}};
  if (s.kafka.delivery == config::delivery::exactly_once)
    out.push_back(check_transactions(s, *client, *meta));
  for (auto& f : check_group(s, *client, meta->brokers[0].id)) out.push_back(std::move(f));
  for (const auto& topic :
       {s.kafka.requests_topic, s.kafka.results_topic, s.kafka.dead_letter_topic, s.kafka.parking_topic}) {
    if (topic.empty()) continue;
    int partitions = 0;
    for (int i = 0; i < meta->topic_cnt; ++i)
      if (topic == meta->topics[i].topic) partitions = meta->topics[i].partition_cnt;
    if (partitions > 0) {
      out.push_back({"topic " + topic, true, count(partitions, "partition")});
      continue;
    }
    if (!creates_topics)
      creates_topics = client->broker_setting(meta->brokers[0].id, "auto.create.topics.enable") == "true";
    out.push_back({"topic " + topic, *creates_topics,
                   *creates_topics    ? topic == s.kafka.requests_topic
                                            ? "is not there: the broker creates it when somebody sends to it; "
                                              "nothing is read until then"
                                            : "will be created by the broker"
                   : s.kafka.eventhub ? "does not exist: az eventhubs eventhub create --resource-group GROUP "
                                        "--namespace-name NAMESPACE --name " +
                                            topic
                                      : "does not exist: kafka-topics.sh --bootstrap-server " +
                                            s.kafka.brokers + " --create --topic " + topic});
  }
  return out;
}

finding check_redis(const config::settings& s) {
  const std::string what = "redis " + s.redis.host + ":" + std::to_string(s.redis.port);
  auto o = redis_options_of(s);
  o.reconnect_min = s.redis.connect_timeout * 2;  // one attempt is the answer
  try {
    const auto redis = store::make_redis(o);
    store::store_status status;
    const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(s.redis.connect_timeout) +
                       std::chrono::seconds(1);
    while (std::chrono::steady_clock::now() < until) {
      status = redis->status();
      if (status.connected || status.fatal) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return {what, status.connected, status.connected ? "answers" : status.reason};
  } catch (const std::exception& e) {
    return {what, false, e.what()};
  }
}

finding check_keys(const config::settings& s) {
  const std::string what = "auth.keys_file " + s.auth.keys_file;
  try {
    const auto n = guard::read_key_file(s.auth.keys_file).size();
    return {what, true, count(static_cast<int>(n), "client")};
  } catch (const guard::key_file_error& e) {
    return {what, false, e.what()};
  }
}

finding check_token_keys(const config::settings& s) {
  guard::token_keys_options o;
  o.file = s.auth.jwks_file;
  o.url = s.auth.jwks_url;
  o.tls_ca = s.auth.jwks_tls_ca;
  const std::string what = o.url.empty() ? "auth.jwks_file " + o.file : "auth.jwks_url " + o.url;
  try {
    return {what, true, count(static_cast<int>(guard::look_once(o)->size()), "key")};
  } catch (const guard::key_set_error& e) {
    return {what, false, e.what()};
  }
}

/// A node is ready without it, and answers: spans are what would be missing.
finding check_tracing(const config::settings& s) {
  try {
    const auto o = otlp_options_of(s.tracing);
    const std::string fault = observe::otlp_fault(o);
    return {"tracing " + o.url, fault.empty(), fault.empty() ? "takes spans" : fault};
  } catch (const startup_error& e) {
    return {"tracing " + s.tracing.endpoint, false, e.what()};
  }
}

/// A node answers there, though its process is not seen: another container's, say.
bool node_answers(const std::string& bind, int port) {
  constexpr int patience_s = 2;
  const std::string host = bind == "0.0.0.0"                     ? "127.0.0.1"
                           : bind == "::"                        ? "[::1]"
                           : bind.find(':') != std::string::npos ? "[" + bind + "]"
                                                                 : bind;
  try {
    const auto said = nlohmann::json::parse(
        http_call("GET", "http://" + host + ":" + std::to_string(port) + "/liveness", {}, {}, patience_s)
            .body,
        nullptr, false);
    return said == nlohmann::json({{"status", "alive"}});
  } catch (const std::runtime_error&) {  // nobody, or no HTTP
    return false;
  }
}

finding check_port(const std::string& option, const std::string& bind, int port) {
  const std::string what = option + " " + std::to_string(port);
  try {
    http::server_options o;
    o.bind = bind;
    o.port = port;
    o.name = option;
    const http::server probe(o, {});
    return {what, true, "free"};
  } catch (const http::bind_error& e) {
    if (!e.in_use) return {what, false, e.what()};
    // Beside a node that runs, as in its pod, that is as it should be.
    const auto there = listening_on(bind, port);
    for (const auto& one : there)
      if (one.name == "troupe")
        return {what, true, "a running troupe listens there (process " + std::to_string(one.pid) + ")"};
    if (node_answers(bind, port)) return {what, true, "a running troupe listens there"};
    if (there.empty()) return {what, false, e.what()};
    return {what, false,
            std::string(e.what()) + " (it is " + there.front().name + ", process " +
                std::to_string(there.front().pid) + ")"};
  }
}

struct listener {
  std::string option;
  std::string bind;
  int port = 0;
};

std::vector<finding> check_ports(const std::vector<listener>& all) {
  const auto any = [](const std::string& bind) { return bind == "0.0.0.0" || bind == "::"; };
  std::vector<finding> found;
  for (const auto& one : all) {
    const auto same = std::find_if(all.begin(), all.end(), [&](const listener& other) {
      return &other < &one && other.port == one.port && one.port != 0 &&
             (other.bind == one.bind || any(other.bind) || any(one.bind));
    });
    if (same == all.end())
      found.push_back(check_port(one.option, one.bind, one.port));
    else
      found.push_back({one.option + " " + std::to_string(one.port), false,
                       "is that of " + same->option + ", too: give each a port of its own"});
  }
  return found;
}

}  // namespace

int check(const check_options& o) {
  const auto loaded = read_settings(o.common, settings_for::node);  // its warnings are findings here
  const auto& s = loaded.values;
  open_log(s, true);
  std::vector<finding> all{
      {"config " + (loaded.file.empty() ? std::string("(no file: defaults)") : loaded.file), true, "valid"}};
  for (const auto& w : loaded.warnings) all.push_back({"config", true, w, true});
  if (!s.mlflow.models.empty())
    for (auto& f : check_registry(s)) all.push_back(std::move(f));
  std::error_code error;
  if (s.mlflow.models.empty() || (std::filesystem::is_directory(s.models.directory, error) &&
                                  !std::filesystem::is_empty(s.models.directory, error)))
    all.push_back(check_models(s));
  if (s.kafka.enabled)
    for (auto& f : check_kafka(s)) all.push_back(std::move(f));
  if (!s.redis.host.empty()) all.push_back(check_redis(s));
  if (!s.tracing.endpoint.empty()) all.push_back(check_tracing(s));
  if (!s.auth.keys_file.empty()) all.push_back(check_keys(s));
  if (!s.auth.jwks_file.empty() || !s.auth.jwks_url.empty()) all.push_back(check_token_keys(s));
  std::vector<listener> listeners;
  if (s.http.enabled) listeners.push_back({"http.port", s.http.bind, s.http.port});
  if (s.grpc.enabled) listeners.push_back({"grpc.port", s.grpc.bind, s.grpc.port});
  listeners.push_back({"metrics.port", s.metrics.bind, s.metrics.port});
  for (auto& f : check_ports(listeners)) all.push_back(std::move(f));
  bool good = true;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (auto& f : all) {
    good &= f.ok;
    f.detail = said_once(f.what, f.detail);
    list.push_back({{"what", f.what}, {"ok", f.ok}, {"detail", f.detail}});
    if (f.warning) list.back()["warning"] = true;
    if (!o.common.json)
      std::printf("%-6s  %s: %s\n",
                  f.warning ? "warn"
                  : f.ok    ? "ok"
                            : "FAILED",
                  f.what.c_str(), below_one_another(f.detail).c_str());
  }
  if (o.common.json)
    std::printf("%s\n", nlohmann::ordered_json({{"ok", good}, {"checks", list}}).dump().c_str());
  return good ? ok : failed;
}

}  // namespace troupe::cli
