#include "runtime/config/option_list.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "runtime/config/units.hpp"

namespace troupe::config {
namespace {

using policy::microsecond;
using policy::millisecond;
using policy::second;

constexpr nanos hour = 3600 * second;
constexpr std::size_t kib = 1024;
constexpr std::size_t mib = 1024 * kib;
constexpr std::size_t gib = 1024 * mib;
constexpr std::size_t most_of_name = 249;  ///< characters; Kafka's limit

std::string number_text(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

template <class Number>
Number parse_number(const std::string& text, Number least, Number most, const std::string& allowed) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || at != end || !(value >= least && value <= most)) throw value_error(allowed);
  return value;
}

/// What Kafka takes as the name of a topic, and as group.instance.id
/// (org.apache.kafka.common.internals.Topic).
bool is_topic_name(std::string_view text) {
  return !text.empty() && text.size() <= most_of_name && text != "." && text != ".." &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                  c == '_' || c == '-';
         });
}

class builder {
 public:
  binding& text(const char* key, std::string& target, const char* help, value_type type = value_type::text) {
    binding& b = add(key, type, help);
    b.set = [&target](const std::string& v) { target = v; };
    b.get = [&target] { return target; };
    return b;
  }

  /// A text that may not be empty.
  binding& name(const char* key, std::string& target, const char* help, value_type type = value_type::text) {
    binding& b = text(key, target, help, type);
    b.doc.bounds = "not empty";
    b.set = [&target](const std::string& v) {
      if (v.empty()) throw value_error("a text that is not empty");
      target = v;
    };
    return b;
  }

  /// A name as Kafka takes it for topics.
  binding& topic_name(const char* key, std::string& target, bool may_be_empty, const char* help) {
    binding& b = text(key, target, help);
    const std::string most = std::to_string(most_of_name);
    b.doc.bounds = (may_be_empty ? "up to " : "1 to ") + most + " of a-z, A-Z, 0-9, `.`, `_`, `-`";
    b.pattern = R"(^(?!\.{1,2}$)[a-zA-Z0-9._-]{)" + std::string(may_be_empty ? "0," : "1,") + most + "}$";
    b.set = [&target, may_be_empty, most](const std::string& v) {
      if (!is_topic_name(v) && !(v.empty() && may_be_empty))
        throw value_error("1 to " + most +
                          " letters (a-z, A-Z), digits, '.', '_' and '-', but not '.' or '..'" +
                          (may_be_empty ? ", or nothing" : ""));
      target = v;
    };
    return b;
  }

  /// A name that Kafka takes with any characters, of which some are hardly meant.
  binding& plain_name(const char* key, std::string& target, const char* help) {
    binding& b = text(key, target, help);
    const std::string most = std::to_string(most_of_name);
    b.doc.bounds = "up to " + most + " characters";
    b.pattern = R"(^[^\u0000-\u001f\u007f]{0,)" + most + "}$";
    b.set = [&target, most](const std::string& v) {
      const bool control = std::any_of(
          v.begin(), v.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
      if (control || v.size() > most_of_name || v.starts_with(' ') || v.ends_with(' '))
        throw value_error("at most " + most +
                          " characters, none of them a control character, and no blank at either end");
      target = v;
    };
    return b;
  }

  template <class Integer>
  binding& count(const char* key, Integer& target, Integer least, Integer most, const char* unit,
                 const char* help) {
    binding& b = add(key, value_type::integer, help);
    b.doc.unit = unit;
    b.doc.bounds = std::to_string(least) + " to " + std::to_string(most);
    b.least = static_cast<double>(least);
    b.most = static_cast<double>(most);
    b.set = [&target, least, most, allowed = "an integer from " + b.doc.bounds](const std::string& v) {
      target = parse_number(v, least, most, allowed);
    };
    b.get = [&target] { return std::to_string(target); };
    return b;
  }

  binding& number(const char* key, double& target, double least, double most, const char* help) {
    binding& b = add(key, value_type::number, help);
    b.doc.bounds = number_text(least) + " to " + number_text(most);
    b.least = least;
    b.most = most;
    b.set = [&target, least, most, allowed = "a number from " + b.doc.bounds](const std::string& v) {
      target = parse_number(v, least, most, allowed);
    };
    b.get = [&target] { return number_text(target); };
    return b;
  }

  binding& duration(const char* key, nanos& target, nanos least, nanos most, const char* help) {
    binding& b = add(key, value_type::duration, help);
    b.doc.bounds = format_duration(least) + " to " + format_duration(most);
    b.set = [&target, least, most, bounds = b.doc.bounds](const std::string& v) {
      const auto value = parse_duration(v);
      if (!value || *value < least || *value > most)
        throw value_error("a duration from " + bounds + (value ? "" : ", written like 250ms, 10s or 1h"));
      target = *value;
    };
    b.get = [&target] { return format_duration(target); };
    return b;
  }

  binding& size(const char* key, std::size_t& target, std::size_t least, std::size_t most, const char* help) {
    binding& b = add(key, value_type::size, help);
    b.doc.unit = "bytes";
    b.doc.bounds = format_size(least) + " to " + format_size(most);
    b.set = [&target, least, most, bounds = b.doc.bounds](const std::string& v) {
      const auto value = parse_size(v);
      if (!value || *value < least || *value > most)
        throw value_error("a size from " + bounds + (value ? "" : ", written like 512KiB or 10MiB"));
      target = *value;
    };
    b.get = [&target] { return format_size(target); };
    return b;
  }

  binding& boolean(const char* key, bool& target, const char* help) {
    binding& b = add(key, value_type::boolean, help);
    b.set = [&target](const std::string& v) {
      if (v == "true" || v == "yes" || v == "on")
        target = true;
      else if (v == "false" || v == "no" || v == "off")
        target = false;
      else
        throw value_error("true or false");
    };
    b.get = [&target] { return std::string(target ? "true" : "false"); };
    return b;
  }

  /// `names` in the order of the enumeration (bool: false, true).
  template <class Enum>
  binding& choice(const char* key, Enum& target, std::vector<std::string> names, const char* help) {
    binding& b = add(key, value_type::choice, help);
    b.doc.choices = names;
    b.set = [&target, names](const std::string& v) {
      std::string allowed;
      for (std::size_t i = 0; i < names.size(); ++i) {
        if (names[i] == v) {
          target = static_cast<Enum>(i);
          return;
        }
        allowed += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + names[i];
      }
      throw value_error(allowed);
    };
    b.get = [&target, names] { return names[static_cast<std::size_t>(target)]; };
    return b;
  }

  binding& add(const char* key, value_type type, const char* help) {
    binding& b = made_.emplace_back();
    b.doc.key = key;
    b.doc.type = type;
    b.doc.help = help;
    return b;
  }

  [[nodiscard]] std::vector<binding> take() {
    for (auto& b : made_) {
      if (b.get) b.doc.default_value = b.get();
      b.doc.environment = environment_name(b.doc.key);
    }
    return std::move(made_);
  }

 private:
  std::vector<binding> made_;
};

void tls_options(builder& b, const std::string& section, tls_settings& s) {
  const auto key = [&](const char* name) { return section + "." + name; };
  b.text(key("tls_cert").c_str(), s.certificate,
         "PEM file of the server's certificate with its chain; empty: no TLS. Read again on reload.");
  b.text(key("tls_key").c_str(), s.key, "PEM file of its key.");
  b.text(key("tls_client_ca").c_str(), s.client_ca,
         "PEM file of the authorities that clients' certificates are checked against; empty: none is asked "
         "for.");
  b.boolean(key("tls_client_required").c_str(), s.client_required,
            "Clients without a certificate are refused; else one is checked only where it is given.");
}

char upper(char c) {
  if (c >= 'a' && c <= 'z') return static_cast<char>(c - 'a' + 'A');
  return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
}

}  // namespace

std::string environment_name(std::string_view key) {
  std::string name = "TROUPE_";
  for (const char c : key) name += upper(c);
  return name;
}

std::string_view section_of(std::string_view key) {
  return key.substr(0, key.find('.'));
}

bool is_secret_property(std::string_view name) {
  for (const std::string_view part :
       {"password", "secret", "token", "sasl.oauthbearer.config", "key.pem", "jaas"})
    if (name.find(part) != std::string_view::npos) return true;
  return false;
}

std::vector<binding> bind(settings& s) {
  builder b;

  b.boolean("kafka.enabled", s.kafka.enabled,
            "Read requests from Kafka; without it the node answers over HTTP and gRPC alone.");
  b.name(
      "kafka.brokers", s.kafka.brokers,
      "Bootstrap servers, host:port; `embedded`, alone, runs a broker inside the process (nothing is kept), "
      "at a free port of the loopback that the log's line `started` names.",
      value_type::list);
  b.name("kafka.group", s.kafka.group, "Consumer group.");
  b.duration(
      "kafka.ready_timeout", s.kafka.ready_timeout, 0, 24 * hour,
      "How long after its start a node is not ready before the brokers have let it in once; then it is "
      "ready without them, and answers by its other doors. 0: at once.");
  b.topic_name("kafka.requests_topic", s.kafka.requests_topic, false, "Topic that requests are read from.");
  b.topic_name("kafka.results_topic", s.kafka.results_topic, false,
               "Topic that results and error results are written to.");
  b.topic_name("kafka.dead_letter_topic", s.kafka.dead_letter_topic, false,
               "Topic for records that can't be parsed or can't be answered.");
  b.topic_name(
      "kafka.parking_topic", s.kafka.parking_topic, true,
      "Topic for records whose model has not been able to answer for models.stall_limit, or that exceed its "
      "models.credit_share meanwhile; empty: they wait, and their partition with them.");
  b.choice("kafka.delivery", s.kafka.delivery, {"at_least_once", "exactly_once"},
           "What a crash may do to results: at_least_once repeats some and loses none; exactly_once writes "
           "results "
           "and offsets in transactions, for consumers with isolation.level=read_committed.");
  b.choice("kafka.output_order", s.kafka.output_order, {"completion", "partition"},
           "Order in which results are written: as they are ready, or in that of the records of their "
           "partition (exactly_once always does).");
  b.count("kafka.transaction_records", s.kafka.transaction_records, std::size_t{1}, std::size_t{100'000},
          "records", "Most answers of a transaction; fewer go in one while fewer come (exactly_once).");
  b.duration("kafka.transaction_timeout", s.kafka.transaction_timeout, second, 900 * second,
             "When brokers abort the transaction of an instance that is gone: until then it holds up readers "
             "(exactly_once).");
  b.count("kafka.transaction_groups", s.kafka.transaction_groups, std::size_t{1}, std::size_t{64}, "",
          "Transactional producers, which share the partitions out among them (exactly_once).");
  b.plain_name(
      "kafka.transactional_id", s.kafka.transactional_id,
      "Identity of this instance's transactions, which no other running instance may have. A restarted "
      "instance with the same one ends its predecessor's transaction at once; empty: of the group and "
      "kafka.instance_id, or a new one each start (exactly_once).");
  b.topic_name(
      "kafka.instance_id", s.kafka.instance_id, true,
      "Name of this instance that stays the same over restarts and that no other one has, such as that of a "
      "StatefulSet's pod (group.instance.id, static membership): one that is back within session.timeout.ms "
      "has "
      "its partitions again at once, without a rebalance. Empty: partitions move when it stops.");
  b.name("kafka.class", s.kafka.default_class, "Class of records that ask for none.");
  b.duration("kafka.queue_timeout", s.kafka.queue_timeout, 0, 24 * hour,
             "Age at which a record without `timeout_ms` is answered with deadline_exceeded; 0: never.");
  b.size("kafka.max_record_bytes", s.kafka.max_record_bytes, kib, gib, "Longest request value.").doc.live =
      true;
  b.count("kafka.credit_records", s.kafka.credit_records, std::size_t{1}, std::size_t{10'000'000}, "records",
          "Unfinished records that a partition may have; at this many it is not read further.");
  b.size("kafka.credit_bytes", s.kafka.credit_bytes, 0, 64 * gib,
         "The same in bytes; 0 derives it from memory.limit.");
  b.count("kafka.poll_records", s.kafka.poll_records, std::size_t{1}, std::size_t{1'000'000}, "records",
          "Most records taken from a partition at once.");
  b.duration("kafka.gather_min", s.kafka.gather_min, 0, 10 * second,
             "How long results gather before they are sent while the topic is quiet.");
  b.duration("kafka.gather_max", s.kafka.gather_max, 0, 10 * second,
             "The same while it is busy; between the two it follows the measured rate. From 42,000 records/s "
             "on they "
             "gather until those before them are acknowledged, at most 50 ms. 0: they never wait.");
  b.choice("kafka.result_timestamp", s.kafka.result_timestamp, {"produced", "request"},
           "Timestamp of result records: when they are written, or the request's own.");
  b.choice("kafka.timestamp_format", s.kafka.timestamp_format, {"auto", "epoch_ms", "iso8601"},
           "`timestamp` in results and error values: epoch milliseconds, or a text in UTC; auto: a text with "
           "kafka.eventhub.");
  b.boolean(
      "kafka.eventhub", s.kafka.eventhub,
      "Azure Event Hubs: brokers, topics and properties follow from the connection string and its event "
      "hub.");
  b.text("kafka.eventhub_connection", s.kafka.eventhub_connection,
         "Connection string of the Event Hubs namespace; needs kafka.eventhub.")
      .doc.secret = true;
  b.boolean("kafka.eventhub_transactions", s.kafka.eventhub_transactions,
            "Whether kafka.delivery may be exactly_once there: transactions are a preview of some tiers.");
  b.count("kafka.embedded_partitions", s.kafka.embedded_partitions, 1, 1000, "partitions",
          "Partitions of the topics of the embedded broker.");
  b.add("kafka.properties", value_type::map,
        "Any librdkafka property by its own name; wins over what Troupe sets. Those that are options of "
        "their own, or that delivery rests on, are refused; with exactly_once isolation.level: "
        "read_uncommitted, too.")
      .doc.default_value = "{}";

  b.name("models.directory", s.models.directory,
         "Directory of models: <name>/<version>/model.onnx, .skops, .json, .ubj or .txt.");
  b.text("models.default", s.models.default_model,
         "Model of requests that name none; empty: the only one, or diabetes-rf-model among several.")
      .doc.live = true;
  b.boolean("models.fallback", s.models.fallback,
            "Whether the production version answers for a version that is not loaded.")
      .doc.live = true;
  b.duration("models.stall_limit", s.models.stall_limit, 0, 24 * hour,
             "How long records wait for a model that can't answer (its breaker is open, its engines hang) "
             "before they "
             "go to kafka.parking_topic; 0: at once.");
  b.number(
      "models.credit_share", s.models.credit_share, 0.01, 1,
      "Share of a partition's credit that a model which can't answer may hold, where several are loaded and "
      "kafka.parking_topic is set; its records beyond that are parked at once.");
  b.duration("models.time_limit", s.models.time_limit, 0, hour,
             "Longest call of an engine; then its batch is taken away and another shard started. One in a "
             "process of its own has at least a second more than onnxruntime.timeout, which ends its calls; "
             "0: none.");
  b.count("models.max_hung", s.models.max_hung, std::uint32_t{1}, std::uint32_t{1000}, "calls",
          "With so many calls beyond models.time_limit a model version is given nothing until one returns; "
          "those that were under way by then may hang, too.");
  b.count("models.max_rows", s.models.max_rows, std::size_t{1}, std::size_t{1'000'000}, "rows",
          "Most rows of one request.")
      .doc.live = true;

  b.boolean("models.explain", s.models.explain,
            "Whether requests may ask for explanations; costs about as much memory again as the models.");
  b.count("models.max_explained_rows", s.models.max_explained_rows, std::size_t{1}, std::size_t{100'000},
          "rows", "Most rows of one request that asks for explanations.");

  b.boolean(
       "models.watch", s.models.watch,
       "Whether the directory is watched: new versions are loaded beside the others, removed ones unloaded.")
      .doc.live = true;
  b.duration("models.poll_interval", s.models.poll_interval, 100 * millisecond, 24 * hour,
             "How often it is looked at.")
      .doc.live = true;
  b.choice(
      "models.engine", s.models.engine, {"auto", "builtin", "onnxruntime"},
      "auto: built-in where it knows every operator and agrees with ONNX Runtime on probe rows, else ONNX "
      "Runtime.");

  b.text("onnxruntime.library", s.onnxruntime.library,
         "Path of libonnxruntime.so; empty: the one that scripts/deps installed, else the system's.");
  b.count("onnxruntime.intra_op_threads", s.onnxruntime.intra_op_threads, 1, 256, "threads",
          "Threads within an operator.");
  b.name("onnxruntime.providers", s.onnxruntime.providers,
         "Execution providers in order of preference: cpu, cuda, tensorrt, openvino; the library has to have "
         "them.",
         value_type::list);
  b.choice(
      "onnxruntime.isolation", s.onnxruntime.isolation, {"process", "none"},
      "process: a graph that crashes or hangs takes only its batch with it; none: in Troupe's own process.");
  b.duration("onnxruntime.timeout", s.onnxruntime.timeout, millisecond, hour,
             "Time limit of a batch with isolation; beyond it the process is killed and started again.");

  b.add("rollout", value_type::rollouts,
        "Rollouts, a list: model, version (the new one) and how its share of the requests is found and "
        "watched; see "
        "[rollout.md](rollout.md).")
      .doc.live = true;

  b.text("mlflow.uri", s.mlflow.uri,
         "Address of an MLflow server whose registry models come from; empty: none.");
  b.text("mlflow.models", s.mlflow.models,
         "Models to take from it: models:/NAME/3, models:/NAME/latest, models:/NAME/Production or "
         "models:/NAME@champion. The first reference to a model is its production version.",
         value_type::list);
  b.duration("mlflow.poll_interval", s.mlflow.poll_interval, 100 * millisecond, 24 * hour,
             "How often the registry is asked, give or take a tenth.");
  b.duration("mlflow.timeout", s.mlflow.timeout, 10 * millisecond, hour,
             "Time budget of a call; of a download, the time without any byte.");
  b.text("mlflow.username", s.mlflow.username, "User of basic authentication.");
  b.text("mlflow.password", s.mlflow.password, "Password.").doc.secret = true;
  b.text("mlflow.token", s.mlflow.token, "Bearer token, used when there is no user.").doc.secret = true;
  b.text("mlflow.tls_ca", s.mlflow.tls_ca,
         "File of the certificate authorities to trust; empty: the system's.");
  b.name("mlflow.cache_directory", s.mlflow.cache_directory,
         "Where fetched versions are kept, so that a start does without the registry.");
  b.count("mlflow.cache_versions", s.mlflow.cache_versions, std::size_t{1}, std::size_t{10'000}, "versions",
          "Versions of a model that are kept there.");
  b.size("mlflow.max_version_bytes", s.mlflow.max_version_bytes, kib, 1024 * gib,
         "Largest model file that is fetched.");

  b.choice("cache.mode", s.cache.mode, {"auto", "on", "off"},
           "Prediction cache; auto uses it for models that cost more than a look-up.");
  b.size("cache.bytes", s.cache.bytes, 0, 64 * gib, "Size of level 1, in the process.");
  b.duration("cache.ttl", s.cache.ttl, second, 8760 * hour, "How long a prediction may be reused.");

  b.text("redis.host", s.redis.host, "Host of the cache's level 2; empty: none.");
  b.count("redis.port", s.redis.port, 1, 65535, "", "Its port.");
  b.text("redis.user", s.redis.user, "User (ACL); empty: the default user.");
  b.text("redis.password", s.redis.password, "Password.").doc.secret = true;
  b.count("redis.db", s.redis.db, 0, 1'000'000, "", "Database number.");
  b.boolean("redis.tls", s.redis.tls, "Whether to speak TLS.");
  b.text("redis.tls_ca", s.redis.tls_ca,
         "File of the certificate authorities to trust; empty: the system's.");
  b.text("redis.tls_cert", s.redis.tls_cert, "File of a client certificate (chain); empty: none.");
  b.text("redis.tls_key", s.redis.tls_key, "File of its key.");
  b.text("redis.tls_server_name", s.redis.tls_server_name,
         "The name that the server's certificate must have; empty: redis.host.");
  b.duration("redis.timeout", s.redis.budget, 100 * microsecond, 10 * second,
             "Time budget of a look-up; scoring goes on without an answer after it.");
  b.duration("redis.connect_timeout", s.redis.connect_timeout, millisecond, 60 * second,
             "Time budget to connect.");
  b.count("redis.breaker_threshold", s.redis.breaker_threshold, std::uint32_t{1}, std::uint32_t{1'000'000},
          "failures", "Failures in a row after which Redis is left alone.");
  b.duration("redis.breaker_open", s.redis.breaker_open, millisecond, hour, "For how long.");

  b.count("scheduler.slots", s.scheduler.slots, std::size_t{0}, std::size_t{1024}, "batches",
          "Batches that are scored at a time, over all models; 0: as many as cores. Each loaded version of a "
          "model has a thread for each of them and one more.");
  b.count("scheduler.max_batch", s.scheduler.max_batch, std::size_t{1}, std::size_t{1'000'000}, "rows",
          "Most rows of a batch.");
  b.duration("scheduler.max_batch_time", s.scheduler.max_batch_time, 100 * microsecond, 60 * second,
             "Longest estimated time of a batch.");
  b.number("scheduler.late_floor", s.scheduler.late_floor, 0, 1,
           "Share of the rows that go to overdue requests while there are others that can still make their "
           "targets.");

  b.add("classes", value_type::classes,
        "Classes of service, most urgent first: name, target, limit, on_late, floor. A list in the file "
        "replaces all.");

  b.count("breaker.threshold", s.breaker.threshold, std::uint32_t{0}, std::uint32_t{1'000'000}, "failures",
          "Failures in a row that open a model's circuit breaker; 0: never by this.");
  b.duration("breaker.open", s.breaker.open, millisecond, 24 * hour,
             "How long it stays open before it probes.");
  b.count("breaker.probes", s.breaker.probes, std::uint32_t{1}, std::uint32_t{1000}, "batches",
          "Probes that a half-open breaker lets through.");
  b.number("breaker.failure_rate", s.breaker.failure_rate, 0.01, 2,
           "Share of failures in the window that opens it; above 1: never by this.");
  b.count("breaker.min_calls", s.breaker.min_calls, std::uint32_t{1}, std::uint32_t{1'000'000}, "requests",
          "Requests in the window below which the share does not count.");
  b.duration("breaker.window", s.breaker.window, 100 * millisecond, hour, "The window.");

  b.count(
      "supervision.intensity", s.supervision.intensity, std::uint32_t{0}, std::uint32_t{1'000'000},
      "restarts",
      "Restarts of actors that their group tolerates within the period; one more, and the group is restarted "
      "as a whole.");
  b.duration("supervision.period", s.supervision.period, 100 * millisecond, 24 * hour, "The period.");
  b.count("supervision.group_intensity", s.supervision.group_intensity, std::uint32_t{0},
          std::uint32_t{1'000'000}, "restarts",
          "Restarts of groups that the group above tolerates within group_period; one more, and that is "
          "restarted; "
          "above the last the process ends.");
  b.duration("supervision.group_period", s.supervision.group_period, 100 * millisecond, 24 * hour,
             "That period.");
  const auto strategy = [&](const char* key, restart_strategy& at, const char* what) {
    b.choice(key, at, {"one_for_one", "rest_for_one", "one_for_all"}, what);
  };
  strategy("supervision.kafka_strategy", s.supervision.kafka_strategy,
           "Who is restarted with a crashed member of the group kafka (producer, partition_consumers): it "
           "alone, it "
           "and those started after it, or all.");
  strategy("supervision.stores_strategy", s.supervision.stores_strategy,
           "The same of the group stores (cache_client).");
  strategy(
      "supervision.models_strategy", s.supervision.models_strategy,
      "The same of the group models (scheduler, shadow_scorer, model_keeper, a group for each version).");
  strategy("supervision.model_strategy", s.supervision.model_strategy,
           "The same of the group of a model's version (breaker, model_shards).");
  strategy("supervision.gateways_strategy", s.supervision.gateways_strategy,
           "The same of the group gateways.");
  b.duration("supervision.stuck_after", s.supervision.stuck_after, 0, hour,
             "How long an actor may handle one message before it counts as stuck; 0: nobody is watched.");
  b.count("supervision.max_abandoned", s.supervision.max_abandoned, std::size_t{0}, std::size_t{1000},
          "actors", "Actors that may be left alone in work that can't be ended; one more ends the process.");
  b.duration("supervision.backoff_min", s.supervision.backoff_min, 0, hour,
             "Pause before the first restart in a row.");
  b.duration("supervision.backoff_max", s.supervision.backoff_max, 0, hour,
             "Longest pause; each is twice the last.");

  b.boolean("http.enabled", s.http.enabled, "Answer requests over HTTP.");
  b.name("http.bind", s.http.bind, "Address of the HTTP port.");
  b.count("http.port", s.http.port, 0, 65535, "", "That port; 0: any free one.");
  b.count<std::size_t>("http.threads", s.http.threads, 0, 64, "threads",
                       "Threads that read and write; 0: a quarter of the cores, at least one.");
  b.text("http.class", s.http.default_class,
         "Class of a request without priority, one of `classes`; empty: the first, most urgent one.");
  b.duration("http.queue_timeout", s.http.queue_timeout, millisecond, hour,
             "A request without a timeout of its own that has no answer so long after its arrival: 504.");
  b.name("http.deployment", s.http.deployment, "What `/score` answers as `deployment` in its metadata.");
  b.boolean("http.admission", s.http.admission,
            "Refuse a request at once (503, Retry-After) that the queue would make later than its class's "
            "target; over gRPC too.");
  b.size("http.max_body", s.http.max_body, 1024, gib, "Largest body, with and without its encoding: 413.");
  b.size("http.max_header", s.http.max_header, 1024, mib, "Largest header of a request: 431.");
  b.count<std::size_t>("http.max_elements", s.http.max_elements, 1, 100'000'000, "elements",
                       "Most numbers or texts of a request, all inputs together; over gRPC too: 413.");
  b.count<std::size_t>("http.max_connections", s.http.max_connections, 1, 1'000'000, "connections",
                       "More are answered 503.");
  b.count<std::size_t>(
      "http.max_requests", s.http.max_requests, 1, 10'000'000, "requests",
      "Requests over HTTP or gRPC that wait for an answer at a time, a thread; more are answered 503 "
      "(UNAVAILABLE).");
  b.size("http.max_buffered", s.http.max_buffered, mib, 64 * gib,
         "Bodies that are being read at a time, all connections together; more are answered 503.");
  b.duration("http.read_timeout", s.http.read_timeout, 100 * millisecond, hour,
             "From the first byte of a request to its last: 408.");
  b.duration("http.idle_timeout", s.http.idle_timeout, 100 * millisecond, 24 * hour,
             "A connection without a request for so long is closed.");
  b.boolean(
      "http.compress_replies", s.http.compress_replies,
      "Replies of more than 1 KiB as gzip or deflate for clients that accept it: less network, more CPU.");
  b.text("http.cors_origins", s.http.cors_origins,
         "Origins whose pages may call, as browsers send them (`https://app.example`), separated by commas; "
         "`*`: any; empty: none (CORS is off).",
         value_type::list);
  b.text("http.trusted_proxies", s.http.trusted_proxies,
         "Addresses and networks (10.0.0.0/8) of proxies whose X-Forwarded-For is believed, for limits; over "
         "gRPC too.",
         value_type::list)
      .doc.live = true;
  tls_options(b, "http", s.http.tls);

  b.boolean("grpc.enabled", s.grpc.enabled, "Answer requests over gRPC.");
  b.name("grpc.bind", s.grpc.bind, "Address of the gRPC port.");
  b.count("grpc.port", s.grpc.port, 0, 65535, "", "That port; 0: any free one.");
  b.count<std::size_t>("grpc.threads", s.grpc.threads, 0, 64, "threads",
                       "Threads that read and write; 0: a quarter of the cores, at least one.");
  b.text("grpc.class", s.grpc.default_class,
         "Class of a request without priority, one of `classes`; empty: the first, most urgent one.");
  b.duration("grpc.queue_timeout", s.grpc.queue_timeout, millisecond, hour,
             "A request without a deadline of its own that has no answer so long after its arrival: "
             "DEADLINE_EXCEEDED.");
  b.size("grpc.max_message", s.grpc.max_message, 1024, gib, "Largest request: RESOURCE_EXHAUSTED.");
  b.count<std::size_t>("grpc.max_streams", s.grpc.max_streams, 1, 1'000'000, "calls",
                       "Calls at a time on one connection.");
  b.duration("grpc.keepalive", s.grpc.keepalive, 0, hour,
             "A connection that is silent for so long is asked for life (an HTTP/2 PING); 0s: never.");
  b.duration("grpc.keepalive_timeout", s.grpc.keepalive_timeout, millisecond, hour,
             "It is closed when no answer comes for so long.");
  b.duration("grpc.idle_timeout", s.grpc.idle_timeout, 0, 24 * hour,
             "A connection without calls is closed after so long; 0s: never.");
  b.duration(
      "grpc.max_age", s.grpc.max_age, 0, 24 * hour,
      "Clients are asked to connect anew after so long, give or take a tenth, so that they spread over "
      "the nodes; calls that are open end as usual. 0s: never.");
  tls_options(b, "grpc", s.grpc.tls);

  b.choice(
       "auth.mode", s.auth.mode, {"off", "required"},
       "required: requests over HTTP and gRPC need an API key or a token; see [security.md](security.md).")
      .doc.live = true;
  b.text("auth.keys_file", s.auth.keys_file,
         "File of the clients and the SHA-256 of their API keys; read again on reload.")
      .doc.live = true;
  b.text("auth.exempt", s.auth.exempt, "What needs none: health, metrics, docs.", value_type::list).doc.live =
      true;
  b.text("auth.jwks_file", s.auth.jwks_file,
         "File of the JWK set that JSON Web Tokens (RS256, ES256) are checked with; read again when it "
         "changes.");
  b.text("auth.jwks_url", s.auth.jwks_url,
         "Address of the JWK set instead; what was had is kept while it does not answer.");
  b.duration("auth.jwks_refresh", s.auth.jwks_refresh, second, 24 * hour,
             "How often the set is had anew; an unknown key asks for it at once, every 10 s at most.");
  b.text("auth.jwks_tls_ca", s.auth.jwks_tls_ca,
         "File of the certificate authorities to trust there; empty: the system's.");
  b.text("auth.jwt_issuer", s.auth.jwt_issuer, "What a token's `iss` must be; empty: anything.").doc.live =
      true;
  b.text("auth.jwt_audience", s.auth.jwt_audience, "What a token's `aud` must be or hold; empty: anything.")
      .doc.live = true;
  b.name("auth.jwt_client_claim", s.auth.jwt_client_claim, "Claim that names the client.").doc.live = true;
  b.duration("auth.jwt_leeway", s.auth.jwt_leeway, 0, hour, "What clocks may differ by.").doc.live = true;

  b.boolean("rate_limit.enabled", s.rate_limit.enabled, "Hold clients over HTTP and gRPC to limits: 429.")
      .doc.live = true;
  b.number("rate_limit.per_minute", s.rate_limit.per_minute, 0.01, 1e9,
           "Requests a minute of a client address, unless its key has a rate of its own.")
      .doc.live = true;
  b.number("rate_limit.burst", s.rate_limit.burst, 0, 1e6, "Of them at once; 0: as many as a minute's.")
      .doc.live = true;
  b.count(
       "rate_limit.per_month", s.rate_limit.per_month, std::uint64_t{0}, std::uint64_t{1'000'000'000'000'000},
       "requests",
       "Inference requests a calendar month (UTC) of a client, kept in Redis where redis.host is set; 0: no "
       "quota.")
      .doc.live = true;
  b.count("rate_limit.addresses", s.rate_limit.addresses, std::size_t{1'000}, std::size_t{100'000'000},
          "addresses", "Addresses that are remembered, about 32 bytes each.")
      .doc.live = true;

  b.text("batches.directory", s.batches.directory,
         "Where batches over HTTP are kept, inputs and results; empty: there are no batches.");
  b.text("batches.input_directory", s.batches.input_directory,
         "A batch may name its input by a path in this directory; empty: inputs are sent.");
  b.text("batches.class", s.batches.batch_class,
         "Class of all lines of batches, one of `classes`; empty: the last, least urgent one.");
  b.size("batches.max_bytes", s.batches.max_bytes, 1024, 1024 * gib,
         "Largest input of a batch: 413. What is sent is bounded by http.max_body as well.");
  b.size("batches.max_line", s.batches.max_line, 1024, gib,
         "Longest line of a batch, also of `troupe batch`; a longer one ends as an error, unread.");
  b.count<std::size_t>("batches.max_queued", s.batches.max_queued, 1, 100'000, "batches",
                       "Batches that have not ended; more are answered 429.");
  b.count<std::size_t>("batches.in_flight", s.batches.in_flight, 1, 1'000'000, "lines",
                       "Lines of a batch that are being scored at a time.");
  b.duration("batches.retention", s.batches.retention, second, 24 * 366 * hour,
             "A batch that has ended is removed so long after its end, with its results.");

  b.name("metrics.bind", s.metrics.bind, "Address of the port for metrics, health and admin.");
  b.count("metrics.port", s.metrics.port, 0, 65535, "", "That port; 0: any free one.");

  b.text("admin.token", s.admin.token, "Bearer token of /admin; empty: there is no /admin.").doc.secret =
      true;

  b.choice("log.level", s.log.level, {"debug", "info", "warn", "error"}, "Least level that is logged.")
      .doc.live = true;
  b.choice("log.format", s.log.format, {"auto", "json", "text"},
           "auto: text on a terminal, JSON lines elsewhere.");
  b.choice(
      "log.requests", s.log.requests, {"off", "sampled", "all"},
      "Whether requests over HTTP and gRPC get a line each (event `request`): sampled: those that failed by "
      "the node's fault, slow ones, and a share of the rest; see [operations.md](operations.md).");
  b.number("log.sample_ratio", s.log.sample_ratio, 0, 1, "That share.");
  b.duration("log.slow_request", s.log.slow_request, 0, hour,
             "Requests that took at least so long are slow; 0: none is.");

  b.text("tracing.endpoint", s.tracing.endpoint,
         "Where spans are sent: an OTLP/HTTP receiver such as http://collector:4318; empty: nothing is "
         "traced; see "
         "[tracing.md](tracing.md).");
  b.number(
      "tracing.sample_ratio", s.tracing.sample_ratio, 0, 1,
      "Share of the requests over HTTP and gRPC without a `traceparent` that begin a trace; with one, its "
      "sampled flag decides.");
  b.number("tracing.kafka_sample_ratio", s.tracing.kafka_sample_ratio, 0, 1,
           "The same of Kafka's records without a `traceparent`.");
  b.name("tracing.service_name", s.tracing.service_name, "`service.name` of the spans.");
  b.text("tracing.service_instance", s.tracing.service_instance,
         "`service.instance.id` of the spans; empty: the host's name and the number of the process.");
  b.text("tracing.headers", s.tracing.headers,
         "Headers sent to the receiver, NAME=VALUE with commas between them, values percent-encoded.")
      .doc.secret = true;
  b.text("tracing.tls_ca", s.tracing.tls_ca,
         "File of the certificate authorities to trust there; empty: the system's.");
  b.count<std::size_t>("tracing.queue", s.tracing.queue, 16, 1'000'000, "spans",
                       "Spans that wait to be sent, about 1 KiB each; further ones are dropped and counted.");
  b.duration("tracing.interval", s.tracing.interval, 10 * millisecond, hour,
             "How long spans gather before they are sent; 512 are sent at once.");
  b.duration("tracing.timeout", s.tracing.timeout, 10 * millisecond, hour,
             "Time budget of an attempt to send; there are up to five.");

  b.size("memory.limit", s.memory.limit, 32 * mib, 1024 * gib,
         "What queues and buffers share out among them; the process itself comes on top.");

  b.duration("drain.deadline", s.drain.deadline, 0, hour, "How long a shutdown waits for what is in flight.")
      .doc.live = true;

  b.boolean("faults.enabled", s.faults.enabled,
            "Whether faults may be injected through /admin/faults, which needs admin.token; see "
            "[faults.md](faults.md).");
  b.duration("faults.max_duration", s.faults.max_duration, 100 * millisecond, 24 * hour,
             "The longest that a fault may be asked to last.");
  b.size("faults.max_memory", s.faults.max_memory, mib, 1024 * gib,
         "The most that the fault memory_pressure may take.");

  return b.take();
}

std::vector<binding> bind(policy::rollout_spec& r) {
  builder b;
  b.choice("strategy", r.strategy, {"canary", "header", "ab", "shadow", "blue_green"},
           "How the two versions share the requests.");
  b.number("percent", r.percent, 0, 100, "Share of the new version, of canary and ab.");
  b.text("header", r.header, "Header of the records that the new version gets: NAME or NAME=VALUE.");
  b.boolean("automatic", r.automatic, "Whether leaving a bound rolls back; else it is only logged.");
  b.number("max_error_increase", r.max_error_increase, 0, 1,
           "Error rate of the new version over that of the old one, a share.");
  b.number("max_latency_ratio", r.max_latency_ratio, 1, 1e6,
           "p95 of the execution time against the old version's; counts together with the next.");
  b.duration("max_latency_increase", r.max_latency_increase, 0, hour, "The same as a difference.");
  b.number("max_psi", r.max_psi, 0, 1e6, "Population stability index of the predictions.");
  b.count("min_samples", r.min_samples, std::uint32_t{1}, std::uint32_t{10'000'000}, "requests",
          "Requests of each version in the window before anything is said.");
  b.duration("window", r.window, second, 24 * hour, "The window.");
  b.text("steps", r.steps,
         "Percents that the share grows by, such as 1,10,50,100; then the version is promoted.",
         value_type::list);
  b.duration("step_every", r.step_every, 0, 24 * 30 * hour, "How long each step is held at least.");
  return b.take();
}

std::vector<binding> bind(class_settings& c) {
  builder b;
  b.duration("target", c.target, microsecond, 24 * hour,
             "Time from arrival within which a request should be answered; it orders the work.");
  b.count("limit", c.limit, std::size_t{1}, std::size_t{100'000'000}, "requests", "Requests that may wait.");
  b.choice("on_late", c.shed_late, {"serve", "shed"},
           "What happens to a request that can't make its target.");
  b.number("floor", c.floor, 0, 1, "Share of the rows that the class gets even while more urgent ones wait.");
  return b.take();
}

}  // namespace troupe::config
