#include "runtime/config/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace troupe::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

using environment = std::map<std::string, std::string>;

/// Files of one test, in a folder of their own that is the working directory meanwhile.
class Options : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "troupe_config_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    before_ = std::filesystem::current_path();
    std::filesystem::current_path(folder_);
  }
  void TearDown() override {
    std::filesystem::current_path(before_);
    std::filesystem::remove_all(folder_);
  }

  static void write(const std::string& path, const std::string& text) {
    if (const auto parent = std::filesystem::path(path).parent_path(); !parent.empty())
      std::filesystem::create_directories(parent);
    std::ofstream(path) << text;
  }

  static loaded load_all(const std::string& yaml, environment variables = {},
                         std::vector<std::string> set = {}, bool node = false) {
    sources from;
    from.node = node;
    if (!yaml.empty()) {
      write("x.yaml", yaml);
      from.file = "x.yaml";
    }
    from.environment = std::move(variables);
    from.set = std::move(set);
    from.search = false;
    return load(from);
  }

  static std::string error_of(const std::string& yaml, environment variables = {},
                              std::vector<std::string> set = {}, bool node = false) {
    try {
      load_all(yaml, std::move(variables), std::move(set), node);
    } catch (const config_error& e) {
      return e.what();
    }
    return "(no error)";
  }

  static effective_value shown(const loaded& l, const std::string& key) {
    for (const auto& e : l.effective)
      if (e.key == key) return e;
    ADD_FAILURE() << key << " is not shown";
    return {};
  }

 private:
  std::filesystem::path folder_;
  std::filesystem::path before_;
};

TEST_F(Options, DefaultsAreTheSettings) {
  const auto l = load_all("");
  EXPECT_EQ(l.values.kafka.brokers, "127.0.0.1:9092");
  EXPECT_EQ(l.values.kafka.group, "inference-service");
  EXPECT_EQ(l.values.kafka.dead_letter_topic, "inference-requests-dlq");
  EXPECT_EQ(l.values.metrics.port, 8000);
  EXPECT_EQ(l.values.cache.mode, cache_mode::automatic);
  EXPECT_EQ(l.values.cache.ttl, 3600 * policy::second);
  EXPECT_EQ(l.values.drain.deadline, 30 * policy::second);
  EXPECT_EQ(l.values.classes.at(0).name, "interactive");
  EXPECT_THAT(l.warnings, IsEmpty());
  EXPECT_THAT(l.file, IsEmpty());
  for (const auto& e : l.effective) EXPECT_EQ(e.origin, "default") << e.key;
}

TEST_F(Options, LaterSourcesWin) {
  const std::string yaml = "kafka:\n  group: file\n";
  EXPECT_EQ(load_all(yaml).values.kafka.group, "file");
  const environment older = {{"CONSUMER_GROUP", "older"}};
  EXPECT_EQ(load_all(yaml, older).values.kafka.group, "older");
  const environment both = {{"CONSUMER_GROUP", "older"}, {"TROUPE_KAFKA_GROUP", "variable"}};
  EXPECT_EQ(load_all(yaml, both).values.kafka.group, "variable");
  EXPECT_EQ(load_all(yaml, both, {"kafka.group=flag", "kafka.group=last"}).values.kafka.group, "last");
}

TEST_F(Options, OpenTelemetrysVariablesAreUnderstood) {
  EXPECT_EQ(load_all("").values.tracing.endpoint, "");
  environment e = {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"},
                   {"OTEL_SERVICE_NAME", "scores"},
                   {"OTEL_EXPORTER_OTLP_HEADERS", "key=secret"}};
  const auto l = load_all("", e);
  EXPECT_EQ(l.values.tracing.endpoint, "http://c:4318");
  EXPECT_EQ(l.values.tracing.service_name, "scores");
  EXPECT_EQ(l.values.tracing.headers, "key=secret");
  EXPECT_EQ(shown(l, "tracing.headers").value, "***");
  EXPECT_EQ(shown(l, "tracing.endpoint").origin, "environment OTEL_EXPORTER_OTLP_ENDPOINT");
  e.emplace("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4318/v1/traces");
  EXPECT_EQ(load_all("", e).values.tracing.endpoint, "http://traces:4318/v1/traces");
  e.emplace("TROUPE_TRACING_ENDPOINT", "http://own:4318");
  EXPECT_EQ(load_all("", e).values.tracing.endpoint, "http://own:4318");
}

TEST_F(Options, EveryValueNamesItsOrigin) {
  const auto l = load_all("# a comment\nkafka:\n  group: mine\nclasses:\n  - {name: bulk, target: 5s}\n",
                          {{"TROUPE_METRICS_PORT", "9"}, {"REDIS_HOST", "r"}}, {"log.level=debug"});
  EXPECT_EQ(shown(l, "kafka.group").origin, "x.yaml:3");
  EXPECT_EQ(shown(l, "kafka.brokers").origin, "default");
  EXPECT_EQ(shown(l, "metrics.port").origin, "environment TROUPE_METRICS_PORT");
  EXPECT_EQ(shown(l, "redis.host").origin, "environment REDIS_HOST");
  EXPECT_EQ(shown(l, "log.level").origin, "--set");
  EXPECT_EQ(shown(l, "classes.bulk.target").origin, "x.yaml:5");
  EXPECT_EQ(shown(l, "classes.bulk.limit").origin, "x.yaml:4");
  EXPECT_EQ(l.file, "x.yaml");
}

TEST_F(Options, EveryOptionCanBeSetByFlagAndVariable) {
  for (const auto& o : options()) {
    if (o.type == value_type::map || o.type == value_type::classes || o.type == value_type::rollouts)
      continue;
    const auto by_flag = load_all("", {}, {o.key + "=" + o.default_value});
    EXPECT_EQ(shown(by_flag, o.key).origin, "--set");
    EXPECT_EQ(shown(by_flag, o.key).value, o.default_value);
    const auto by_variable = load_all("", {{o.environment, o.default_value}});
    EXPECT_EQ(shown(by_variable, o.key).origin, "environment " + o.environment);
  }
}

TEST_F(Options, NamesAreUniqueAndDocumented) {
  std::set<std::string> keys;
  for (const auto& o : options()) {
    EXPECT_TRUE(keys.insert(o.key).second) << o.key;
    EXPECT_THAT(o.help, Not(IsEmpty())) << o.key;
    EXPECT_EQ(o.environment.substr(0, 7), "TROUPE_");
  }
}

TEST_F(Options, ReadsEveryKindOfValue) {
  const auto v = load_all(R"(
kafka:
  brokers: [a:9092, b:9092]
  max_record_bytes: 2MiB
  queue_timeout: 1m30s
  properties: {linger.ms: 5, enable.idempotence: true, sasl.username: "u:1"}
  result_timestamp: request
models: {default: iris-classifier, fallback: no, max_rows: 5}
cache: {mode: on, bytes: 0}
breaker: {failure_rate: 0.25, threshold: 7}
log: {level: warn, format: json}
redis:
)")
                     .values;
  EXPECT_EQ(v.kafka.brokers, "a:9092,b:9092");
  EXPECT_EQ(v.kafka.max_record_bytes, std::size_t{2} << 20);
  EXPECT_EQ(v.kafka.queue_timeout, 90 * policy::second);
  EXPECT_THAT(v.kafka.properties,
              ElementsAre(std::pair<const std::string, std::string>("enable.idempotence", "true"),
                          std::pair<const std::string, std::string>("linger.ms", "5"),
                          std::pair<const std::string, std::string>("sasl.username", "u:1")));
  EXPECT_EQ(v.kafka.result_timestamp, result_timestamp::request);
  EXPECT_EQ(v.models.default_model, "iris-classifier");
  EXPECT_FALSE(v.models.fallback);
  EXPECT_EQ(v.models.max_rows, 5U);
  EXPECT_EQ(v.cache.mode, cache_mode::on);
  EXPECT_EQ(v.cache.bytes, 0U);
  EXPECT_EQ(v.breaker.failure_rate, 0.25);
  EXPECT_EQ(v.breaker.threshold, 7U);
  EXPECT_EQ(v.log.level, log_level::warn);
  EXPECT_EQ(v.log.format, log_format::json);
}

TEST_F(Options, PropertiesMergeByName) {
  const auto v = load_all("kafka:\n  properties: {linger.ms: 5, acks: all}\n",
                          {{"TROUPE_KAFKA_PROPERTIES_LINGER_MS", "6"}}, {"kafka.properties.client.id=me=you"})
                     .values.kafka.properties;
  EXPECT_EQ(v.at("linger.ms"), "6");
  EXPECT_EQ(v.at("acks"), "all");
  EXPECT_EQ(v.at("client.id"), "me=you");
}

TEST_F(Options, ClassesAreReplacedByTheFileAndAdjustedByOthers) {
  const auto v = load_all(
                     "kafka: {class: slow}\nclasses:\n  - {name: fast-one, target: 10ms, floor: 0.1}\n"
                     "  - {name: slow, target: 1h, on_late: shed, limit: 3}\n",
                     {{"TROUPE_CLASSES_FAST_ONE_LIMIT", "7"}}, {"classes.slow.target=2h"})
                     .values.classes;
  ASSERT_EQ(v.size(), 2U);
  EXPECT_EQ(v[0].name, "fast-one");
  EXPECT_EQ(v[0].target, 10 * policy::millisecond);
  EXPECT_EQ(v[0].limit, 7U);
  EXPECT_EQ(v[0].floor, 0.1);
  EXPECT_FALSE(v[0].shed_late);
  EXPECT_EQ(v[1].target, 7200 * policy::second);
  EXPECT_TRUE(v[1].shed_late);
}

TEST_F(Options, ANamedDefaultClassKeepsItsOtherFields) {
  const auto v = load_all("classes:\n  - name: bulk\n").values.classes;
  ASSERT_EQ(v.size(), 1U);
  EXPECT_EQ(v[0].target, 60 * policy::second);
}

struct error_case {
  const char* yaml;
  const char* message;
};

TEST_F(Options, ErrorsOfTheFileNameLineKeyAndRemedy) {
  const error_case table[] = {
      {"kafka:\n  broker: x\n", "x.yaml:2: unknown key 'kafka.broker'; did you mean 'kafka.brokers'?"},
      {"http:\n  tls_certificate: x\n",
       "x.yaml:2: unknown key 'http.tls_certificate'; did you mean 'http.tls_cert'?"},
      {"\nkafak:\n  group: x\n", "x.yaml:2: unknown section 'kafak'; did you mean 'kafka'?"},
      {"whatever: 1\n", "x.yaml:1: unknown section 'whatever'; `troupe config --markdown` lists all options"},
      {"kafka.group: x\n", "x.yaml:1: 'kafka.group' is written as a section: `kafka:` and below it `group:`"},
      {"kafka: 5\n", "x.yaml:1: kafka: expected options below it, not a value"},
      {"- kafka\n", "x.yaml:1: expected sections, such as `kafka:` with options below it"},
      {"metrics: {port: 70000}\n",
       "x.yaml:1: metrics.port: '70000' is not allowed; expected an integer from 0 to 65535"},
      {"metrics:\n  port: -1\n",
       "x.yaml:2: metrics.port: '-1' is not allowed; expected an integer from 0 to 65535"},
      {"metrics:\n  port: 80.5\n",
       "x.yaml:2: metrics.port: '80.5' is not allowed; expected an integer from 0 to 65535"},
      {"metrics:\n  port: 99999999999999999999\n",
       "x.yaml:2: metrics.port: '99999999999999999999' is not allowed; expected an integer from 0 to 65535"},
      {"metrics:\n  port: [1]\n", "x.yaml:2: metrics.port: expected one value, not a list"},
      {"metrics:\n  port: {a: 1}\n", "x.yaml:2: metrics.port: expected one value, not a section"},
      {"metrics:\n  port:\n",
       "x.yaml:2: metrics.port has no value; give one (\"\" is the empty text) or remove the line"},
      {"drain: {deadline: 30}\n",
       "x.yaml:1: drain.deadline: '30' is not allowed; expected a duration from 0 to 1h, written like 250ms, "
       "10s or 1h"},
      {"drain: {deadline: 61m}\n",
       "x.yaml:1: drain.deadline: '61m' is not allowed; expected a duration from 0 to 1h"},
      {"memory: {limit: 1MiB}\n",
       "x.yaml:1: memory.limit: '1MiB' is not allowed; expected a size from 32MiB to 1TiB"},
      {"memory: {limit: much}\n",
       "x.yaml:1: memory.limit: 'much' is not allowed; expected a size from 32MiB to 1TiB, written like "
       "512KiB or 10MiB"},
      {"cache: {mode: perhaps}\n",
       "x.yaml:1: cache.mode: 'perhaps' is not allowed; expected auto, on or off"},
      {"models: {fallback: maybe}\n",
       "x.yaml:1: models.fallback: 'maybe' is not allowed; expected true or false"},
      {"breaker: {failure_rate: nan}\n",
       "x.yaml:1: breaker.failure_rate: 'nan' is not allowed; expected a number from 0.01 to 2"},
      {"kafka: {group: \"\"}\n",
       "x.yaml:1: kafka.group: '' is not allowed; expected a text that is not empty"},
      {"kafka:\n  group: a\n  group: b\n", "x.yaml:3: kafka.group is given twice (first in line 2)"},
      {"kafka: {}\nkafka: {}\n", "x.yaml:2: kafka is given twice (first in line 1)"},
      {"kafka:\n  properties: 5\n",
       "x.yaml:2: kafka.properties: expected librdkafka properties below it, such as linger.ms: 5"},
      {"kafka:\n  properties:\n    a: {b: c}\n",
       "x.yaml:3: kafka.properties.a: expected one value, not a section"},
      {"kafka: {brokers: embedded, delivery: exactly_once}\n",
       "x.yaml:1: kafka.delivery: the embedded broker has no transactions; use at_least_once, or name a "
       "Kafka in "
       "kafka.brokers"},
      {"log: {requests: some}\n",
       "x.yaml:1: log.requests: 'some' is not allowed; expected off, sampled or all"},
      {"tracing: {endpoint: 'c:4317'}\n",
       "x.yaml:1: tracing.endpoint: 'c:4317' is not allowed; expected an OTLP/HTTP address like "
       "http://collector:4318"},
      {"kafka: {class: none}\n",
       "x.yaml:1: kafka.class: there is no class 'none'; classes are interactive, standard, bulk"},
      {"kafka: {results_topic: inference-requests}\n",
       "x.yaml:1: kafka.results_topic: must differ from kafka.requests_topic: results would be read as "
       "requests"},
      {"kafka: {gather_min: 11ms}\n", "x.yaml:1: kafka.gather_min: must not exceed kafka.gather_max"},
      {"kafka: {brokers: 'a:9092,notaport:abc'}\n",
       "x.yaml:1: kafka.brokers: 'notaport:abc' is not allowed; expected host:port, such as broker:9092"},
      {"kafka: {brokers: 'a:65536'}\n",
       "x.yaml:1: kafka.brokers: 'a:65536' is not allowed; expected host:port, such as broker:9092"},
      {"kafka: {brokers: 'embedded,a:9092'}\n",
       "x.yaml:1: kafka.brokers: 'embedded,a:9092' is not allowed; `embedded` stands alone: expected either "
       "it, or hosts such as broker:9092"},
      {"kafka:\n  brokers: [a:9092, embedded]\n",
       "x.yaml:2: kafka.brokers: 'a:9092,embedded' is not allowed; `embedded` stands alone: expected either "
       "it, or hosts such as broker:9092"},
      {"kafka: {parking_topic: inference-requests-dlq}\n",
       "x.yaml:1: kafka.parking_topic: must differ from the topics of requests, results and dead letters"},
      {"kafka: {parking_topic: 'bad topic!'}\n",
       "x.yaml:1: kafka.parking_topic: 'bad topic!' is not allowed; expected 1 to 249 letters (a-z, A-Z), "
       "digits, '.', '_' and '-', but not '.' or '..', or nothing"},
      {"kafka: {requests_topic: '^in.*'}\n",
       "x.yaml:1: kafka.requests_topic: '^in.*' is not allowed; expected 1 to 249 letters (a-z, A-Z), "
       "digits, '.', '_' and '-', but not '.' or '..'"},
      {"kafka: {instance_id: pod 1}\n",
       "x.yaml:1: kafka.instance_id: 'pod 1' is not allowed; expected 1 to 249 letters (a-z, A-Z), digits, "
       "'.', '_' and '-', but not '.' or '..', or nothing"},
      {"kafka: {transactional_id: \"a\\n\\eb\"}\n",
       "x.yaml:1: kafka.transactional_id: 'a\\n\\x1bb' is not allowed; expected at most 249 characters, none "
       "of them a control character, and no blank at either end"},
      {"redis: {tls_ca: ca.pem}\n", "x.yaml:1: redis.tls_ca: needs redis.tls: true"},
      {"redis: {tls_cert: c.pem, tls_key: k.pem}\n", "x.yaml:1: redis.tls_cert: needs redis.tls: true"},
      {"redis: {tls: true, tls_cert: c.pem}\n", "x.yaml:1: redis.tls_cert: needs redis.tls_key beside it"},
      {"redis: {tls: true, tls_key: k.pem}\n", "x.yaml:1: redis.tls_key: needs redis.tls_cert beside it"},
      {"classes: []\n",
       "x.yaml:1: classes: expected a list, most urgent first, of entries such as {name: interactive, "
       "target: 100ms}"},
      {"classes:\n  - {target: 1s}\n", "x.yaml:2: classes: an entry has no name"},
      {"classes:\n  - {name: new}\n", "x.yaml:2: classes.new: a target is needed, such as target: 1s"},
      {"classes:\n  - {name: bulk, tarket: 1s}\n",
       "x.yaml:2: unknown key 'classes.bulk.tarket'; did you mean 'classes.bulk.target'?"},
      {"classes:\n  - {name: bulk}\n  - {name: bulk}\n", "x.yaml:3: classes: there are two classes 'bulk'"},
      {"classes:\n  - {name: A b, target: 1s}\n",
       "x.yaml:2: classes.name: 'A b' is not allowed; expected lower-case letters, digits, _ and -"},
      {"classes:\n  - {name: bulk, target: 0}\n",
       "x.yaml:2: classes.bulk.target: '0' is not allowed; expected a duration from 1us to 1d"},
      {"classes:\n  - {name: bulk, floor: 0.6}\n  - {name: standard, floor: 0.6}\n",
       "x.yaml:1: classes: the floors of all classes together exceed 1"},
  };
  for (const auto& c : table) EXPECT_EQ(error_of(c.yaml), c.message) << c.yaml;
}

TEST_F(Options, AllThatIsWrongIsToldAtOnce) {
  EXPECT_EQ(
      error_of("kafka:\n  broker: a:1\n  group: ''\n  group: b\n  properties: {a: [1], b: {c: d}}\n"
               "metrics: {port: high}\n"
               "no_section: {}\n"
               "metrics: {port: 1}\n"
               "drain: {deadline: 2h}\n",
               {{"TROUPE_HTTP_PORT", "x"}, {"TROUPE_REDIS_HORST", "h"}, {"KAFKA_BROKER", "a:9092"}},
               {"log.level=loud", "cache.mode", "grpc.port=8081"}),
      "x.yaml:2: unknown key 'kafka.broker'; did you mean 'kafka.brokers'?\n"
      "x.yaml:3: kafka.group: '' is not allowed; expected a text that is not empty\n"
      "x.yaml:4: kafka.group is given twice (first in line 3)\n"
      "x.yaml:5: kafka.properties.a: expected one value, not a list\n"
      "x.yaml:5: kafka.properties.b: expected one value, not a section\n"
      "x.yaml:6: metrics.port: 'high' is not allowed; expected an integer from 0 to 65535\n"
      "x.yaml:7: unknown section 'no_section'; `troupe config --markdown` lists all options\n"
      "x.yaml:8: metrics is given twice (first in line 6)\n"
      "x.yaml:9: drain.deadline: '2h' is not allowed; expected a duration from 0 to 1h\n"
      "environment TROUPE_HTTP_PORT: http.port: 'x' is not allowed; expected an integer from 0 to 65535\n"
      "environment TROUPE_REDIS_HORST: unknown variable; did you mean 'TROUPE_REDIS_HOST'?\n"
      "--set: log.level: 'loud' is not allowed; expected debug, info, warn or error\n"
      "--set cache.mode: expected section.option=value");
}

TEST_F(Options, AllThatDoesNotGoTogetherIsToldAtOnce) {
  const std::string yaml =
      "kafka:\n  brokers: embedded,a:99999\n  class: none\n  gather_min: 11ms\n"
      "redis: {tls_ca: ca.pem}\nfaults: {enabled: true}\n";
  EXPECT_EQ(
      error_of(yaml, {}, {"auth.mode=required"}, true),
      "x.yaml:3: kafka.class: there is no class 'none'; classes are interactive, standard, bulk\n"
      "--set: auth.mode: required needs auth.keys_file, auth.jwks_file or auth.jwks_url\n"
      "x.yaml:2: kafka.brokers: 'embedded,a:99999' is not allowed; `embedded` stands alone: expected either "
      "it, or hosts such as broker:9092\n"
      "x.yaml:4: kafka.gather_min: must not exceed kafka.gather_max\n"
      "x.yaml:5: redis.tls_ca: needs redis.tls: true\n"
      "x.yaml:6: faults.enabled: needs admin.token (or TROUPE_ADMIN_TOKEN, or admin.token_file): without it "
      "there is no /admin/faults to inject any through");
  const std::string port =
      "x.yaml:7: metrics.port: 'x' is not allowed; expected an integer from 0 to 65535\n";
  const std::string all = error_of(yaml);
  EXPECT_EQ(error_of(yaml + "metrics: {port: x}\n"), port + all) << "beside a value that is wrong for itself";
  EXPECT_EQ(error_of(yaml, {}, {"bare"}), "--set bare: expected section.option=value\n" + all);
}

TEST_F(Options, WhatMayFollowFromAnotherMistakeIsNotTold) {
  EXPECT_EQ(error_of("kafka: {gather_min: 50ms, gather_max: fast}\n"),
            "x.yaml:1: kafka.gather_max: 'fast' is not allowed; expected a duration from 0 to 10s, written "
            "like 250ms, 10s or 1h");
  EXPECT_EQ(error_of("http: {tls_cert: c.pem, tls_kye: k.pem}\n"),
            "x.yaml:1: unknown key 'http.tls_kye'; did you mean 'http.tls_key'?");
  EXPECT_EQ(error_of("faults: {enabled: true}\nadmn: {token: t}\n", {}, {}, true),
            "x.yaml:2: unknown section 'admn'; did you mean 'admin'?");
  EXPECT_EQ(error_of("kafka: {class: urgent}\nclasses: [{name: urgent, target: soon}]\n"),
            "x.yaml:2: classes.urgent.target: 'soon' is not allowed; expected a duration from 1us to 1d, "
            "written like 250ms, 10s or 1h");
}

TEST_F(Options, PropertiesThatDoNotGoTogetherAreToldWithTheRest) {
  sources from;
  from.environment.emplace();
  from.search = false;
  from.set = {"kafka.properties.acks=1", "http.port=x"};
  from.misfits = [](const settings& s) {
    EXPECT_EQ(s.kafka.properties.at("acks"), "1");
    return std::vector<misfit>{{"acks", "kafka.properties.acks: no"}};
  };
  const auto said = [&] {
    try {
      static_cast<void>(load(from));
    } catch (const config_error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const std::string port = "--set: http.port: 'x' is not allowed; expected an integer from 0 to 65535";
  EXPECT_EQ(said(), port + "\n--set: kafka.properties.acks: no");
  from.set.emplace_back("kafka.transaction_timeout=x");
  EXPECT_THAT(said(), Not(HasSubstr("acks"))) << "what Kafka's clients are made of is not known";
}

TEST_F(Options, WeakerDeliveryIsWarnedOfOrRefused) {
  const auto of = [&](const std::string& properties) {
    return load_all("kafka:\n  properties: {" + properties + "}\n", {}, {}, true).warnings;
  };
  EXPECT_THAT(of("acks: all"), IsEmpty());
  EXPECT_THAT(of("enable.idempotence: false"),
              ElementsAre(testing::StartsWith("x.yaml:2: kafka.properties.enable.idempotence: without it")));
  EXPECT_THAT(of("enable.idempotence: false, acks: -1"), testing::SizeIs(1));
  EXPECT_THAT(of("enable.idempotence: false, acks: 1"),
              testing::Contains(testing::AllOf(
                  testing::StartsWith("x.yaml:2: kafka.properties.acks: 1 weakens at least once: "),
                  testing::EndsWith("remove it, or set it to all"))));
  EXPECT_THAT(of("enable.idempotence: false, request.required.acks: 1"),
              testing::Contains(HasSubstr("kafka.properties.request.required.acks: 1 weakens")));
  EXPECT_THAT(error_of("kafka:\n  properties: {enable.idempotence: false, acks: 0}\n", {}, {}, true),
              testing::StartsWith("x.yaml:2: kafka.properties.acks: 0 is not allowed: "));
  EXPECT_THAT(load_all("kafka: {properties: {enable.idempotence: false, acks: 1}}\n").warnings, IsEmpty())
      << "of a node";
}

TEST_F(Options, AllThatIsWrongWithClassesAndRolloutsIsTold) {
  EXPECT_EQ(error_of("classes:\n"
                     "  - {name: a, taget: 1s, limit: x, on_late: maybe}\n"
                     "  - {name: bulk, target: 0, target: 1s}\n"
                     "  - 5\n"
                     "  - {nme: c, target: 1s}\n"
                     "rollout:\n"
                     "  - {model: churn, version: 4, strategy: slowly, percnt: 5}\n"
                     "  - 7\n",
                     {{"TROUPE_CLASSES_C_TARGET", "1s"}}, {"classes.c.target=2s", "classes.a.target=x"}),
            "x.yaml:2: unknown key 'classes.a.taget'; did you mean 'classes.a.target'?\n"
            "x.yaml:2: classes.a.limit: 'x' is not allowed; expected an integer from 1 to 100000000\n"
            "x.yaml:2: classes.a.on_late: 'maybe' is not allowed; expected serve or shed\n"
            "x.yaml:3: classes.bulk.target: '0' is not allowed; expected a duration from 1us to 1d\n"
            "x.yaml:3: classes.bulk.target is given twice (first in line 3)\n"
            "x.yaml:4: classes: expected entries such as {name: interactive, target: 100ms}\n"
            "x.yaml:5: unknown key 'classes.nme'; did you mean 'classes.name'?\n"
            "x.yaml:7: rollout.strategy: 'slowly' is not allowed; expected canary, header, ab, shadow or "
            "blue_green\n"
            "x.yaml:7: unknown key 'rollout.percnt'; did you mean 'rollout.percent'?\n"
            "x.yaml:8: rollout: expected a list of entries such as {model: churn, version: 4, strategy: "
            "canary, percent: 5}\n"
            "--set: classes.a.target: 'x' is not allowed; expected a duration from 1us to 1d, written like "
            "250ms, 10s or 1h");
}

TEST_F(Options, AFlagOfItsOwnIsNamedAsItWasTyped) {
  sources from;
  from.environment.emplace();
  from.search = false;
  from.set = {"kafka.brokers=set:9092"};
  from.flags = {{"--brokers", "kafka.brokers", "typed:9092"}};
  const auto l = load(from);
  EXPECT_EQ(l.values.kafka.brokers, "typed:9092") << "over --set";
  EXPECT_EQ(shown(l, "kafka.brokers").origin, "--brokers");
  from.flags[0].value = "a:b";
  try {
    static_cast<void>(load(from));
    FAIL();
  } catch (const config_error& e) {
    EXPECT_STREQ(e.what(),
                 "--brokers: kafka.brokers: 'a:b' is not allowed; expected host:port, such as broker:9092");
  }
}

TEST_F(Options, WhatLibrdkafkaRefusesIsToldWithThePlace) {
  write("x.yaml", "kafka:\n  group: ''\n  properties:\n    good: 1\n    bad: 2\n");
  sources from;
  from.file = "x.yaml";
  from.environment.emplace();
  from.environment->emplace("TROUPE_KAFKA_PROPERTIES_BAD_TOO", "3");
  from.property_fault = [](const std::string& name, const std::string& value) {
    return name.starts_with("bad") ? "no " + name + "=" + value : "";
  };
  try {
    static_cast<void>(load(from));
    FAIL();
  } catch (const config_error& e) {
    EXPECT_STREQ(e.what(),
                 "x.yaml:2: kafka.group: '' is not allowed; expected a text that is not empty\n"
                 "x.yaml:5: kafka.properties.bad: no bad=2\n"
                 "environment TROUPE_KAFKA_PROPERTIES_BAD_TOO: kafka.properties.bad.too: no bad.too=3");
  }
}

TEST_F(Options, NamesForKafkaAreAsKafkaTakesThem) {
  const std::string longest(249, 'a');
  const auto says = [](const std::string& key, const std::string& value) {
    return error_of("", {}, {key + "=" + value});
  };
  for (const char* name :
       {"requests_topic", "results_topic", "dead_letter_topic", "parking_topic", "instance_id"}) {
    const std::string key = std::string("kafka.") + name;
    for (const auto& good : {std::string("a"), std::string("Az_0.9-"), std::string("..."), longest})
      EXPECT_EQ(says(key, good), "(no error)") << key << " " << good;
    for (const auto& bad :
         {std::string("."), std::string(".."), std::string("a b"), std::string(" a"), std::string("a/b"),
          std::string("a,b"), std::string("a\n"), std::string("a\xc3\xa4"), std::string("a$"), longest + "a"})
      EXPECT_THAT(says(key, bad), testing::StartsWith("--set: " + key + ": ")) << bad;
    const bool optional = key == "kafka.parking_topic" || key == "kafka.instance_id";
    EXPECT_EQ(says(key, "") == "(no error)", optional) << key;
  }
  for (const auto& good : {std::string(), std::string("a b"), std::string("$x/y"), longest})
    EXPECT_EQ(says("kafka.transactional_id", good), "(no error)") << good;
  for (const auto& bad : {std::string(" "), std::string("a "), std::string(" a"), std::string("a\tb"),
                          std::string("a\x7f"), longest + "a"})
    EXPECT_THAT(says("kafka.transactional_id", bad), HasSubstr("kafka.transactional_id: ")) << bad;
  // One line, and not all of what is too long.
  EXPECT_EQ(
      says("kafka.instance_id", std::string(400, 'x')),
      "--set: kafka.instance_id: '" + std::string(60, 'x') +
          "...' (400 characters) is not allowed; expected 1 to 249 letters (a-z, A-Z), digits, '.', '_' "
          "and '-', but not '.' or '..', or nothing");
  EXPECT_EQ(says("kafka.requests_topic", "a\nb").find('\n'), std::string::npos);
}

TEST_F(Options, EmbeddedStandsAlone) {
  const auto says = [](const std::string& brokers) { return error_of("", {}, {"kafka.brokers=" + brokers}); };
  EXPECT_EQ(says("embedded"), "(no error)");
  EXPECT_EQ(says("embedded:9092,b:9092"), "(no error)") << "a host of that name";
  for (const char* bad :
       {"embedded,b:9092", "b:9092, embedded", "embedded,embedded", "embedded,", " embedded"})
    EXPECT_THAT(says(bad), HasSubstr("kafka.brokers: '" + std::string(bad) + "' is not allowed; `embedded`"));
  EXPECT_THAT(error_of("", {{"KAFKA_BROKER", "embedded,b:9092"}}),
              testing::StartsWith("environment KAFKA_BROKER: kafka.brokers: 'embedded,b:9092'"));
}

TEST_F(Options, ANodeWithFaultsNeedsTheTokenThatTheyAreInjectedWith) {
  const std::string yaml = "faults:\n  enabled: true\n";
  EXPECT_EQ(
      error_of(yaml, {}, {}, true),
      "x.yaml:2: faults.enabled: needs admin.token (or TROUPE_ADMIN_TOKEN, or admin.token_file): without "
      "it there is no /admin/faults to inject any through");
  EXPECT_EQ(error_of(yaml, {{"TROUPE_ADMIN_TOKEN", "t"}}, {}, true), "(no error)");
  EXPECT_EQ(error_of(yaml), "(no error)") << "a command beside the node may have its token elsewhere";
}

TEST_F(Options, ExactlyOnceReadsNoAbortedRequests) {
  const std::string yaml = "kafka:\n  delivery: exactly_once\n  properties:\n    isolation.level: ";
  for (const char* level : {"read_uncommitted", "READ_Uncommitted"})
    EXPECT_EQ(
        error_of(yaml + level + "\n", {}, {}, true),
        "x.yaml:4: kafka.properties.isolation.level: read_uncommitted does not go with kafka.delivery: "
        "exactly_once: requests of an aborted transaction, which were never made, would be answered too; "
        "remove it, or use at_least_once");
  EXPECT_EQ(error_of(yaml + "read_committed\n", {}, {}, true), "(no error)");
  const std::string uncommitted = yaml + "read_uncommitted\n";
  EXPECT_EQ(error_of(uncommitted, {}, {"kafka.delivery=at_least_once"}, true), "(no error)");
  EXPECT_EQ(error_of(uncommitted, {}, {"kafka.enabled=false"}, true), "(no error)");
  EXPECT_EQ(error_of(uncommitted), "(no error)") << "troupe results may look at what is not committed";
}

TEST_F(Options, ABoundThatAnotherEndsTheProcessBeforeIsWarnedOf) {
  EXPECT_THAT(load_all("models: {max_hung: 16}\n").warnings,
              ElementsAre(AllOf(HasSubstr("models.max_hung: is not reached"),
                                HasSubstr("supervision.max_abandoned"))));
  EXPECT_THAT(load_all("models: {max_hung: 15}\n").warnings, IsEmpty());
  EXPECT_THAT(load_all("models: {max_hung: 16, time_limit: 0}\n").warnings, IsEmpty());
}

TEST_F(Options, WhatOnlyTransactionsHaveIsWarnedOfWithoutThem) {
  const std::string yaml = "kafka: {transactional_id: scorer-0, transaction_groups: 2}\n";
  EXPECT_THAT(load_all(yaml).warnings,
              ElementsAre("kafka.transactional_id, kafka.transaction_groups have no effect with "
                          "kafka.delivery: at_least_once; set kafka.delivery: exactly_once, or remove them"));
  EXPECT_THAT(load_all("kafka: {transaction_timeout: 9s}\n").warnings,
              ElementsAre("kafka.transaction_timeout has no effect with kafka.delivery: at_least_once; set "
                          "kafka.delivery: exactly_once, or remove it"));
  EXPECT_THAT(load_all("kafka: {transaction_records: 5}\n").warnings,
              ElementsAre(testing::StartsWith("kafka.transaction_records has no effect")));
  EXPECT_THAT(load_all(yaml, {{"TROUPE_KAFKA_DELIVERY", "exactly_once"}}).warnings, IsEmpty());
  EXPECT_THAT(load_all(yaml, {}, {"kafka.enabled=false"}).warnings, IsEmpty());
  EXPECT_THAT(load_all("kafka: {transaction_records: 10000, transaction_groups: 1}\n").warnings, IsEmpty());
}

TEST_F(Options, AnOrderThatExactlyOnceOverridesIsWarnedOf) {
  const std::string yaml = "kafka: {brokers: 'a:9092', delivery: exactly_once, output_order: completion}\n";
  EXPECT_THAT(load_all(yaml).warnings,
              ElementsAre(testing::StartsWith("kafka.output_order: completion has no effect")));
  EXPECT_THAT(load_all("kafka: {brokers: 'a:9092', delivery: exactly_once}\n").warnings, IsEmpty());
  EXPECT_THAT(load_all("kafka: {output_order: completion}\n").warnings, IsEmpty());
}

TEST_F(Options, CredentialsWithoutTheirProtocolAreWarnedOf) {
  const auto warnings = [&](const std::string& properties) {
    return load_all("kafka: {properties: {" + properties + "}}\n").warnings;
  };
  EXPECT_THAT(
      warnings("sasl.username: u"),
      ElementsAre("kafka.properties.sasl.username has no effect: kafka.properties.security.protocol is "
                  "not set; set it to SASL_SSL or SASL_PLAINTEXT"));
  EXPECT_THAT(warnings("sasl.username: u, security.protocol: ssl"),
              ElementsAre(HasSubstr("security.protocol is ssl; set it to SASL_SSL or SASL_PLAINTEXT")));
  EXPECT_THAT(warnings("ssl.ca.location: /ca.pem, security.protocol: SASL_PLAINTEXT"),
              ElementsAre(HasSubstr("ssl.ca.location has no effect")));
  EXPECT_THAT(warnings("ssl.ca.location: /ca.pem, security.protocol: SSL"), IsEmpty());
  EXPECT_THAT(warnings("sasl.username: u, ssl.ca.location: /ca.pem, security.protocol: sasl_ssl"), IsEmpty());
  EXPECT_THAT(warnings("linger.ms: 5"), IsEmpty());
}

TEST_F(Options, BrokenYamlNamesItsLine) {
  EXPECT_THAT(error_of("kafka:\n  group: [a\n"), HasSubstr("x.yaml:"));
  EXPECT_THAT(error_of("kafka:\n  group: [a\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(error_of("kafka:\n\tgroup: a\n"), HasSubstr("x.yaml:2: not valid YAML"));
}

TEST_F(Options, ErrorsOfVariablesAndFlags) {
  const auto variable = [](const char* name, const char* value) { return error_of("", {{name, value}}); };
  EXPECT_EQ(variable("TROUPE_KAFKA_BROKER", "x"),
            "environment TROUPE_KAFKA_BROKER: unknown variable; did you mean 'TROUPE_KAFKA_BROKERS'?");
  EXPECT_EQ(variable("TROUPE_DRAIN_DEADLINE", "soon"),
            "environment TROUPE_DRAIN_DEADLINE: drain.deadline: 'soon' is not allowed; expected a duration "
            "from 0 to 1h, "
            "written like 250ms, 10s or 1h");
  EXPECT_EQ(variable("REDIS_PORT", "x"),
            "environment REDIS_PORT: redis.port: 'x' is not allowed; expected an integer from 1 to 65535");
  const auto flag = [](const char* text) { return error_of("", {}, {text}); };
  EXPECT_EQ(flag("metrics.port"), "--set metrics.port: expected section.option=value");
  EXPECT_EQ(flag("metrics.prot=1"), "--set: unknown key 'metrics.prot'; did you mean 'metrics.port'?");
  EXPECT_EQ(flag("=1"), "--set: unknown key ''; `troupe config --markdown` lists all options");
  EXPECT_EQ(flag("classes=1"), "--set: classes: name a class and a field, such as classes.bulk.target=30s");
  EXPECT_EQ(
      flag("classes.other.target=1s"),
      "--set: classes.other.target: there is no class 'other'; classes are interactive, standard, bulk");
  EXPECT_EQ(flag("kafka.properties=1"),
            "--set: kafka.properties: name a property, such as kafka.properties.linger.ms=5");
}

TEST_F(Options, VariablesOfOthersAreLeftAlone) {
  const auto l = load_all("", {{"TROUPE_SOURCE_DIRECTORY", "/x"},
                               {"TROUPE", "/x"},
                               {"TROUPE_SERVICE_HOST", "10.0.0.1"},
                               {"TROUPE_PORT_8000_TCP", "tcp://10.0.0.1:8000"},
                               {"TROUPE_METRICS_SERVICE_HOST", "10.0.0.1"},
                               {"TROUPE_METRICS_SERVICE_PORT_HTTP", "8000"},
                               {"TROUPE_METRICS_PORT_8000_TCP_ADDR", "10.0.0.1"},
                               {"TROUPE_METRICS_PORT", "tcp://10.0.0.1:8000"},
                               {"REDIS_PORT", "tcp://10.0.0.2:6379"}});
  EXPECT_EQ(l.values.metrics.port, 8000);
  EXPECT_EQ(l.values.redis.port, 6379);
  EXPECT_THAT(
      l.warnings,
      ElementsAre(
          "environment REDIS_PORT is ignored: it describes a Kubernetes service, not an option",
          "environment TROUPE_METRICS_PORT is ignored: it describes a Kubernetes service, not an option"));
}

TEST_F(Options, WhatLeavesADoorOpenIsWarnedOf) {
  EXPECT_THAT(load_all("auth:\n  keys_file: /k\n").warnings,
              ElementsAre("auth.keys_file has no effect, nobody is asked for a key or token: set auth.mode: "
                          "required"));
  EXPECT_THAT(load_all("auth:\n  mode: required\n  jwks_file: /k\n  jwt_issuer: https://id\n").warnings,
              ElementsAre("auth.jwt_audience is empty: tokens that the provider made for other services are "
                          "good here"));
  EXPECT_THAT(load_all("auth:\n  mode: required\n  keys_file: /k\n").warnings, IsEmpty());
}

TEST_F(Options, OriginsAreWhatBrowsersSend) {
  for (const char* good : {"*", "https://app.example", "http://localhost:3000, https://b.example"})
    EXPECT_NO_THROW((void)load_all("http:\n  cors_origins: '" + std::string(good) + "'\n")) << good;
  for (const char* bad : {"app.example", "https://app.example/", "https://", "https://App.example",
                          "*.example", "https://a.example, b.example"})
    EXPECT_THROW((void)load_all("http:\n  cors_origins: '" + std::string(bad) + "'\n"), config_error) << bad;
}

TEST_F(Options, OlderVariablesAreUnderstood) {
  const auto l = load_all("", {{"KAFKA_BROKER", "k:9092"},
                               {"CONSUMER_GROUP", "g"},
                               {"REDIS_HOST", "r"},
                               {"REDIS_PORT", "6380"},
                               {"REDIS_PASSWORD", ""},
                               {"MODEL_NAME", "iris-classifier"},
                               {"DEPLOYMENT_NAME", "blue"},
                               {"USE_EVENTHUB", "false"},
                               {"EVENTHUB_CONNECTION", "Endpoint=sb://secret"}});
  EXPECT_EQ(l.values.kafka.brokers, "k:9092");
  EXPECT_EQ(l.values.kafka.group, "g");
  EXPECT_EQ(l.values.redis.host, "r");
  EXPECT_EQ(l.values.redis.port, 6380);
  EXPECT_EQ(l.values.models.default_model, "iris-classifier");
  EXPECT_EQ(l.values.http.deployment, "blue");
  EXPECT_EQ(shown(l, "redis.password").origin, "default");
  EXPECT_THAT(l.warnings,
              ElementsAre("environment EVENTHUB_CONNECTION has no effect without USE_EVENTHUB=true"));
}

TEST_F(Options, OlderVariablesAreHeldToTheirKind) {
  for (const char* text : {"maybe", "2", "tru", "true ", "TRUE\n"})
    EXPECT_THAT(
        error_of("", {{"USE_EVENTHUB", text}}),
        testing::AllOf(testing::StartsWith("environment USE_EVENTHUB: '"),
                       testing::EndsWith("' is not allowed; expected true, 1, yes or on, or false, 0, "
                                         "no or off")))
        << text;
  for (const char* text : {"", "false", "False", "0", "no", "OFF"})
    EXPECT_EQ(error_of("", {{"USE_EVENTHUB", text}}), "(no error)") << text;
  for (const char* text : {"true", "TRUE", "1", "Yes", "on"})
    EXPECT_THAT(error_of("", {{"USE_EVENTHUB", text}}), HasSubstr("needs kafka.eventhub_connection")) << text;

  const auto model = [](const char* name, const char* value) {
    return error_of("", {{"MLFLOW_TRACKING_URI", "http://m:5000"}, {"MODEL_NAME", "churn"}, {name, value}});
  };
  EXPECT_EQ(
      model("MODEL_VERSION", "three"),
      "environment MODEL_VERSION: 'three' is not allowed; expected the number of a version, or latest; a "
      "stage goes into MODEL_STAGE");
  for (const char* text : {"3.5", "-1", "03", "3 ", "99999999999999999999"})
    EXPECT_THAT(model("MODEL_VERSION", text), testing::StartsWith("environment MODEL_VERSION: '")) << text;
  for (const char* text : {"", "3", "latest"}) EXPECT_EQ(model("MODEL_VERSION", text), "(no error)") << text;
  EXPECT_EQ(model("MODEL_STAGE", "3"),
            "environment MODEL_STAGE: '3' is not allowed; expected a stage, such as Production; a version's "
            "number goes into MODEL_VERSION");
  for (const char* text : {"", "Staging", "latest"})
    EXPECT_EQ(model("MODEL_STAGE", text), "(no error)") << text;
  EXPECT_EQ(error_of("", {{"MODEL_VERSION", "three"}}), "(no error)")
      << "without a registry it has no effect";
}

TEST_F(Options, SecretsComeFromFilesAndAreNeverShown) {
  write("secret", "hunter2\n");
  const auto from_file = load_all("redis:\n  password_file: secret\n");
  EXPECT_EQ(from_file.values.redis.password, "hunter2");
  EXPECT_EQ(shown(from_file, "redis.password").value, "***");
  EXPECT_EQ(shown(from_file, "redis.password").origin, "x.yaml:2 (secret)");
  EXPECT_TRUE(shown(from_file, "redis.password").secret);
  EXPECT_EQ(load_all("", {{"TROUPE_ADMIN_TOKEN_FILE", "secret"}}).values.admin.token, "hunter2");
  EXPECT_EQ(load_all("", {}, {"admin.token_file=secret"}).values.admin.token, "hunter2");
  EXPECT_EQ(shown(load_all(""), "redis.password").value, "");

  const auto properties = load_all(
      "kafka: {properties: {sasl.password: hunter2, ssl.key.password: hunter2, sasl.username: me}}\n");
  EXPECT_EQ(shown(properties, "kafka.properties.sasl.password").value, "***");
  EXPECT_EQ(shown(properties, "kafka.properties.ssl.key.password").value, "***");
  EXPECT_EQ(shown(properties, "kafka.properties.sasl.username").value, "me");
  for (const auto& l : {from_file, properties})
    for (const auto& e : l.effective) EXPECT_THAT(e.value + e.origin, Not(HasSubstr("hunter2")));
}

TEST_F(Options, SecretsDoNotShowInErrors) {
  EXPECT_EQ(error_of("redis:\n  password: a\n  password_file: secret\n"),
            "x.yaml:3: redis.password is given twice (first in line 2)");
  EXPECT_EQ(error_of("", {{"TROUPE_REDIS_PASSWORD", "hunter2"}, {"TROUPE_REDIS_PASSWORD_FILE", "f"}}),
            "environment TROUPE_REDIS_PASSWORD_FILE: set either this or TROUPE_REDIS_PASSWORD, not both");
  EXPECT_EQ(error_of("redis: {password_file: nowhere}\n"),
            "x.yaml:1: redis.password_file: 'nowhere' can't be read");
  EXPECT_EQ(error_of("redis: {password_file: .}\n"), "x.yaml:1: redis.password_file: '.' can't be read");
  EXPECT_EQ(error_of("", {}, {"redis.pasword=hunter2"}),
            "--set: unknown key 'redis.pasword'; did you mean 'redis.password'?");
  EXPECT_EQ(error_of("kafka: {group_file: x}\n"),
            "x.yaml:1: unknown key 'kafka.group_file'; did you mean 'kafka.group'?");
}

TEST_F(Options, TheFileIsFoundOrSaysWhyNot) {
  sources from;
  from.environment.emplace();
  write("config/troupe.yaml", "kafka: {group: found}\n");
  auto l = load(from);
  EXPECT_EQ(l.values.kafka.group, "found");
  EXPECT_EQ(l.file, "config/troupe.yaml");
  from.search = false;
  EXPECT_EQ(load(from).values.kafka.group, "inference-service");
  from.file = "nowhere.yaml";
  try {
    static_cast<void>(load(from));
    FAIL();
  } catch (const config_error& e) {
    EXPECT_STREQ(e.what(), "nowhere.yaml: the configuration file can't be read");
  }
  write("empty.yaml", "");
  from.file = "empty.yaml";
  EXPECT_EQ(load(from).values.kafka.group, "inference-service");
  write("comment.yaml", "# nothing\n");
  from.file = "comment.yaml";
  EXPECT_EQ(load(from).values.kafka.group, "inference-service");
  from.file = ".";
  EXPECT_THROW(static_cast<void>(load(from)), config_error);
}

TEST_F(Options, TheShippedFileHoldsTheDefaults) {
  sources from;
  from.environment.emplace();
  from.file = std::string(TROUPE_SOURCE_DIRECTORY) + "/config/troupe.yaml";
  const auto shipped = load(from);
  const auto defaults = load_all("");
  ASSERT_EQ(shipped.effective.size(), defaults.effective.size());
  for (std::size_t i = 0; i < defaults.effective.size(); ++i) {
    EXPECT_EQ(shipped.effective[i].key, defaults.effective[i].key);
    EXPECT_EQ(shipped.effective[i].value, defaults.effective[i].value) << defaults.effective[i].key;
  }
}

TEST_F(Options, TheReferenceIsUpToDate) {
  std::ifstream file(std::string(TROUPE_SOURCE_DIRECTORY) + "/docs/configuration.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(text == markdown()) << "write it anew: troupe config --markdown > docs/configuration.md";
}

TEST_F(Options, TheSchemaKnowsEveryOption) {
  const auto schema = nlohmann::json::parse(json_schema());
  EXPECT_EQ(schema["additionalProperties"], false);
  for (const auto& o : options()) {
    if (o.type == value_type::classes || o.type == value_type::rollouts) continue;
    const auto dot = o.key.find('.');
    const auto& section = schema["properties"][o.key.substr(0, dot)];
    EXPECT_TRUE(section["properties"].contains(o.key.substr(dot + 1))) << o.key;
    EXPECT_EQ(section["properties"].contains(o.key.substr(dot + 1) + "_file"), o.secret) << o.key;
    EXPECT_EQ(section["additionalProperties"], false);
  }
  const auto& port = schema["properties"]["metrics"]["properties"]["port"];
  EXPECT_EQ(port["type"], "integer");
  EXPECT_EQ(port["maximum"], 65535);
  EXPECT_EQ(port["default"], 8000);
  const auto& item = schema["properties"]["classes"]["items"];
  EXPECT_TRUE(item["properties"].contains("on_late"));
  EXPECT_EQ(item["required"], nlohmann::json::array({"name"}));
  const auto& kafka = schema["properties"]["kafka"]["properties"];
  EXPECT_EQ(kafka["requests_topic"]["pattern"], R"(^(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}$)");
  EXPECT_EQ(kafka["parking_topic"]["pattern"], R"(^(?!\.{1,2}$)[a-zA-Z0-9._-]{0,249}$)");
}

}  // namespace
}  // namespace troupe::config
