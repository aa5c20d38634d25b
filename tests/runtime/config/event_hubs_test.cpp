#include "runtime/config/event_hubs.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "runtime/config/option_list.hpp"
#include "runtime/config/options.hpp"

namespace troupe::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using variables = std::map<std::string, std::string>;

const std::string good =
    "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccessKey=c2VjcmV0a2V5==";

loaded load_all(const variables& environment, const std::vector<std::string>& set = {}) {
  return load({.file = {}, .set = set, .environment = environment, .search = false});
}

std::string error_of(const variables& environment, const std::vector<std::string>& set = {}) {
  try {
    (void)load_all(environment, set);
    return "";
  } catch (const config_error& e) {
    return e.what();
  }
}

std::string origin(const loaded& l, const std::string& key) {
  for (const auto& e : l.effective)
    if (e.key == key) return e.origin;
  return "none";
}

TEST(ConnectionString, ReadsItsParts) {
  const auto c = parse_connection_string(good);
  EXPECT_EQ(c.host, "ns.servicebus.windows.net");
  EXPECT_EQ(c.port, 9093);
  EXPECT_EQ(c.entity, "");
  EXPECT_FALSE(c.emulator);
  EXPECT_EQ(c.text, good);
  const auto other = parse_connection_string(
      " SharedAccessKey=a=; "
      "sharedaccesskeyname=n;ENDPOINT=sb://localhost:19094;EntityPath=hub;TransportType=x;\n");
  EXPECT_EQ(other.host, "localhost");
  EXPECT_EQ(other.port, 19094);
  EXPECT_EQ(other.entity, "hub");
  const auto emulator = parse_connection_string(
      "Endpoint=sb://localhost;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true");
  EXPECT_TRUE(emulator.emulator);
  EXPECT_EQ(emulator.port, 9092);
  EXPECT_EQ(
      parse_connection_string("Endpoint=sb://h/;SharedAccessSignature=SharedAccessSignature sr=x&sig=y").host,
      "h");
}

TEST(ConnectionString, SaysWhatIsWrongWithoutShowingIt) {
  const struct {
    std::string text, what;
  } table[] = {
      {"", "it is empty"},
      {"\"" + good + "\"", "it stands in quotes"},
      {"c2VjcmV0a2V5", "its part 1 is not NAME=VALUE"},
      {good + ";=c2VjcmV0a2V5", "its part 4 is not NAME=VALUE"},
      {good + ";SharedAccessKey=c2VjcmV0a2V5", "its part 4 repeats an earlier one"},
      {"SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0a2V5", "it has no Endpoint"},
      {"Endpoint=https://ns/;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0a2V5",
       "its Endpoint is no sb:// address"},
      {"Endpoint=sb:///;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0a2V5", "its Endpoint names no host"},
      {"Endpoint=sb://a b/;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0a2V5", "its Endpoint names no host"},
      {"Endpoint=sb://c2VjcmV0a2V5@h/;SharedAccessKeyName=n;SharedAccessKey=k", "its Endpoint names no host"},
      {"Endpoint=sb://h,other/;SharedAccessKeyName=n;SharedAccessKey=k", "its Endpoint names no host"},
      {"Endpoint=sb://h:0/;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0a2V5", "the port of its Endpoint"},
      {"Endpoint=sb://h:70000/;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0a2V5",
       "the port of its Endpoint"},
      {"Endpoint=sb://h/;SharedAccessKey=c2VjcmV0a2V5", "it has no SharedAccessKeyName"},
      {"Endpoint=sb://h/;SharedAccessKeyName=n", "it has no SharedAccessKey;"},
      {"Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=", "it has no SharedAccessKey;"},
      {"Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=c2Vjcm\nV0a2V5", "line break"},
  };
  for (const auto& c : table) {
    try {
      (void)parse_connection_string(c.text);
      ADD_FAILURE() << c.text;
    } catch (const value_error& e) {
      EXPECT_THAT(e.what(), HasSubstr(c.what)) << c.text;
      EXPECT_THAT(e.what(), Not(HasSubstr("c2Vjcm"))) << c.text;
      EXPECT_THAT(std::string(e.what()), Not(HasSubstr("\n"))) << c.text;
    }
  }
}

TEST(ConnectionString, DamagedOnesAreReadOrRefused) {
  std::mt19937 random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string text = good;
    for (unsigned n = random() % 4 + 1; n > 0; --n) {
      const std::size_t at = random() % (text.size() + 1);
      if (const auto kind = random() % 3; kind == 0 && at < text.size())
        text.erase(at, random() % 8 + 1);
      else if (kind == 1)
        text.insert(at, 1, static_cast<char>(random() % 256));
      else
        text.insert(at, text.substr(random() % text.size(), 9));
    }
    try {
      const auto c = parse_connection_string(text);
      EXPECT_FALSE(c.host.empty());
      EXPECT_TRUE(c.port > 0 && c.port < 65536);
    } catch (const value_error&) {
    }
  }
}

TEST(EventHubs, OlderVariablesGiveTheWhole) {
  const auto l = load_all({{"USE_EVENTHUB", "true"},
                           {"EVENTHUB_CONNECTION", good},
                           {"EVENTHUB_NAME", "requests"},
                           {"KAFKA_BROKER", "old:9092"}});
  const auto& k = l.values.kafka;
  EXPECT_EQ(k.brokers, "ns.servicebus.windows.net:9093");
  EXPECT_EQ(k.requests_topic, "requests");
  EXPECT_EQ(k.results_topic, "requests-results");
  EXPECT_EQ(k.dead_letter_topic, "requests-dlq");
  EXPECT_EQ(k.group, "$Default");
  EXPECT_TRUE(k.iso_timestamps());
  const std::map<std::string, std::string> properties{
      {"security.protocol", "SASL_SSL"},      {"sasl.mechanism", "PLAIN"},
      {"sasl.username", "$ConnectionString"}, {"sasl.password", good},
      {"socket.keepalive.enable", "true"},    {"metadata.max.age.ms", "180000"},
      {"request.timeout.ms", "60000"},        {"session.timeout.ms", "30000"},
      {"heartbeat.interval.ms", "3000"},      {"message.max.bytes", "1000000"}};
  EXPECT_EQ(k.properties, properties);
  EXPECT_THAT(l.warnings,
              ElementsAre("environment KAFKA_BROKER has no effect: the connection string of Event Hubs "
                          "names the brokers"));
  for (const auto& e : l.effective) EXPECT_THAT(e.value + e.origin, Not(HasSubstr("c2Vjcm"))) << e.key;
  EXPECT_EQ(origin(l, "kafka.requests_topic"), "environment EVENTHUB_NAME");
  EXPECT_EQ(origin(l, "kafka.results_topic"), "kafka.eventhub");
  EXPECT_EQ(origin(l, "kafka.properties.sasl.password"), "kafka.eventhub");
}

TEST(EventHubs, WhatIsNamedWins) {
  const auto l = load_all({{"USE_EVENTHUB", "1"},
                           {"EVENTHUB_CONNECTION", good},
                           {"EVENTHUB_NAME", "requests"},
                           {"EVENTHUB_RESULTS", "out"},
                           {"CONSUMER_GROUP", "scorers"},
                           {"TROUPE_KAFKA_DEAD_LETTER_TOPIC", "dead"},
                           {"TROUPE_KAFKA_PROPERTIES_SESSION_TIMEOUT_MS", "45000"}},
                          {"kafka.timestamp_format=epoch_ms", "kafka.requests_topic=other"});
  const auto& k = l.values.kafka;
  EXPECT_EQ(k.requests_topic, "other");
  EXPECT_EQ(k.results_topic, "out");
  EXPECT_EQ(k.dead_letter_topic, "dead");
  EXPECT_EQ(k.group, "scorers");
  EXPECT_EQ(k.properties.at("session.timeout.ms"), "45000");
  EXPECT_FALSE(k.iso_timestamps());
  EXPECT_THAT(l.warnings, IsEmpty());
  const auto own =
      load_all({}, {"kafka.eventhub=true", "kafka.eventhub_connection=" + good + ";EntityPath=hub",
                    "kafka.results_topic=hub-results"});
  EXPECT_EQ(own.values.kafka.requests_topic, "hub");
  EXPECT_EQ(own.values.kafka.dead_letter_topic, "hub-dlq");
  EXPECT_THAT(own.warnings, ElementsAre(HasSubstr("opens the event hub 'hub' alone (EntityPath)")));
}

TEST(EventHubs, AFileOfUsualNamesIsBelowTheVariables) {
  const std::string file = std::string(TROUPE_SOURCE_DIRECTORY) + "/config/troupe.yaml";
  const variables hub{{"USE_EVENTHUB", "true"}, {"EVENTHUB_CONNECTION", good}, {"EVENTHUB_NAME", "requests"}};
  const auto l = load({.file = file, .set = {}, .environment = hub, .search = false});
  EXPECT_EQ(l.values.kafka.brokers, "ns.servicebus.windows.net:9093");
  EXPECT_EQ(l.values.kafka.requests_topic, "requests");
  EXPECT_EQ(l.values.kafka.results_topic, "requests-results");
  EXPECT_EQ(l.values.kafka.dead_letter_topic, "requests-dlq");
  EXPECT_EQ(l.values.kafka.group, "$Default");
  EXPECT_THAT(l.warnings, IsEmpty());
}

TEST(EventHubs, WithoutItNothingChanges) {
  const auto l = load_all({{"USE_EVENTHUB", "false"}, {"EVENTHUB_NAME", "x"}, {"KAFKA_BROKER", "k:9092"}});
  EXPECT_EQ(l.values.kafka.brokers, "k:9092");
  EXPECT_EQ(l.values.kafka.requests_topic, "inference-requests");
  EXPECT_FALSE(l.values.kafka.iso_timestamps());
  EXPECT_TRUE(l.values.kafka.properties.empty());
  EXPECT_THAT(l.warnings, ElementsAre("environment EVENTHUB_NAME has no effect without USE_EVENTHUB=true"));
}

TEST(EventHubs, WhatIsItsAloneIsIdleWithoutIt) {
  const auto l = load_all({{"EVENTHUB_CONNECTION", good}},
                          {"kafka.eventhub_transactions=true", "kafka.eventhub_connection=" + good});
  EXPECT_THAT(l.warnings,
              ElementsAre(HasSubstr("EVENTHUB_CONNECTION has no effect"),
                          "kafka.eventhub_connection has no effect without kafka.eventhub: true",
                          "kafka.eventhub_transactions has no effect without kafka.eventhub: true"));
  EXPECT_THAT(load_all({}, {"kafka.eventhub_transactions=false"}).warnings, IsEmpty());
}

TEST(EventHubs, WhatDoesNotFitIsRefused) {
  const variables hub{{"USE_EVENTHUB", "true"}, {"EVENTHUB_CONNECTION", good}, {"EVENTHUB_NAME", "h"}};
  EXPECT_EQ(
      error_of({{"USE_EVENTHUB", "true"}}),
      "environment USE_EVENTHUB: kafka.eventhub: needs kafka.eventhub_connection, the namespace's connection "
      "string (or EVENTHUB_CONNECTION, or kafka.eventhub_connection_file)");
  EXPECT_THAT(error_of({{"USE_EVENTHUB", "true"}, {"EVENTHUB_CONNECTION", good}}),
              HasSubstr("kafka.eventhub: name the event hub that requests come from: EVENTHUB_NAME"));
  const std::string cut =
      error_of({{"USE_EVENTHUB", "true"}, {"EVENTHUB_CONNECTION", good.substr(good.find(';') + 1)}});
  EXPECT_THAT(cut,
              HasSubstr("environment EVENTHUB_CONNECTION: kafka.eventhub_connection: it has no Endpoint"));
  EXPECT_THAT(cut, Not(HasSubstr("c2Vjcm")));
  EXPECT_THAT(error_of({{"USE_EVENTHUB", "true"}, {"EVENTHUB_CONNECTION", good + ";EntityPath=a hub"}}),
              HasSubstr("kafka.eventhub: kafka.requests_topic: 'a hub' is not allowed; expected 1 to 249"));
  variables overlong = hub;
  overlong["EVENTHUB_NAME"] = std::string(245, 'h');
  EXPECT_THAT(error_of(overlong), HasSubstr("kafka.eventhub: kafka.results_topic: 'hhh"));
  EXPECT_THAT(error_of(hub, {"kafka.brokers=b:9092"}), HasSubstr("--set: kafka.brokers: not together with"));
  EXPECT_THAT(error_of(hub, {"kafka.properties.compression.type=lz4"}), HasSubstr("gzip; not 'lz4'"));
  EXPECT_EQ(error_of(hub, {"kafka.properties.compression.type=gzip"}), "");
  EXPECT_THAT(error_of(hub, {"kafka.properties.auto.commit.interval.ms=100"}), HasSubstr("at least 250"));
  EXPECT_THAT(error_of(hub, {"kafka.delivery=exactly_once"}), HasSubstr("kafka.eventhub_transactions: true"));
  EXPECT_THAT(error_of(hub, {"kafka.delivery=exactly_once", "kafka.eventhub_transactions=true"}),
              Not(HasSubstr("kafka.eventhub_transactions")));
}

}  // namespace
}  // namespace troupe::config
