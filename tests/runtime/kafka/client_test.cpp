#include "runtime/kafka/client.hpp"

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include <atomic>
#include <fstream>
#include <future>

#include "runtime/kafka/admin.hpp"
#include "runtime/kafka/librdkafka_sink.hpp"
#include "runtime/kafka/librdkafka_source.hpp"
#include "tests/runtime/kafka/members.hpp"

namespace troupe::kafka {
namespace {

TEST(PlainReason, KeepsWhoAndWhy) {
  const std::pair<const char*, const char*> table[] = {
      {"127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in "
       "state CONNECT)",
       "127.0.0.1:9092: Connection refused"},
      {"sasl_ssl://localhost:9093/bootstrap: SASL authentication error: Authentication failed (after 5ms in "
       "state "
       "AUTH_REQ)",
       "localhost:9093: SASL authentication error: Authentication failed"},
      {"ssl://broker-1.example:9093/1: SSL handshake failed: certificate verify failed (after 3ms in state "
       "SSL_HANDSHAKE)",
       "broker-1.example:9093: SSL handshake failed: certificate verify failed"},
      {"nowhere.invalid:9092/bootstrap: Failed to resolve 'nowhere.invalid:9092': Name or service not known "
       "(after 9ms in "
       "state CONNECT)",
       "nowhere.invalid:9092: Failed to resolve 'nowhere.invalid:9092': Name or service not known"},
      {"[::1]:9092/3: Disconnected (after 1234ms in state UP)", "[::1]:9092: Disconnected"},
      {"GroupCoordinator: 127.0.0.1:9092: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after "
       "0ms in state "
       "CONNECT, 3 identical error(s) suppressed)",
       "127.0.0.1:9092: Connection refused"},
      {"2/2 brokers are down", "2/2 brokers are down"},
      {"t: unknown", "t: unknown"},
      {"a:b: c", "a:b: c"},
      {"Subscribed topic not available: a/b: Broker: Unknown topic or partition",
       "Subscribed topic not available: a/b: Broker: Unknown topic or partition"},
      {"", ""},
      {"host:1/bootstrap: ", "host:1: "},
  };
  for (const auto& [complaint, plain] : table) EXPECT_EQ(plain_reason(complaint), plain);
}

TEST(Judge, NamesTheOptionAndTheRemedy) {
  constexpr int expired = 10, unknown_issuer = 20, other_name = 62;  // X509_V_ERR_...
  const std::string verify =
      "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate "
      "could "
      "not be verified, verify that ssl.ca.location is correctly configured (after 6ms in state "
      "SSL_HANDSHAKE)";
  note_certificate("expired:9093", expired);
  note_certificate("unknown:9093", unknown_issuer);
  note_certificate("other:9093", other_name);
  const struct {
    int code;
    std::string complaint, says, option;
    bool refused = true;
  } table[] = {
      {RD_KAFKA_RESP_ERR__AUTHENTICATION,
       "sasl_ssl://h:9093/bootstrap: SASL authentication error: Authentication failed (after 5ms in state "
       "AUTH_REQ)",
       "h:9093: the broker refuses the credentials (SASL authentication error: Authentication failed): ",
       "sasl.password; with kafka.eventhub, kafka.eventhub_connection"},
      {RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM, "sasl_ssl://h:9093/1: no",
       "h:9093: the broker does not take this mechanism (no)", "kafka.properties.sasl.mechanisms"},
      {RD_KAFKA_RESP_ERR__AUTHENTICATION,
       "sasl_ssl://h:9093/bootstrap: SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL "
       "mechanism: broker's supported mechanisms: PLAIN (after 1ms in state AUTH_HANDSHAKE)",
       "h:9093: the broker does not take this mechanism (SASL SCRAM-SHA-512", "supported mechanisms: PLAIN"},
      {RD_KAFKA_RESP_ERR__AUTHENTICATION,
       "sasl_plaintext://h:9092/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Request not valid "
       "in "
       "current SASL state: broker's supported mechanisms:  (after 1ms in state AUTH_HANDSHAKE)",
       "h:9092: the broker takes no credentials at this port: ",
       "kafka.properties.security.protocol to PLAINTEXT,"},
      {RD_KAFKA_RESP_ERR__AUTHENTICATION,
       "sasl_ssl://h:9093/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Request not valid in "
       "current "
       "SASL state: broker's supported mechanisms:  (after 1ms in state AUTH_HANDSHAKE)",
       "h:9093: the broker takes no credentials at this port: ",
       "kafka.properties.security.protocol to SSL,"},
      {RD_KAFKA_RESP_ERR__AUTHENTICATION,
       "sasl_plaintext://h:9092/bootstrap: Failed to initialize SASL authentication: SASL Handshake not "
       "supported "
       "by broker (required by mechanism PLAIN) (after 1ms in state AUTH_LEGACY)",
       "h:9092: the broker takes no credentials at this port: ", "kafka.properties.security.protocol"},
      {RD_KAFKA_RESP_ERR__AUTHENTICATION,
       "sasl_ssl://h:9093/bootstrap: SASL PLAIN mechanism handshake failed: Local: Broker transport failure: "
       "broker's supported mechanisms:  (after 1ms in state AUTH_HANDSHAKE)",
       "h:9093: SASL PLAIN mechanism handshake failed: Local: Broker transport failure", "", false},
      {RD_KAFKA_RESP_ERR__SSL, "sasl_ssl://expired:9093/bootstrap: " + verify,
       "expired:9093: the broker's certificate has expired", "renew it there"},
      {RD_KAFKA_RESP_ERR__TRANSPORT,
       "sasl_ssl://expired:9093/bootstrap: error:0A000086:SSL routines::certificate verify failed",
       "expired:9093: the broker's certificate has expired", "renew it there"},
      {RD_KAFKA_RESP_ERR__SSL, "sasl_ssl://unknown:9093/bootstrap: " + verify,
       "unknown:9093: the broker's certificate comes from an authority that is not trusted here",
       "kafka.properties.ssl.ca.location"},
      {RD_KAFKA_RESP_ERR__SSL, "sasl_ssl://other:9093/bootstrap: " + verify,
       "other:9093: the broker's certificate is for another host name", "kafka.brokers"},
      {RD_KAFKA_RESP_ERR__SSL, "sasl_ssl://never-seen:9093/bootstrap: " + verify,
       "never-seen:9093: the broker's certificate", "kafka.properties.ssl.ca.location"},
      {RD_KAFKA_RESP_ERR__SSL,
       "ssl://h:9092/bootstrap: SSL handshake failed: SSL routines::wrong version number",
       "h:9092: the broker speaks no TLS at this port", "kafka.properties.security.protocol to PLAINTEXT,"},
      {RD_KAFKA_RESP_ERR__SSL,
       "ssl://h:9092/bootstrap: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker "
       "listener? "
       "(after 5ms in state SSL_HANDSHAKE)",
       "h:9092: SSL handshake failed: Disconnected; if it is always so, the broker speaks no TLS at this "
       "port",
       "kafka.properties.security.protocol", false},
      {RD_KAFKA_RESP_ERR__SSL,
       "ssl://h:9092/bootstrap: SSL handshake failed: error:0A000126:SSL routines::unexpected eof while "
       "reading "
       "(after 5ms in state SSL_HANDSHAKE)",
       "h:9092: SSL handshake failed: ", "kafka.properties.security.protocol", false},
      {RD_KAFKA_RESP_ERR__TRANSPORT,
       "h:9093/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN: requesting "
       "ApiVersion: "
       "might be caused by incorrect security.protocol configuration (connecting to a SSL listener?) or "
       "broker "
       "version is < 0.10 (see api.version.request) (after 2ms in state APIVERSION_QUERY)",
       "h:9093: Disconnected: connection closed by peer: receive 0 after POLLIN; if it is always so, the "
       "broker "
       "speaks only TLS at this port",
       "kafka.properties.security.protocol", false},
      {RD_KAFKA_RESP_ERR__TRANSPORT,
       "h:9092/1: Disconnected: verify that security.protocol is correctly configured, broker might require "
       "SASL "
       "authentication (after 3ms in state UP)",
       "h:9092: Disconnected; if it is always so, the broker wants credentials at this port",
       "kafka.properties.security.protocol", false},
      {RD_KAFKA_RESP_ERR__TRANSPORT,
       "sasl_ssl://h:9092/bootstrap: Disconnected: SSL connection closed by peer (after 5ms in state "
       "SSL_HANDSHAKE)",
       "h:9092: Disconnected: SSL connection closed by peer", "kafka.properties.security.protocol", false},
      {RD_KAFKA_RESP_ERR__TRANSPORT,
       "ssl://h:9093/1: Disconnected: SSL connection closed by peer (after 3ms in state UP)",
       "h:9093: Disconnected: SSL connection closed by peer; if it is always so, the broker wants "
       "credentials "
       "at this port",
       "kafka.properties.security.protocol", false},
      {RD_KAFKA_RESP_ERR__TRANSPORT, "sasl_ssl://h:9093/1: Disconnected (after 9ms in state UP)",
       "h:9093: Disconnected", "", false},
  };
  for (const auto& c : table) {
    const verdict v = judge(c.code, c.complaint);
    EXPECT_EQ(v.refused, c.refused) << c.complaint;
    EXPECT_TRUE(v.text.starts_with(c.says)) << v.text;
    EXPECT_NE(v.text.find(c.option), std::string::npos) << v.text;
    EXPECT_EQ(v.text.find('\n'), std::string::npos) << v.text;
  }
}

TEST(Judge, TellsABrokerThatIsAwayFromOneThatEndsConnections) {
  const struct {
    int code;
    const char* complaint;
    bool away;
    const char* doubt;
  } table[] = {
      {RD_KAFKA_RESP_ERR__TRANSPORT,
       "ssl://h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state "
       "CONNECT)",
       true, ""},
      {RD_KAFKA_RESP_ERR__RESOLVE, "h:1/bootstrap: Failed to resolve 'h:1': Name or service not known", true,
       ""},
      {RD_KAFKA_RESP_ERR__TRANSPORT,
       "ssl://h:1/bootstrap: Disconnected: SSL connection closed by peer (after 5ms in state SSL_HANDSHAKE)",
       false, "h:1"},
      {RD_KAFKA_RESP_ERR__TRANSPORT, "[::1]:1/2: Disconnected (after 2ms in state APIVERSION_QUERY)", false,
       "[::1]:1"},
      {RD_KAFKA_RESP_ERR__BAD_MSG, "h:1/bootstrap: Receive failed: Invalid response size 352518912", false,
       "h:1"},
      {RD_KAFKA_RESP_ERR__SSL, "ssl://h:1/bootstrap: SSL handshake failed: wrong version number", false, ""},
      {RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "2/2 brokers are down", false, ""},
  };
  for (const auto& c : table) {
    const verdict v = judge(c.code, c.complaint);
    EXPECT_EQ(v.away, c.away) << c.complaint;
    EXPECT_EQ(v.doubt, c.doubt) << c.complaint;
  }
}

TEST(Mismatch, IsWhatCanNeverSucceedAndNamesTheRemedy) {
  const struct {
    const char* complaint;
    spoken there;
    const char* says;  // empty: it may succeed
  } table[] = {
      {"ssl://h:1/bootstrap: x", spoken::plaintext,
       "h:1: the broker speaks no TLS at this port: set kafka.properties.security.protocol to PLAINTEXT,"},
      {"sasl_ssl://h:1/bootstrap: x", spoken::plaintext,
       "h:1: the broker speaks no TLS at this port: set kafka.properties.security.protocol to PLAINTEXT,"},
      {"sasl_ssl://h:1/bootstrap: x", spoken::sasl_plaintext,
       "h:1: the broker speaks no TLS at this port: set kafka.properties.security.protocol to "
       "SASL_PLAINTEXT,"},
      {"h:1/bootstrap: x", spoken::tls,
       "h:1: the broker speaks only TLS at this port: set kafka.properties.security.protocol to SSL "},
      {"sasl_plaintext://h:1/bootstrap: x", spoken::tls,
       "h:1: the broker speaks only TLS at this port: set kafka.properties.security.protocol to SASL_SSL,"},
      {"h:1/bootstrap: x", spoken::sasl_plaintext,
       "h:1: the broker wants credentials at this port: set kafka.properties.security.protocol to "
       "SASL_PLAINTEXT,"},
      {"sasl_plaintext://h:1/bootstrap: x", spoken::plaintext,
       "h:1: the broker takes no credentials at this port: set kafka.properties.security.protocol to "
       "PLAINTEXT,"},
      {"ssl://h:1/bootstrap: x", spoken::tls, ""},
      {"sasl_ssl://h:1/bootstrap: x", spoken::tls, ""},
      {"h:1/bootstrap: x", spoken::plaintext, ""},
      {"sasl_plaintext://h:1/bootstrap: x", spoken::sasl_plaintext, ""},
      {"ssl://h:1/bootstrap: x", spoken::unknown, ""},
      {"h:1/bootstrap: x", spoken::unknown, ""},
  };
  for (const auto& c : table) {
    const std::string text = mismatch(c.complaint, c.there);
    EXPECT_EQ(text.empty(), *c.says == '\0') << c.complaint << ": " << text;
    EXPECT_TRUE(text.starts_with(c.says)) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

constexpr auto up = R"({"name":"x","brokers":{"a":{"state":"DOWN"},"b":{"nodeid":1,"state":"UP"}}})";
constexpr auto down = R"({"name":"x","brokers":{"a":{"state":"DOWN"}},"cgrp":{"state":"up"}})";

void expect(const link_monitor& m, bool is_up, bool fatal, const std::string& reason) {
  const auto s = m.status();
  EXPECT_EQ(s.up, is_up);
  EXPECT_EQ(s.fatal, fatal);
  EXPECT_EQ(s.reason, reason);
}

TEST(LinkMonitor, SaysWhyBrokersAreGoneAndWhenTheyAreBack) {
  link_monitor m;
  expect(m, false, false, "");
  m.statistics(up);
  expect(m, true, false, "");
  m.error(RD_KAFKA_RESP_ERR__TRANSPORT, "h:1/1: Disconnected (after 9ms in state UP)");
  expect(m, true, false, "");  // one of several
  m.error(RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "2/2 brokers are down");
  expect(m, false, false, "h:1: Disconnected");
  m.error(RD_KAFKA_RESP_ERR__TRANSPORT, "h:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused");
  expect(m, false, false, "h:1: Connection refused");
  m.accepted();  // records fetched before
  expect(m, false, false, "h:1: Connection refused");
  m.statistics(up);
  expect(m, true, false, "");
  m.statistics(down);  // between two connections
  expect(m, true, false, "");
  m.statistics(down);
  expect(m, false, false, "");
  m.works();
  expect(m, true, false, "");
}

TEST(LinkMonitor, IsLetInWithItsGroupOrProducerIdAndStaysSo) {
  constexpr auto connected = R"({"brokers":{"h:1/1":{"state":"UP"}})";
  const auto with = [&](const char* more) { return std::string(connected) + more; };
  for (const char* given : {R"(, "cgrp": { "state": "up", "stateage": 1 }})",
                            R"(, "eos": { "idemp_state": "Assigned", "idemp_stateage": 1 }})"}) {
    link_monitor m;
    m.statistics(with("}"));  // connections alone do not count
    m.statistics(with(R"(, "cgrp": { "state": "query-coord" }})"));
    m.statistics(with(R"(, "eos": { "idemp_state": "WaitPID" }})"));
    EXPECT_TRUE(m.status().up);
    EXPECT_FALSE(m.status().let_in);
    m.statistics(with(given));
    EXPECT_TRUE(m.status().let_in);
    m.error(RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "1/1 brokers are down");
    EXPECT_FALSE(m.status().up);
    EXPECT_TRUE(m.status().let_in);
  }
  link_monitor refused;
  refused.error(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "t: no");
  EXPECT_EQ(refused.status().reason, "t: no");
  refused.statistics(with(R"(, "cgrp": { "state": "up" }})"));
  EXPECT_FALSE(refused.status().let_in);
  refused.works();
  EXPECT_TRUE(refused.status().let_in);
  link_monitor absent;  // the topic may come by itself
  absent.error(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "t: not there");
  absent.statistics(with(R"(, "cgrp": { "state": "up" }})"));
  EXPECT_TRUE(absent.status().let_in);
}

TEST(ClusterWatch, OnlyWhoNeitherHasNorTriesAConnectionNeedsAddresses) {
  using need = cluster_watch::need;
  const auto statistics = [](const char* state, int connects) {
    return R"({"brokers":{"h:1/1":{"nodename":"h:1","state":")" + std::string(state) + R"(","connects":)" +
           std::to_string(connects) + R"(},":0/internal":{"nodename":":0","state":"INIT","connects":0}}})";
  };
  cluster_watch w;
  for (int i = 0; i < 30; ++i) EXPECT_EQ(w.look(statistics("UP", 1)), need::nothing) << i;
  for (int i = 0; i < 30; ++i) EXPECT_EQ(w.look(statistics("TRY_CONNECT", 2 + i)), need::nothing) << i;
  for (int i = 1; i <= 31; ++i)
    EXPECT_EQ(w.look(statistics("INIT", 40)) == need::addresses, i > 1 && (i - 1) % 10 == 0) << i;
  EXPECT_EQ(w.look(statistics("UP", 41)), need::nothing);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(w.look(statistics("INIT", 41)), need::nothing) << i;
  EXPECT_EQ(w.look(statistics("INIT", 41)), need::addresses);
}

TEST(ClusterWatch, TriesWithoutAnAddressAreNone) {
  using need = cluster_watch::need;
  const auto statistics = [](const char* node, int connects) {
    return R"({"brokers":{"h:1/1":{"nodename":"h:1","state":"INIT","connects":1},"GroupCoordinator":{"nodename":")" +
           std::string(node) + R"(","state":"TRY_CONNECT","connects":)" + std::to_string(connects) + "}}}";
  };
  cluster_watch w;
  for (int i = 0; i < 30; ++i) EXPECT_EQ(w.look(statistics("h:1", i)), need::nothing) << i;
  EXPECT_EQ(w.look(statistics("h:1", 30)), need::nothing);
  for (int i = 1; i <= 30; ++i)
    EXPECT_EQ(w.look(statistics("", 30 + i)) == need::addresses, i > 1 && (i - 1) % 10 == 0) << i;
}

TEST(ClusterWatch, APartitionWithoutALeaderForLongNeedsOne) {
  using need = cluster_watch::need;
  const auto statistics = [](const char* state, int leader) {
    return R"({"brokers":{"h:1/1":{"state":")" + std::string(state) +
           R"(","connects":1,"toppars":{"t-0":{"topic":"t","partition":-1}}}},"topics":{"t":{"partitions":{)"
           R"("0":{"partition":0,"broker":1,"leader":)" +
           std::to_string(leader) +
           R"(,"desired":true},"-1":{"partition":-1,"broker":-1,"leader":-1,)"
           R"("desired":false}}}}})";
  };
  cluster_watch w;
  for (int i = 0; i < 30; ++i) EXPECT_EQ(w.look(statistics("UP", 1)), need::nothing) << i;
  for (int i = 1; i <= 30; ++i) EXPECT_EQ(w.look(statistics("UP", -1)) == need::leaders, i % 10 == 0) << i;
  for (int i = 0; i < 9; ++i) EXPECT_EQ(w.look(statistics("UP", -1)), need::nothing) << i;
  EXPECT_EQ(w.look(statistics("UP", 1)), need::nothing);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(w.look(statistics("UP", -1)), need::nothing) << i;
}

TEST(LinkMonitor, RefusedCredentialsAreFatalUntilTheyHaveWorked) {
  for (const int code :
       {RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR__SSL,
        RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM, RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED}) {
    link_monitor m;
    const std::string why = judge(code, "h:1/bootstrap: no").text;
    m.error(code, "h:1/bootstrap: no");
    m.error(RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "1/1 brokers are down");
    expect(m, false, true, why);
    EXPECT_TRUE(m.status().refused);
    m.statistics(up);
    expect(m, true, false, "");
    m.error(code, "h:1/bootstrap: no");
    m.error(RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "1/1 brokers are down");
    expect(m, false, false, why);
    EXPECT_FALSE(m.status().refused);
  }
}

constexpr auto cut_handshake =
    "ssl://h:1/bootstrap: Disconnected: SSL connection closed by peer (after 5ms in state SSL_HANDSHAKE)";

TEST(LinkMonitor, AListenerOfAnotherKindIsFatal) {
  std::promise<void> asked;
  link_monitor m([&](const std::string& address) {
    EXPECT_EQ(address, "h:1");
    asked.set_value();
    return spoken::plaintext;
  });
  m.error(RD_KAFKA_RESP_ERR__TRANSPORT, cut_handshake);
  asked.get_future().wait();
  EXPECT_TRUE(test::eventually([&] { return m.status().refused; }));
  const std::string why = mismatch(cut_handshake, spoken::plaintext);
  expect(m, false, true, why);
  m.error(RD_KAFKA_RESP_ERR__TRANSPORT, cut_handshake);  // what follows from it
  m.error(RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "1/1 brokers are down");
  expect(m, false, true, why);
  m.statistics(up);  // another broker
  expect(m, true, false, "");
  EXPECT_FALSE(m.status().refused);
}

TEST(LinkMonitor, ABrokerThatOnlyGoesIsNotFatal) {
  for (const auto there : {spoken::unknown, spoken::tls}) {
    std::atomic<int> asked = 0;
    {
      link_monitor m([&](const std::string&) {
        ++asked;
        return there;
      });
      for (int n = 1; n <= 3; ++n) {  // one question at a time
        m.error(RD_KAFKA_RESP_ERR__TRANSPORT, cut_handshake);
        EXPECT_TRUE(test::eventually([&] {
          m.error(RD_KAFKA_RESP_ERR__TRANSPORT, cut_handshake);
          return asked >= n;
        }));
        EXPECT_FALSE(m.status().fatal);
      }
      m.error(RD_KAFKA_RESP_ERR__TRANSPORT,
              "ssl://h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused");
      expect(m, false, false, "h:1: Connection refused");
    }
    EXPECT_GE(asked, 3);
  }
}

TEST(LinkMonitor, LearnsOfEndedConnectionsFromTheLog) {
  link_monitor m([](const std::string& address) {
    EXPECT_EQ(address, "h:1");
    return spoken::tls;
  });
  constexpr auto line =
      "[thrd:h:1/bootstrap]: h:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN: "
      "requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a "
      "SSL "
      "listener?) or broker version is < 0.10 (see api.version.request) (after 2ms in state "
      "APIVERSION_QUERY)";
  m.log(6, "CONFWARN", line);
  m.log(3, "FAIL", line);  // comes as an error, too
  expect(m, false, false, "");
  m.log(6, "FAIL", line);
  EXPECT_TRUE(test::eventually([&] { return m.status().refused; }));
  expect(m, false, true, mismatch("h:1/bootstrap: x", spoken::tls));
}

TEST(LinkMonitor, WhoWasLetInOnceAsksNobody) {
  std::atomic<int> asked = 0;
  {
    link_monitor m([&](const std::string&) {
      ++asked;
      return spoken::plaintext;
    });
    m.statistics(up);
    m.error(RD_KAFKA_RESP_ERR__TRANSPORT, cut_handshake);
    m.error(RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "1/1 brokers are down");
    EXPECT_FALSE(m.status().fatal);
  }  // waits for a question under way
  EXPECT_EQ(asked, 0);
}

TEST(LinkMonitor, AConnectionIsNotLetInBeforeItsCredentials) {
  link_monitor m([](const std::string&) { return spoken::sasl_plaintext; });
  m.error(
      RD_KAFKA_RESP_ERR__TRANSPORT,
      "h:1/1: Disconnected: verify that security.protocol is correctly configured, broker might require SASL "
      "authentication (after 3ms in state UP)");
  EXPECT_TRUE(test::eventually([&] { return m.status().refused; }));
  m.statistics(up);  // for a moment, again and again
  EXPECT_TRUE(m.status().refused);
  EXPECT_NE(m.status().reason.find("wants credentials"), std::string::npos) << m.status().reason;
  m.works();
  expect(m, true, false, "");
}

TEST(LinkMonitor, ARefusedTopicStaysRefusedWhileBrokersAnswer) {
  link_monitor m;
  m.statistics(up);
  m.error(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "t: unknown");
  m.statistics(up);
  expect(m, false, false, "t: unknown");
  m.accepted();
  expect(m, true, false, "");
  m.error(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "t: not yours");
  expect(m, false, true, "t: not yours");
  m.works();
  expect(m, true, false, "");
}

TEST(LinkMonitor, EachRefusedTopicIsTold) {
  link_monitor m;
  m.statistics(up);
  m.error(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "a: unknown", "a");
  m.error(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "b: not yours", "b");
  m.error(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "a: still unknown", "a");
  expect(m, false, true, "a: still unknown");
  EXPECT_EQ(m.status().more, std::vector<std::string>{"b: not yours"});
  m.delivered("a");
  expect(m, false, true, "b: not yours");
  EXPECT_TRUE(m.status().more.empty());
  m.delivered("b");
  expect(m, true, false, "");
}

TEST(LinkMonitor, ABrokenClientStaysBroken) {
  link_monitor m;
  m.broken("out of sequence");
  m.statistics(up);
  m.works();
  expect(m, false, true, "out of sequence");
}

template <class F>
std::string refusal(F make) {
  try {
    make();
  } catch (const property_error& e) {
    return e.what();
  }
  return "";
}

TEST(Properties, WrongOnesAreNamed) {
  const std::pair<properties, const char*> table[] = {
      {{{"no.such.property", "1"}}, "kafka.properties.no.such.property: librdkafka "},
      {{{"security.protocol", "carrier pigeon"}}, "kafka.properties.security.protocol: "},
      {{{"bootstrap.servers", "x"}}, "kafka.properties.bootstrap.servers: set kafka.brokers"},
      {{{"group.id", "x"}}, "kafka.properties.group.id: set kafka.group"},
      {{{"enable.auto.commit", "false"}}, "kafka.properties.enable.auto.commit: "},
      {{{"enable.auto.offset.store", "true"}}, "kafka.properties.enable.auto.offset.store: "},
      {{{"delivery.report.only.error", "true"}}, "kafka.properties.delivery.report.only.error: "},
      {{{"transactional.id", "x"}}, "kafka.properties.transactional.id: set kafka.delivery"},
      {{{"transaction.timeout.ms", "9"}}, "kafka.properties.transaction.timeout.ms: set kafka.transaction_"},
      {{{"group.instance.id", "x"}}, "kafka.properties.group.instance.id: set kafka.instance_id"},
      {{{"metadata.broker.list", "x"}}, "kafka.properties.metadata.broker.list: set kafka.brokers"},
      {{{"auto.commit.enable", "false"}}, "kafka.properties.auto.commit.enable: "},
      {{{"auto.commit.interval.ms", "0"}}, "kafka.properties.auto.commit.interval.ms: 0 commits nothing"},
      {{{"statistics.interval.ms", "0"}}, "kafka.properties.statistics.interval.ms: "},
      {{{"enabled_events", "0"}}, "kafka.properties.enabled_events: "},
      {{{"log.queue", "true"}}, "kafka.properties.log.queue: "},
      {{{"dr_msg_cb", "x"}}, "kafka.properties.dr_msg_cb: is no setting, but a function or an object within"},
      {{{"interceptors", "x"}}, "kafka.properties.interceptors: is no setting, but a function or an object"},
  };
  for (const auto& [own, expected] : table) {
    source_options in;
    in.brokers = "127.0.0.1:1", in.group = "g", in.topic = "t", in.own = own;
    sink_options out;
    out.brokers = "127.0.0.1:1", out.results_topic = "r", out.dead_letter_topic = "d", out.own = own;
    EXPECT_TRUE(refusal([&] { static_cast<void>(make_librdkafka_source(in)); }).starts_with(expected));
    EXPECT_TRUE(refusal([&] { static_cast<void>(make_librdkafka_sink(out)); }).starts_with(expected));
    EXPECT_TRUE(refusal([&] { admin(in.brokers, own); }).starts_with(expected));
  }
}

TEST(Properties, AreNamedAsTheyWereGivenWithWhatTheyMayBe) {
  const std::pair<properties, const char*> table[] = {
      {{{"linger.ms", "x"}}, "kafka.properties.linger.ms: 'x' is not allowed; expected 0 to 900000"},
      {{{"linger.ms", "5s"}}, "kafka.properties.linger.ms: '5s' is not allowed; expected 0 to 900000"},
      {{{"linger.ms", ""}}, "kafka.properties.linger.ms: '' is not allowed; expected 0 to 900000"},
      {{{"linger.ms", "0.5"}}, ""},
      {{{"retries", "99999999999"}},
       "kafka.properties.retries: '99999999999' is not allowed; expected 0 to 2147483647"},
      {{{"message.max.bytes", "10MB"}},
       "kafka.properties.message.max.bytes: '10MB' is not allowed; expected 1000 to 1000000000"},
      {{{"delivery.timeout.ms", "-5"}},
       "kafka.properties.delivery.timeout.ms: '-5' is not allowed; expected 0 to 2147483647"},
      {{{"acks", "two"}}, "kafka.properties.acks: 'two' is not allowed; expected all, or -1 to 1000"},
      {{{"acks", "all"}}, ""},
      {{{"compression.type", "zip"}},
       "kafka.properties.compression.type: 'zip' is not allowed; expected none, gzip, snappy, lz4 or zstd"},
      {{{"socket.keepalive.enable", "maybe"}},
       "kafka.properties.socket.keepalive.enable: 'maybe' is not allowed; expected true or false"},
      {{{"partitioner", "by\nchance"}},
       "kafka.properties.partitioner: 'by chance' is not allowed; expected random, consistent, "},
      {{{"socket_cb", "5"}}, "kafka.properties.socket_cb: "},
      {{{"lingr.ms", "5"}}, "kafka.properties.lingr.ms: librdkafka "},
  };
  for (const auto& [own, expected] : table) {
    const std::string said = refusal([&] { check_properties(own); });
    EXPECT_EQ(said.empty(), *expected == '\0') << said;
    EXPECT_TRUE(said.starts_with(expected)) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
  EXPECT_TRUE(refusal([&] {
                check_properties({{"lingr.ms", "5"}});
              }).ends_with(" has no such property; did you mean 'linger.ms'?"));
}

TEST(Properties, WhatDoesNotGoWithTheRestIsNamedBeforeAnyBrokerIsAsked) {
  struct row {
    properties own;
    const char* expected;
    bool of_source;
    bool transactional = false;
  };
  const row table[] = {
      {{{"acks", "1"}},
       "kafka.properties.acks: '1' is not allowed: acks must be set to all when enable.idempotence is true; "
       "correct or remove it",
       false},
      {{{"max.in.flight.requests.per.connection", "9"}},
       "kafka.properties.max.in.flight.requests.per.connection: '9' is not allowed: "
       "max.in.flight.requests.per.connection must be set <= 5 when",
       false},
      {{{"delivery.timeout.ms", "30000"}},
       "kafka.properties.delivery.timeout.ms: '30000' is not allowed: delivery.timeout.ms must be set <= "
       "transaction.timeout.ms; correct or remove it, or set kafka.transaction_timeout too "
       "(transaction.timeout.ms is 10000)",
       false,
       true},
      {{{"delivery.timeout.ms", "30000"}}, "", false},
      {{{"message.max.bytes", "10000000"}},
       "kafka.properties.message.max.bytes: '10000000' is not allowed: fetch.max.bytes must be >= "
       "message.max.bytes; correct or remove it, or set kafka.properties.fetch.max.bytes too "
       "(fetch.max.bytes is 8388608)",
       true},
      {{{"message.max.bytes", "10000000"}, {"fetch.max.bytes", "20000000"}}, "", true},
      {{{"partition.assignment.strategy", "mine"}},
       "kafka.properties.partition.assignment.strategy: 'mine' is not allowed: Unsupported "
       "partition.assignment.strategy: mine; correct or remove it",
       true},
      {{{"reconnect.backoff.ms", "20000"}}, "kafka.properties.reconnect.backoff.ms: '20000' is", true},
      // Files are looked for by who connects.
      {{{"security.protocol", "ssl"}, {"ssl.ca.location", "/no/such.pem"}}, "", true},
      {{}, "", true},
      {{}, "", false},
      {{}, "", false, true},
  };
  for (const auto& r : table) {
    const std::string said = refusal([&] {
      if (r.of_source) {
        source_options in;
        in.brokers = "127.0.0.1:1", in.group = "g", in.topic = "t", in.own = r.own;
        check_librdkafka_source(in);
      } else {
        sink_options out;
        out.brokers = "127.0.0.1:1", out.results_topic = "r", out.dead_letter_topic = "d", out.own = r.own;
        if (r.transactional) out.transactional_id = "x";
        check_librdkafka_sink(out);
      }
    });
    EXPECT_EQ(said.empty(), *r.expected == '\0') << said;
    EXPECT_TRUE(said.starts_with(r.expected)) << said;
  }
}

TEST(Properties, SaslNeedsAMechanismAndWhatThatNeeds) {
  const std::pair<properties, const char*> table[] = {
      {{{"security.protocol", "SASL_PLAINTEXT"}},
       "kafka.properties.sasl.mechanisms: security.protocol is SASL_PLAINTEXT, so it has to be named: PLAIN"},
      {{{"security.protocol", "sasl_ssl"}, {"sasl.username", "u"}, {"sasl.password", "p"}},
       "kafka.properties.sasl.mechanisms: security.protocol is SASL_SSL, so it has to be named: PLAIN"},
      {{{"security.protocol", "SASL_SSL"}, {"sasl.mechanism", "CARRIER-PIGEON"}},
       "kafka.properties.sasl.mechanism: this build has no 'CARRIER-PIGEON'; take PLAIN"},
      {{{"security.protocol", "SASL_SSL"}, {"sasl.mechanism", "PLAIN"}},
       "kafka.properties.sasl.username: needed for sasl.mechanism PLAIN"},
      {{{"security.protocol", "SASL_SSL"}, {"sasl.mechanisms", "PLAIN"}, {"sasl.username", "u"}},
       "kafka.properties.sasl.password: needed for sasl.mechanisms PLAIN"},
      {{{"security.protocol", "SASL_SSL"},
        {"sasl.mechanism", "PLAIN"},
        {"sasl.username", "u"},
        {"sasl.password", "p"}},
       ""},
      {{{"security.protocol", "SSL"}}, ""},
      {{{"sasl.username", "u"}}, ""},
  };
  for (const auto& [own, expected] : table) {
    const std::string said = refusal([&] { check_properties(own); });
    EXPECT_EQ(said.empty(), *expected == '\0') << said;
    EXPECT_TRUE(said.starts_with(expected)) << said;
    EXPECT_EQ(said.find("recompile"), std::string::npos) << said;
  }
}

TEST(Properties, AFileThatCantBeUsedIsNamed) {
  const std::string not_pem = testing::TempDir() + "not_pem";
  std::ofstream(not_pem) << "nothing\n";
  for (const std::string name :
       {"ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.crl.location"}) {
    const std::string key = "kafka.properties." + name + ": '";
    for (const auto& [path, why] :
         {std::pair<std::string, std::string>{"/no/such.pem", "No such file or directory"},
          {not_pem, "holds no "}}) {
      const properties own = {{"security.protocol", "SSL"}, {name, path}};
      const std::string said = refusal([&] { admin("127.0.0.1:1", own); });
      EXPECT_TRUE(said.starts_with(key + path + "': " + why)) << said;
      EXPECT_EQ(said.find('\n'), std::string::npos) << said;
    }
  }
}

TEST(Properties, EachClientTakesItsOwnAndNoneWarns) {
  const properties own = {{"linger.ms", "3"},        {"compression.type", "lz4"},
                          {"fetch.min.bytes", "10"}, {"session.timeout.ms", "9000"},
                          {"client.id", "mine"},     {"acks", "all"}};
  std::vector<std::string> lines;
  auto log = [&](int, const std::string&, const std::string& line) { lines.push_back(line); };
  source_options in;
  in.brokers = "127.0.0.1:1", in.group = "g", in.topic = "t", in.own = own, in.log = log;
  sink_options out;
  out.brokers = "127.0.0.1:1", out.results_topic = "r", out.dead_letter_topic = "d", out.own = own,
  out.log = log;
  {
    const auto source = make_librdkafka_source(in);
    const auto sink = make_librdkafka_sink(out);
    std::vector<delivery_report> none;
    sink->reports(none, 1);
  }
  for (const auto& line : lines) EXPECT_EQ(line.find("Configuration property"), std::string::npos) << line;
}

TEST(Properties, ATopicNameThatCantBeIsNamed) {
  sink_options out;
  out.brokers = "127.0.0.1:1", out.results_topic = "r", out.dead_letter_topic = std::string(600, 'x');
  EXPECT_TRUE(refusal([&] { static_cast<void>(make_librdkafka_sink(out)); }).starts_with("Kafka topic 'xxx"));
}

TEST(Properties, TheNewGroupProtocolIsLeftToTheBroker) {
  source_options in;
  in.brokers = "127.0.0.1:1", in.group = "g", in.topic = "t", in.own = {{"group.protocol", "consumer"}};
  EXPECT_EQ(refusal([&] { static_cast<void>(make_librdkafka_source(in)); }), "");
}

}  // namespace
}  // namespace troupe::kafka
