#pragma once
// What source, sink and admin share: making a librdkafka configuration, and turning its complaints into a
// link_status.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>

#include "runtime/kafka/record_source.hpp"

struct rd_kafka_conf_s;

namespace troupe::kafka {

/// A property that librdkafka does not know or refuses, or that Troupe keeps for itself: one line that names
/// it.
struct property_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Level as in syslog (3 error, 4 warning, 6 info, 7 debug), librdkafka's facility, text. Called from any
/// thread; lines repeat as long as their cause does, so the receiver bounds the rate.
using log_function = std::function<void(int level, const std::string& facility, const std::string& text)>;
using properties = std::map<std::string, std::string>;

enum class client_kind { consumer, producer };

/// Throws property_error.
void set_property(rd_kafka_conf_s* conf, const std::string& name, const std::string& value);

/// The user's own properties, which win over ours; those of the other kind of client are skipped. Throws
/// property_error, also for a property on which the delivery guarantee rests.
void set_properties(rd_kafka_conf_s* conf, const properties& own, client_kind kind);

/// What set_properties would throw, before there is any client.
void check_properties(const properties& own);

/// A complaint without what only librdkafka's authors need:
/// "127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state
/// CONNECT)" reads "127.0.0.1:9092: Connection refused".
[[nodiscard]] std::string plain_reason(std::string_view complaint);

/// Finds out when librdkafka has forgotten whom to ask. A cluster whose brokers are all fenced (the only one
/// was away for longer than broker.session.timeout.ms, and has just come back) answers that it has none;
/// librdkafka (2.14.2) then drops the brokers that it knew, those it was configured with among them, and
/// connects to nobody any more. rd_kafka_brokers_add() with the same addresses ends that.
class address_watch {
 public:
  /// One of the statistics, as JSON. True every tenth time in a row that no broker is connected and no
  /// connection was tried since the one before: the addresses are to be given again.
  [[nodiscard]] bool forgotten(std::string_view statistics);

 private:
  int missed_ = 0;
  std::uint64_t tried_ = 0;
};

/// The link_status of one client, from what librdkafka reports. Thread safe.
///
/// Up and down come from two sources, because neither is enough: errors say at once why brokers are gone, but
/// nothing tells of a connection that came back on an idle client; the statistics (one a second) do.
class link_monitor {
 public:
  /// A code of the error callback, or of a record.
  void error(int code, std::string_view complaint);
  /// A fatal error of the client (rd_kafka_fatal_error): it never works again.
  void broken(std::string_view complaint);
  /// librdkafka's statistics, as JSON.
  void statistics(std::string_view json);
  /// The cluster has just given an assignment or confirmed a delivery.
  void works();
  /// Records of the topic came, maybe fetched a while ago: says nothing of the connection, but no refusal
  /// holds.
  void accepted();
  [[nodiscard]] link_status status() const;

 private:
  void update();

  mutable std::mutex mutex_;
  std::atomic<bool> healthy_{false};  // the common case of works() and accepted(), without the lock
  bool connected_ = false;
  bool ever_connected_ = false;
  bool hopeless_ = false;  // credentials or certificates, and no broker has ever accepted them
  bool refusal_hopeless_ = false;
  int missed_ = 0;       // statistics in a row without a connected broker
  std::string why_;      // the last complaint about a connection
  std::string refusal_;  // brokers answer, but refuse the topic or group
  std::string broken_;
};

}  // namespace troupe::kafka
