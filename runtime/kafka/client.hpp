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
#include <thread>
#include <utility>
#include <vector>

#include "runtime/kafka/listener.hpp"
#include "runtime/kafka/record_source.hpp"

struct rd_kafka_conf_s;
struct rd_kafka_s;
struct sockaddr;

namespace troupe::policy {
class socket_watch;
}

namespace troupe::kafka {

/// A property that librdkafka does not know or refuses, or that Troupe keeps for itself: one line that names
/// it as it was given.
struct property_error : std::runtime_error {
  explicit property_error(const std::string& text) : std::runtime_error(text) {}
  property_error(const std::string& name, const std::string& text, std::string because_of = {})
      : std::runtime_error("kafka.properties." + name + ": " + text),
        given(because_of.empty() ? name : std::move(because_of)) {}
  /// The property that somebody gave and has to change; empty: it is none.
  std::string given;
};

/// Level as in syslog (3 error, 4 warning, 6 info, 7 debug), librdkafka's facility, text. Called from any
/// thread; lines repeat as long as their cause does, so the receiver bounds the rate.
using log_function = std::function<void(int level, const std::string& facility, const std::string& text)>;
using properties = std::map<std::string, std::string>;
/// Told once that a client never works again, and why, in one line. `fenced`: another process has its
/// group.instance.id. On a thread that serves the client.
using broken_function = std::function<void(bool fenced, const std::string& why)>;

enum class client_kind { consumer, producer };

/// Throws property_error.
void set_property(rd_kafka_conf_s* conf, const std::string& name, const std::string& value);

/// The user's own properties, which win over ours; those of the other kind of client are skipped. Throws
/// property_error, also for a property on which the delivery guarantee rests. Refused certificates are noted
/// for judge().
void set_properties(rd_kafka_conf_s* conf, const properties& own, client_kind kind);

/// What set_properties has against one of them for itself, without its name; empty: nothing.
[[nodiscard]] std::string property_fault(const std::string& name, const std::string& value);

/// What set_properties would throw, and what is missing for SASL, before there is any client. Throws
/// property_error.
void check_properties(const properties& own);

/// Of these, those that have nothing to do with who is connected to and how: what is left can be tried by
/// making a client that connects to nobody.
[[nodiscard]] properties without_connection(const properties& own);

/// The client, which now owns `conf`. Throws property_error: one line that names the property and, where it
/// is one, the file. `who` ("Kafka producer") is for what names none.
[[nodiscard]] rd_kafka_s* make_client(client_kind kind, rd_kafka_conf_s* conf, const properties& own,
                                      const std::string& who);

/// Makes a client of what `configure` sets, and ends it: what of `own` does not go with the rest is found
/// out so. It should have no brokers to connect to. Throws property_error.
void check_client(client_kind kind, const properties& own,
                  const std::function<void(rd_kafka_conf_s*)>& configure);

/// A complaint without what only librdkafka's authors need:
/// "127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state
/// CONNECT)" reads "127.0.0.1:9092: Connection refused".
[[nodiscard]] std::string plain_reason(std::string_view complaint);

/// The complaint in a line of librdkafka's log about a connection that ended, of which the error callback is
/// not told; empty: the line is another one.
[[nodiscard]] std::string_view complaint_in(int level, std::string_view facility, std::string_view line);

/// What a complaint about a connection comes to.
struct verdict {
  std::string text;      ///< one line, without what only librdkafka's authors need; with the option and the
                         ///< remedy where it is known
  bool refused = false;  ///< our credentials, or the broker's certificate: waiting is in vain
  bool away = false;     ///< no connection came about: nothing listens there, or the name is not known
  /// Not empty: the broker at this host:port ended the connection before it said anything. It may be going,
  /// or speak something else than we do; spoken_at() and mismatch() tell.
  std::string doubt;
};
/// `code` is librdkafka's. Which certificate was refused for what is remembered for the process, by address,
/// because librdkafka's own words are the same for all of them.
[[nodiscard]] verdict judge(int code, std::string_view complaint);

/// Why a connection that ended with this complaint can never succeed, since the listener speaks that: one
/// line like a verdict's. Empty: it may.
[[nodiscard]] std::string mismatch(std::string_view complaint, spoken there);

/// What OpenSSL found wrong with the certificate of the broker at host:port (X509_V_ERR_...).
void note_certificate(std::string_view address, int error);

/// A broker refuses us, or we refuse it. The text is a verdict's.
struct link_refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// No broker answers. The text is a verdict's.
struct no_broker : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What librdkafka's connect callback does where somebody watches its sockets: 0, or an errno.
[[nodiscard]] int connect_watched(policy::socket_watch& watch, int fd, const sockaddr* to, int size);
/// The same of its close callback.
int close_watched(policy::socket_watch& watch, int fd);

/// Finds out when librdkafka does not go on by itself. A cluster whose brokers are all fenced (the only one
/// was away for longer than broker.session.timeout.ms, and has just come back) answers that it has none, and
/// that its partitions have no leaders. librdkafka (2.14.2) then may drop every broker that it knew and
/// connect to nobody any more, or keep them and only wait for a coordinator whose address it forgot, or
/// connect again and not ask who leads its partitions until their metadata is minutes old.
class cluster_watch {
 public:
  enum class need : std::uint8_t { nothing, addresses, leaders };
  /// One of the statistics, as JSON. `addresses`, every tenth time in a row that no broker is connected and
  /// no connection to an address was tried since the one before: rd_kafka_brokers_add() ends that.
  /// `leaders`, every tenth time in a row that a partition has no leader: rd_kafka_metadata() does.
  [[nodiscard]] need look(std::string_view statistics);

 private:
  int missed_ = 0;
  int leaderless_ = 0;
  std::uint64_t tried_ = 0;
};

/// Does what a cluster_watch finds to be needed, for one client.
class client_rescue {
 public:
  explicit client_rescue(std::string brokers) : brokers_(std::move(brokers)) {}
  ~client_rescue() { stop(); }
  client_rescue(const client_rescue&) = delete;
  client_rescue& operator=(const client_rescue&) = delete;

  /// On the thread that serves the client, with each of its statistics; does not block. What was done is
  /// said.
  void statistics(rd_kafka_s* client, std::string_view json, const log_function& log);
  /// Before the client is destroyed: waits for a question that is under way, 3 s at most.
  void stop();

 private:
  std::string brokers_;
  cluster_watch watch_;
  std::thread asks_;
  std::atomic<bool> asking_{false};
  bool stopped_ = false;
};

/// The link_status of one client, from what librdkafka reports. Thread safe.
///
/// Up and down come from two sources, because neither is enough: errors say at once why brokers are gone, but
/// nothing tells of a connection that came back on an idle client; the statistics (one a second) do.
///
/// Until a broker has let us in once, a listener that ends our connections before it says anything is asked
/// what it speaks (`ask`; empty: it is not), on a thread of its own: one that speaks something else than we
/// do refuses us as wrong credentials do.
class link_monitor {
 public:
  explicit link_monitor(listener_question ask = {}) : ask_(std::move(ask)) {}
  ~link_monitor();
  link_monitor(const link_monitor&) = delete;
  link_monitor& operator=(const link_monitor&) = delete;

  /// A code of the error callback, or of a record. `topic`: the one that it is about; empty: not known.
  void error(int code, std::string_view complaint, std::string_view topic = {});
  /// A line of the log.
  void log(int level, std::string_view facility, std::string_view line);
  /// A fatal error of the client (rd_kafka_fatal_error): it never works again.
  void broken(std::string_view complaint);
  /// librdkafka's statistics, as JSON.
  void statistics(std::string_view json);
  /// The cluster has just given an assignment.
  void works();
  /// It has confirmed a delivery to the topic.
  void delivered(std::string_view topic);
  /// Records of the topic came, maybe fetched a while ago: says nothing of the connection, but no refusal
  /// holds.
  void accepted();
  [[nodiscard]] link_status status() const;

 private:
  /// Brokers answer, but refuse a topic or the group.
  struct refusal {
    std::string topic;  // empty: not known
    std::string text;
    bool hopeless;
  };

  void refuse(std::string_view topic, std::string_view text, bool hopeless);
  void up();
  void update();
  void inquire(std::string_view complaint, const std::string& address);

  const listener_question ask_;
  std::thread asks_;
  bool asking_ = false;
  bool wants_credentials_ = false;  // its listener; connections to it are up before it asks for them
  mutable std::mutex mutex_;
  std::atomic<bool> healthy_{false};  // the common case of works() and accepted(), without the lock
  bool connected_ = false;
  bool ever_connected_ = false;
  bool let_in_ = false;
  bool hopeless_ = false;  // credentials or certificates, and no broker has ever accepted them
  int missed_ = 0;         // statistics in a row without a connected broker
  std::string why_;        // the last complaint about a connection
  std::vector<refusal> refusals_;
  std::string broken_;
};

}  // namespace troupe::kafka
