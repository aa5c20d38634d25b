#include "runtime/kafka/client.hpp"

#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/x509_vfy.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/kafka/property_table.hpp"
#include "runtime/policy/nearest.hpp"
#include "runtime/policy/socket_watch.hpp"

namespace troupe::kafka {
namespace {

using std::string_view_literals::operator""sv;

// librdkafka accepts all of them on either client, and warns of each that does nothing.
constexpr std::array producer_only = {"acks"sv,
                                      "request.required.acks"sv,
                                      "enable.idempotence"sv,
                                      "enable.gapless.guarantee"sv,
                                      "linger.ms"sv,
                                      "queue.buffering.max.ms"sv,
                                      "batch.size"sv,
                                      "batch.num.messages"sv,
                                      "compression.type"sv,
                                      "compression.codec"sv,
                                      "compression.level"sv,
                                      "queue.buffering.max.messages"sv,
                                      "queue.buffering.max.kbytes"sv,
                                      "queue.buffering.backpressure.threshold"sv,
                                      "message.timeout.ms"sv,
                                      "delivery.timeout.ms"sv,
                                      "partitioner"sv,
                                      "request.timeout.ms"sv,
                                      "message.send.max.retries"sv,
                                      "retries"sv,
                                      "sticky.partitioning.linger.ms"sv,
                                      "msg_order_cmp"sv,
                                      "queuing.strategy"sv};

constexpr std::array consumer_only = {"group.instance.id"sv,
                                      "group.protocol"sv,
                                      "group.remote.assignor"sv,
                                      "group.protocol.type"sv,
                                      "partition.assignment.strategy"sv,
                                      "session.timeout.ms"sv,
                                      "heartbeat.interval.ms"sv,
                                      "max.poll.interval.ms"sv,
                                      "coordinator.query.interval.ms"sv,
                                      "auto.offset.reset"sv,
                                      "auto.commit.interval.ms"sv,
                                      "queued.min.messages"sv,
                                      "queued.max.messages.kbytes"sv,
                                      "fetch.wait.max.ms"sv,
                                      "fetch.queue.backoff.ms"sv,
                                      "fetch.message.max.bytes"sv,
                                      "max.partition.fetch.bytes"sv,
                                      "fetch.max.bytes"sv,
                                      "fetch.min.bytes"sv,
                                      "fetch.error.backoff.ms"sv,
                                      "isolation.level"sv,
                                      "check.crcs"sv,
                                      "enable.partition.eof"sv,
                                      "consume.callback.max.messages"sv};

struct reserved {
  std::string_view name;
  std::string_view remedy;
};
constexpr std::array reserved_names = {
    reserved{"bootstrap.servers", "set kafka.brokers"},
    reserved{"metadata.broker.list", "set kafka.brokers"},
    reserved{"group.id", "set kafka.group"},
    reserved{"group.instance.id", "set kafka.instance_id"},
    reserved{"enable.auto.offset.store", "offsets are stored when answers are delivered; remove it"},
    reserved{"auto.commit.enable", "offsets are committed as answers are delivered; remove it"},
    reserved{"enable.auto.commit", "offsets are committed as answers are delivered; remove it"},
    reserved{"delivery.report.only.error", "offsets wait for delivery reports; remove it"},
    reserved{"transactional.id", "set kafka.delivery and kafka.transactional_id"},
    reserved{"transaction.timeout.ms", "set kafka.transaction_timeout"},
    reserved{"statistics.interval.ms", "connections are watched by them, every second; remove it"},
    reserved{"enabled_events", "offsets wait for delivery reports, which come as events; remove it"},
    reserved{"log.queue", "the library's lines go to the log (log.level); remove it"}};

/// What we speak, which a complaint begins with.
struct channel {
  bool tls;
  bool sasl;
};
channel channel_of(std::string_view complaint) {
  return {complaint.starts_with("ssl://") || complaint.starts_with("sasl_ssl://"),
          complaint.starts_with("sasl_")};
}

/// "host:port" of "sasl_ssl://host:port/id"; empty when it is none.
std::string_view address_of(std::string_view broker) {
  if (const auto scheme = broker.find("://"); scheme != std::string_view::npos)
    broker.remove_prefix(scheme + 3);
  broker = broker.substr(0, broker.rfind('/'));
  const auto port = broker.rfind(':');
  const bool address = port != std::string_view::npos && port + 1 < broker.size() &&
                       broker.find(' ') == std::string_view::npos &&
                       broker.find_first_not_of("0123456789", port + 1) == std::string_view::npos;
  return address ? broker : std::string_view();
}

class certificate_notes {
 public:
  void add(std::string_view address, int error) {
    const std::lock_guard lock(mutex_);
    if (notes_.size() >= most && !notes_.contains(address)) notes_.clear();
    notes_.insert_or_assign(std::string(address), error);
  }
  [[nodiscard]] int of(std::string_view address) const {
    const std::lock_guard lock(mutex_);
    const auto it = notes_.find(address);
    return it == notes_.end() ? X509_V_OK : it->second;
  }

 private:
  static constexpr std::size_t most = 1000;
  mutable std::mutex mutex_;
  std::map<std::string, int, std::less<>> notes_;
};

certificate_notes& certificates() {
  static certificate_notes all;
  return all;
}

/// On the broker's thread, once for each certificate of its chain and for each fault of one.
int certificate_seen(rd_kafka_t*, const char* broker, std::int32_t, int* error, int, const char*, std::size_t,
                     char* text, std::size_t size, void*) {
  if (*error == X509_V_OK) return 1;
  note_certificate(address_of(broker), *error);
  if (size > 0) *text = '\0';
  return 0;
}

std::string certificate_text(int error) {
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "the broker's certificate has expired: renew it there, or correct this machine's clock";
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return "the broker's certificate is not valid yet: correct this machine's clock, or the certificate";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return "the broker's certificate is for another host name: name the broker in kafka.brokers, and the "
             "cluster its advertised.listeners, as the certificate does "
             "(kafka.properties.ssl.endpoint.identification.algorithm=none leaves the name unchecked)";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return "the broker's certificate comes from an authority that is not trusted here: name the "
             "authority's "
             "PEM file in kafka.properties.ssl.ca.location";
    default:
      return "the broker's certificate is not accepted (OpenSSL's error " + std::to_string(error) +
             "): look at it, and at kafka.properties.ssl.ca.location";
  }
}

std::string no_tls_text(bool sasl) {
  return std::string("the broker speaks no TLS at this port: set kafka.properties.security.protocol to ") +
         (sasl ? "SASL_PLAINTEXT" : "PLAINTEXT") + ", or name the port of its TLS listener in kafka.brokers";
}

std::string no_credentials_text(bool tls) {
  return std::string(
             "the broker takes no credentials at this port: set kafka.properties.security.protocol to ") +
         (tls ? "SSL" : "PLAINTEXT") + ", or name the port of its SASL listener in kafka.brokers";
}

std::string only_tls_text(bool sasl) {
  return std::string("the broker speaks only TLS at this port: set kafka.properties.security.protocol to ") +
         (sasl ? "SASL_SSL" : "SSL (SASL_SSL where it wants credentials)") +
         ", or name the port of its listener without TLS in kafka.brokers";
}

std::string credentials_text() {
  return "the broker wants credentials at this port: set kafka.properties.security.protocol to "
         "SASL_PLAINTEXT, and "
         "sasl.mechanisms, sasl.username and sasl.password";
}

/// Behind the address, of a connection that the broker ended; empty: nothing more is known than librdkafka
/// says.
std::string doubtful_text(channel ours, std::string_view words, std::string_view complaint) {
  const auto hint = [&](std::string_view without, const char* guess) {
    return std::string(words.substr(0, words.find(without))) + "; if it is always so, the broker " + guess +
           " at this port: kafka.properties.security.protocol";
  };
  const auto says = [&](std::string_view what) { return complaint.find(what) != std::string_view::npos; };
  if (says("in state UP")) {  // as far as one comes without the credentials that are wanted
    const bool early = says("verify that security.protocol") || says("SSL connection closed by peer");
    return early && !ours.sasl ? hint(": verify that security.protocol", "wants credentials") : std::string();
  }
  if (ours.tls)
    return says("SSL handshake") || says("SSL connection")
               ? hint(": connecting to a PLAINTEXT", "speaks no TLS")
               : std::string();
  return says("connecting to a SSL listener") ? hint(": requesting ApiVersion", "speaks only TLS")
                                              : std::string();
}

/// Behind the address; empty: nothing more is known than librdkafka says.
std::string refusal_text(int code, channel ours, std::string_view address, std::string_view complaint) {
  const auto says = [&](std::string_view what) { return complaint.find(what) != std::string_view::npos; };
  switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
      if (says(rd_kafka_err2str(RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE)) ||
          says("Handshake not supported by broker"))
        return no_credentials_text(ours.tls);
      if (says(rd_kafka_err2str(RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM)))
        return refusal_text(RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM, ours, address, complaint);
      return "the broker refuses the credentials (" + std::string(complaint) +
             "): correct kafka.properties.sasl.username and sasl.password; with kafka.eventhub, "
             "kafka.eventhub_connection";
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
      return "the broker does not take this mechanism (" + std::string(complaint) +
             "): correct kafka.properties.sasl.mechanisms";
    case RD_KAFKA_RESP_ERR__SSL:
      if (says("certificate verify failed")) {
        if (const int error = certificates().of(address); error != X509_V_OK) return certificate_text(error);
        return certificate_text(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
      }
      if (says("wrong version number") || says("packet length too long")) return no_tls_text(ours.sasl);
      if (says("alert"))
        return "the broker ends the TLS handshake; it may want a certificate of ours: "
               "kafka.properties.ssl.certificate.location and ssl.key.location";
      return "";
    default:
      return "";
  }
}

template <class List>
[[nodiscard]] bool in(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

std::string value_of(const properties& own, const std::string& name) {
  const auto at = own.find(name);
  return at == own.end() ? std::string() : at->second;
}

/// librdkafka's list of what it was built with names mechanisms that it does not have; a client does not.
bool has_mechanism(const std::string& name) {
  auto* conf = rd_kafka_conf_new();
  for (const auto& [key, value] : {std::pair{"security.protocol", "sasl_plaintext"},
                                   {"sasl.mechanisms", name.c_str()},
                                   {"sasl.username", "nobody"},
                                   {"sasl.password", "none"}})
    (void)rd_kafka_conf_set(conf, key, value, nullptr, 0);
  rd_kafka_conf_set_log_cb(conf, [](const rd_kafka_t*, int, const char*, const char*) {});
  auto* client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, nullptr, 0);
  if (client)
    rd_kafka_destroy(client);
  else
    rd_kafka_conf_destroy(conf);
  return client != nullptr;
}

/// "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512": those of this build.
std::string mechanisms() {
  std::vector<std::string> all;
  for (const auto* name : {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"})
    if (has_mechanism(name)) all.emplace_back(name);
  std::string text;
  for (std::size_t i = 0; i < all.size(); ++i)
    text += (i == 0 ? "" : i + 1 == all.size() ? " or " : ", ") + all[i];
  return text;
}

/// What SASL needs and does not have. librdkafka takes GSSAPI where no mechanism is named.
void check_sasl(const properties& own) {
  std::string protocol = value_of(own, "security.protocol");
  std::transform(protocol.begin(), protocol.end(), protocol.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  if (!protocol.starts_with("SASL_")) return;
  std::string key = "sasl.mechanisms";  // set after the other one, its older name
  if (value_of(own, key).empty() && !value_of(own, "sasl.mechanism").empty()) key = "sasl.mechanism";
  const std::string mechanism = value_of(own, key);
  if (mechanism.empty())
    throw property_error(key, "security.protocol is " + protocol + ", so it has to be named: " + mechanisms(),
                         "security.protocol");
  if (!has_mechanism(mechanism))
    throw property_error(key, "this build has no '" + mechanism + "'; take " + mechanisms());
  if (mechanism == "OAUTHBEARER") {
    if (value_of(own, "sasl.oauthbearer.method") != "oidc" &&
        value_of(own, "enable.sasl.oauthbearer.unsecure.jwt") != "true")
      throw property_error(
          "sasl.oauthbearer.method",
          "OAUTHBEARER needs tokens: set it to oidc, with sasl.oauthbearer.token.endpoint.url, "
          "sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret",
          key);
    return;
  }
  if (mechanism == "GSSAPI") return;
  for (const auto* name : {"sasl.username", "sasl.password"})
    if (value_of(own, name).empty())
      throw property_error(name, "needed for " + key + " " + mechanism, own.contains(name) ? name : key);
}

/// On one line, its beginning where it is long.
std::string quoted(std::string_view value) {
  constexpr std::size_t most = 80;
  std::string text = "'" + std::string(value.substr(0, most)) + (value.size() > most ? "..." : "") + "'";
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return text;
}

/// Properties in librdkafka's words, which stand there as `linger.ms` or `group.protocol=consumer`.
std::vector<std::string> named_in(std::string_view words) {
  const auto known = property_names();
  std::vector<std::string> names;
  for (auto at = words.find('`'); at != std::string_view::npos;) {
    const auto end = words.find('`', at + 1);
    if (end == std::string_view::npos) break;
    const auto one = words.substr(at + 1, end - at - 1);
    std::string name(one.substr(0, one.find('=')));
    if (in(known, name) && !in(names, name)) names.push_back(std::move(name));
    at = words.find('`', end + 1);
  }
  return names;
}

/// Without the marks around names, of which librdkafka forgets the space behind some.
std::string without_marks(std::string_view words) {
  std::string text;
  bool inside = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] != '`') {
      text += words[i];
      continue;
    }
    inside = !inside;
    const auto next = i + 1 < words.size() ? static_cast<unsigned char>(words[i + 1]) : ' ';
    if (!inside && std::isalnum(next) != 0) text += ' ';
  }
  return text;
}

/// What can be set instead of one of ours; empty: nothing.
std::string option_of(const std::string& name) {
  if (name == "transaction.timeout.ms") return "kafka.transaction_timeout";
  for (const auto& r : reserved_names)
    if (r.name == name) return {};
  // The delivery guarantee rests on these.
  if (name == "enable.idempotence" || name == "group.protocol") return {};
  return "kafka.properties." + name;
}

std::string current(const rd_kafka_conf_s* conf, const std::string& name) {
  std::array<char, 256> text{};
  std::size_t size = text.size();
  if (rd_kafka_conf_get(conf, name.c_str(), text.data(), &size) != RD_KAFKA_CONF_OK) return {};
  return text.data();
}

/// Why a client can't be made of properties each of which is right: one of the user's does not go with the
/// others. nullopt: none of the user's has to do with it.
std::optional<property_error> misfit(std::string_view words, const rd_kafka_conf_s* conf,
                                     const properties& own) {
  const auto names = named_in(words);
  const auto given = [&](const std::string& name) {
    return std::find_if(own.begin(), own.end(), [&](const auto& one) {
      return canonical_property(one.first) == canonical_property(name);
    });
  };
  auto wrong = own.end();
  for (const auto& name : names)
    if (wrong = given(name); wrong != own.end()) break;
  if (wrong == own.end())  // named otherwise: Unsupported partition.assignment.strategy: ...
    wrong = std::find_if(own.begin(), own.end(),
                         [&](const auto& one) { return words.find(one.first) != std::string_view::npos; });
  if (wrong == own.end()) return std::nullopt;
  std::string text = without_marks(words);
  std::string others;
  for (const auto& name : names) {
    if (canonical_property(name) == canonical_property(wrong->first)) {
      // As it was given: librdkafka takes linger.ms and says queue.buffering.max.ms.
      if (const auto at = text.find(name); at != std::string::npos)
        text.replace(at, name.size(), wrong->first);
      continue;
    }
    if (const std::string option = option_of(name); !option.empty())
      others += ", or set " + option + " too (" + name + " is " + current(conf, name) + ")";
  }
  return property_error(
      wrong->first, quoted(wrong->second) + " is not allowed: " + text + "; correct or remove it" + others);
}

/// Of what rd_kafka_new() says. OpenSSL's own words don't even name the file.
property_error creation_error(std::string_view words, const rd_kafka_conf_s* conf, const properties& own,
                              const std::string& who) {
  struct file {
    std::string_view name;
    const char* holds;
  };
  constexpr std::array files = {
      file{"ssl.ca.location", "no certificate in PEM format (-----BEGIN CERTIFICATE-----)"},
      file{"ssl.certificate.location", "no certificate in PEM format (-----BEGIN CERTIFICATE-----)"},
      file{"ssl.key.location",
           "no key in PEM format that ssl.key.password opens (-----BEGIN PRIVATE KEY-----)"},
      file{"ssl.keystore.location", "no PKCS#12 key store that ssl.keystore.password opens"},
      file{"ssl.crl.location", "no revocation list in PEM format (-----BEGIN X509 CRL-----)"}};
  for (const auto& f : files) {
    const auto at = own.find(std::string(f.name));
    if (at == own.end() || words.find(f.name) == std::string_view::npos ||
        words.find("mandatory") != std::string_view::npos)
      continue;
    const int fd = ::open(at->second.c_str(), O_RDONLY | O_CLOEXEC);
    const std::string why = fd < 0 ? std::strerror(errno) : std::string("holds ") + f.holds;
    if (fd >= 0) ::close(fd);
    return {at->first, "'" + at->second + "': " + why};
  }
  if (auto error = misfit(words, conf, own)) return *error;
  return property_error(who + ": " + std::string(words));
}

void try_properties(const properties& own) {
  const std::unique_ptr<rd_kafka_conf_s, decltype(&rd_kafka_conf_destroy)> conf(rd_kafka_conf_new(),
                                                                                &rd_kafka_conf_destroy);
  for (const auto kind : {client_kind::consumer, client_kind::producer})
    set_properties(conf.get(), own, kind);
}

}  // namespace

void set_property(rd_kafka_conf_s* conf, const std::string& name, const std::string& value) {
  char error[512] = "";
  const std::string allowed = allowed_values(name);
  const auto refuse = [&](const std::string& expected) {
    throw property_error(name, quoted(value) + " is not allowed; expected " + expected);
  };
  if (wrong_number(name, value)) refuse(allowed);
  const auto result = rd_kafka_conf_set(conf, name.c_str(), value.c_str(), error, sizeof error);
  if (result == RD_KAFKA_CONF_OK) return;
  if (result == RD_KAFKA_CONF_UNKNOWN) {
    const std::string near = policy::nearest(name, property_names(), 3);
    throw property_error(
        name, std::string("librdkafka ") + rd_kafka_version_str() + " has no such property" +
                  (near.empty() ? "; its CONFIGURATION.md lists all" : "; did you mean '" + near + "'?"));
  }
  std::string words = error;
  if (words.find("dedicated .._set_..()") != std::string::npos ||
      words.find("Internal property") != std::string::npos)
    throw property_error(name, "is no setting, but a function or an object within a program; remove it");
  const bool built_without = words.find("not supported in this build") != std::string::npos;
  if (!allowed.empty() && !built_without) refuse(allowed);
  // As it was given, on one line.
  const std::string its_own = '"' + canonical_property(name) + '"';
  if (const auto at = words.find(its_own); at != std::string::npos)
    words.replace(at, its_own.size(), '"' + name + '"');
  while (!words.empty() && words.back() == '\n') words.pop_back();
  throw property_error(name, words);
}

void check_properties(const properties& own) {
  try_properties(own);
  check_sasl(own);
}

std::string property_fault(const std::string& name, const std::string& value) {
  const std::string key = "kafka.properties." + name + ": ";
  try {
    try_properties({{name, value}});
  } catch (const property_error& e) {
    const std::string_view said = e.what();
    return std::string(said.starts_with(key) ? said.substr(key.size()) : said);
  }
  return {};
}

properties without_connection(const properties& own) {
  properties rest;
  for (const auto& [name, value] : own)
    if (name != "security.protocol" && !name.starts_with("ssl") && !name.starts_with("sasl.") &&
        !name.starts_with("https.") && !name.starts_with("enable.s") && !name.starts_with("plugin."))
      rest.emplace(name, value);
  return rest;
}

rd_kafka_s* make_client(client_kind kind, rd_kafka_conf_s* conf, const properties& own,
                        const std::string& who) {
  char words[512];
  auto* client = rd_kafka_new(kind == client_kind::producer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf,
                              words, sizeof words);
  if (client) return client;
  const auto error = creation_error(words, conf, own, who);
  rd_kafka_conf_destroy(conf);
  throw error;
}

void check_client(client_kind kind, const properties& own,
                  const std::function<void(rd_kafka_conf_s*)>& configure) {
  auto* conf = rd_kafka_conf_new();
  try {
    configure(conf);
    set_property(conf, "log.queue", "false");
    set_property(conf, "statistics.interval.ms", "0");
  } catch (...) {
    rd_kafka_conf_destroy(conf);
    throw;
  }
  rd_kafka_conf_set_log_cb(conf, [](const rd_kafka_t*, int, const char*, const char*) {});
  rd_kafka_destroy(make_client(kind, conf, own, "Kafka"));
}

void set_properties(rd_kafka_conf_s* conf, const properties& own, client_kind kind) {
  for (const auto& [name, value] : own) {
    for (const auto& r : reserved_names)
      if (r.name == name) throw property_error(name, std::string(r.remedy));
    if (name == "auto.commit.interval.ms" && !value.empty() &&
        value.find_first_not_of('0') == std::string::npos)
      throw property_error(name,
                           "0 commits nothing before the end, so that a crash would repeat everything; "
                           "expected at least 1, or remove it");
    const bool other = kind == client_kind::producer ? in(consumer_only, name) : in(producer_only, name);
    if (!other) set_property(conf, name, value);
  }
  const auto verify = own.find("enable.ssl.certificate.verification");
  if (verify == own.end() || verify->second != "false")
    rd_kafka_conf_set_ssl_cert_verify_cb(conf, &certificate_seen);
}

void note_certificate(std::string_view address, int error) {
  certificates().add(address, error);
}

verdict judge(int code, std::string_view complaint) {
  const auto says = [&](std::string_view what) { return complaint.find(what) != std::string_view::npos; };
  // A handshake that fails at its first step is a failed connection to librdkafka.
  if (says("certificate verify failed")) code = RD_KAFKA_RESP_ERR__SSL;
  verdict v;
  v.text = plain_reason(complaint);
  v.away = code == RD_KAFKA_RESP_ERR__RESOLVE || says("Connect to ") || says("Failed to resolve") ||
           says("timed out in state CONNECT");
  // A broker that is just going, or a proxy without one behind it, ends what is under way.
  const bool cut = says("Disconnected") || says("reset") || says("unexpected eof") ||
                   says("SSL transport error") || says("No further error information") || says("Local: ");
  switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
      v.refused = !says("Local: ");
      break;
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
      v.refused = true;
      break;
    case RD_KAFKA_RESP_ERR__SSL:
      v.refused = !cut;
      break;
    default:
      break;
  }
  std::string_view words = v.text;
  std::string_view address;
  if (const auto colon = words.find(": "); colon != std::string_view::npos) {
    address = address_of(words.substr(0, colon));
    if (!address.empty()) words.remove_prefix(colon + 2);
  }
  const channel ours = channel_of(complaint);
  std::string text;
  if (v.refused) {
    text = refusal_text(code, ours, address, words);
  } else if (!v.away && !address.empty()) {
    v.doubt = address;
    text = doubtful_text(ours, words, complaint);
  }
  if (text.empty()) return v;
  if (!address.empty()) text.insert(0, std::string(address) + ": ");
  v.text = std::move(text);
  return v;
}

std::string mismatch(std::string_view complaint, spoken there) {
  const channel ours = channel_of(complaint);
  std::string text;
  if (ours.tls && (there == spoken::plaintext || there == spoken::sasl_plaintext))
    text = no_tls_text(there == spoken::sasl_plaintext);
  else if (!ours.tls && there == spoken::tls)
    text = only_tls_text(ours.sasl);
  else if (!ours.tls && !ours.sasl && there == spoken::sasl_plaintext)
    text = credentials_text();
  else if (!ours.tls && ours.sasl && there == spoken::plaintext)
    text = no_credentials_text(false);
  if (text.empty()) return text;
  const std::string plain = plain_reason(complaint);
  const auto address = address_of(std::string_view(plain).substr(0, plain.find(": ")));
  return address.empty() ? text : std::string(address) + ": " + text;
}

std::string_view complaint_in(int level, std::string_view facility, std::string_view line) {
  constexpr int error = 3;  // up to here they are errors as well
  if (level <= error || facility != "FAIL") return {};
  if (line.starts_with("[thrd:"))
    if (const auto end = line.find("]: "); end != std::string_view::npos) line.remove_prefix(end + 3);
  return line;
}

std::string plain_reason(std::string_view complaint) {
  std::string_view text = complaint;
  for (const auto role : {"GroupCoordinator: "sv, "TxnCoordinator: "sv})
    if (text.starts_with(role)) text.remove_prefix(role.size());
  // The address: "sasl_ssl://host:port/id: ..." or "host:port: ..."; anything else before a colon is part of
  // the text.
  std::string_view who;
  if (const auto end = text.find(": "); end != std::string_view::npos) {
    who = address_of(text.substr(0, end));
    if (!who.empty()) text.remove_prefix(end + 2);
  }
  if (text.starts_with("Connect to ")) {
    constexpr auto failed = " failed: "sv;
    if (const auto at = text.find(failed); at != std::string_view::npos)
      text.remove_prefix(at + failed.size());
  }
  if (const auto after = text.rfind(" (after ");
      after != std::string_view::npos && text.find("in state", after) != std::string_view::npos)
    text = text.substr(0, after);
  if (who.empty()) return std::string(text);
  std::string plain(who);
  plain += ": ";
  plain += text;
  return plain;
}

int connect_watched(policy::socket_watch& watch, int fd, const sockaddr* to, int size) {
  sockaddr_storage at{};
  std::memcpy(&at, to, std::min(sizeof at, static_cast<std::size_t>(size)));
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  std::uint16_t instead = 0;
  if (::getnameinfo(to, static_cast<socklen_t>(size), host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
    std::uint16_t number = 0;
    std::from_chars(port.data(), port.data() + std::strlen(port.data()), number);
    instead = watch.opening(host.data(), number);
  }
  if (instead != 0 && at.ss_family == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(at);
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v4.sin_port = htons(instead);
  } else if (instead != 0 && at.ss_family == AF_INET6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(at);
    constexpr unsigned char mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
    std::memcpy(&v6.sin6_addr, mapped, sizeof mapped);
    v6.sin6_scope_id = 0;
    v6.sin6_port = htons(instead);
  }
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&at), static_cast<socklen_t>(size)) != 0 &&
      errno != EINPROGRESS)
    return errno;
  watch.opened(fd, instead != 0);
  return 0;
}

int close_watched(policy::socket_watch& watch, int fd) {
  watch.closing(fd);
  return ::close(fd);
}

void link_monitor::error(int code, std::string_view complaint, std::string_view topic) {
  const std::lock_guard lock(mutex_);
  switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR__TRANSPORT:  // one broker of several: the verdict comes with ALL_BROKERS_DOWN
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__BAD_MSG:  // an answer that is no Kafka: a TLS alert, say
    case RD_KAFKA_RESP_ERR__TIMED_OUT: {
      auto found = judge(code, complaint);
      if (hopeless_ && !found.refused) break;  // what follows from the refusal
      if (!found.doubt.empty() && !ever_connected_) inquire(complaint, found.doubt);
      why_ = std::move(found.text);
      hopeless_ = found.refused && !ever_connected_;
      break;
    }
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
      connected_ = false;
      if (why_.empty()) why_ = plain_reason(complaint);
      break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
      refuse(topic, complaint, true);
      break;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_INVALID_GROUP_ID:
    case RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT:
    case RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL:
      refuse(topic, complaint, false);
      break;
    default:
      break;
  }
  update();
}

void link_monitor::refuse(std::string_view topic, std::string_view text, bool hopeless) {
  const auto same = std::find_if(refusals_.begin(), refusals_.end(), [&](const refusal& r) {
    return r.topic == topic && (!topic.empty() || r.text == text);
  });
  if (same == refusals_.end())
    refusals_.push_back({std::string(topic), std::string(text), hopeless});
  else
    *same = {std::string(topic), std::string(text), hopeless};
}

void link_monitor::log(int level, std::string_view facility, std::string_view line) {
  const auto complaint = complaint_in(level, facility, line);
  if (complaint.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    if (ever_connected_) return;
  }
  error(RD_KAFKA_RESP_ERR__TRANSPORT, complaint);
}

void link_monitor::inquire(std::string_view complaint, const std::string& address) {
  if (!ask_ || asking_) return;
  if (asks_.joinable()) asks_.join();  // it is over: this was the last it did with the lock
  asking_ = true;
  asks_ = std::thread([this, ours = std::string(complaint), address] {
    const spoken there = ask_(address);
    std::string text = mismatch(ours, there);
    const std::lock_guard lock(mutex_);
    asking_ = false;
    if (text.empty() || ever_connected_) return;
    why_ = std::move(text);
    hopeless_ = true;
    const channel was = channel_of(ours);
    wants_credentials_ = there == spoken::sasl_plaintext && !was.tls && !was.sasl;
    if (wants_credentials_) connected_ = false;
    update();
  });
}

link_monitor::~link_monitor() {
  if (asks_.joinable()) asks_.join();
}

void link_monitor::broken(std::string_view complaint) {
  const std::lock_guard lock(mutex_);
  broken_ = complaint.empty() ? "fatal error" : plain_reason(complaint);
  update();
}

cluster_watch::need cluster_watch::look(std::string_view statistics) {
  constexpr int patience = 10;
  const auto count = [&](std::string_view what) {
    int n = 0;
    for (auto at = statistics.find(what); at != std::string_view::npos; at = statistics.find(what, at + 1))
      ++n;
    return n;
  };
  constexpr std::string_view node = R"("nodename":)";
  constexpr std::string_view key = R"("connects":)";
  std::uint64_t tried = 0;
  for (auto at = statistics.find(node); at != std::string_view::npos; at = statistics.find(node, at)) {
    at += node.size();
    // A coordinator that is not known tries once a second, nowhere, and counts it.
    if (statistics.substr(at, 2) == R"("")") continue;
    at = statistics.find(key, at);
    if (at == std::string_view::npos) break;
    at += key.size();
    std::uint64_t n = 0;
    std::from_chars(statistics.data() + at, statistics.data() + statistics.size(), n);
    tried += n;
  }
  const bool connected = count(R"("state":"UP")") != 0;
  missed_ = connected || tried != tried_ ? 0 : missed_ + 1;
  tried_ = tried;
  // Each topic also lists the partition -1, for records without one, which nobody leads.
  leaderless_ = connected && count(R"("leader":-1,)") > count(R"("partition":-1,)") ? leaderless_ + 1 : 0;
  if (missed_ != 0 && missed_ % patience == 0) return need::addresses;
  if (leaderless_ != 0 && leaderless_ % patience == 0) return need::leaders;
  return need::nothing;
}

void client_rescue::statistics(rd_kafka_s* client, std::string_view json, const log_function& log) {
  constexpr int ask_ms = 3'000;
  switch (watch_.look(json)) {
    case cluster_watch::need::nothing:
      return;
    case cluster_watch::need::addresses:
      if (log)
        log(4, "BOOTSTRAP",
            "no broker is connected, and no connection is tried: asking the configured ones again");
      rd_kafka_brokers_add(client, brokers_.c_str());
      return;
    case cluster_watch::need::leaders:
      if (stopped_ || asking_.exchange(true)) return;
      if (log) log(6, "LEADERS", "partitions have no leader: asking the cluster again");
      if (asks_.joinable()) asks_.join();
      asks_ = std::thread([this, client] {
        const rd_kafka_metadata_t* found = nullptr;
        if (rd_kafka_metadata(client, 1, nullptr, &found, ask_ms) == RD_KAFKA_RESP_ERR_NO_ERROR)
          rd_kafka_metadata_destroy(found);
        asking_ = false;
      });
      return;
  }
}

void client_rescue::stop() {
  stopped_ = true;
  if (asks_.joinable()) asks_.join();
}

void link_monitor::statistics(std::string_view json) {
  const auto has = [json](std::string_view part) { return json.find(part) != std::string_view::npos; };
  const bool any = has(R"("state":"UP")");
  // A connection that is up may still be without the rights to read or write. A coordinator is only found for
  // a group that may be joined, and a producer id only given to one that may write.
  const bool given = has(R"("cgrp": { "state": "up")") || has(R"("idemp_state": "Assigned")");
  const std::lock_guard lock(mutex_);
  if (any && !wants_credentials_) {
    connected_ = ever_connected_ = true;
    hopeless_ = false;
    missed_ = 0;
    why_.clear();
    const bool hopeless =
        std::any_of(refusals_.begin(), refusals_.end(), [](const refusal& r) { return r.hopeless; });
    if (given && !hopeless && broken_.empty()) let_in_ = true;
  } else if (++missed_ >= 2) {  // one may have fallen between two connections
    connected_ = false;
  }
  update();
}

void link_monitor::up() {
  connected_ = ever_connected_ = true;
  hopeless_ = wants_credentials_ = false;
  missed_ = 0;
  why_.clear();
}

void link_monitor::works() {
  if (healthy_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  up();
  let_in_ = true;
  refusals_.clear();
  update();
}

void link_monitor::delivered(std::string_view topic) {
  if (healthy_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  up();
  let_in_ = true;
  std::erase_if(refusals_, [&](const refusal& r) { return r.topic.empty() || r.topic == topic; });
  update();
}

void link_monitor::accepted() {
  if (healthy_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  refusals_.clear();
  update();
}

void link_monitor::update() {
  healthy_.store(connected_ && refusals_.empty() && broken_.empty(), std::memory_order_relaxed);
}

link_status link_monitor::status() const {
  const std::lock_guard lock(mutex_);
  link_status s;
  s.let_in = let_in_;
  if (!broken_.empty()) {
    s.fatal = true;
    s.reason = broken_;
    return s;
  }
  // Before the first statistics a refusal may be known, and nothing of the connection.
  if (!connected_ && (ever_connected_ || !why_.empty() || refusals_.empty())) {
    s.fatal = s.refused = hopeless_;
    s.reason = why_;
    return s;
  }
  s.up = connected_ && refusals_.empty();
  if (refusals_.empty()) return s;
  s.reason = refusals_.front().text;
  for (const auto& r : refusals_) s.fatal |= r.hopeless;
  for (auto r = refusals_.begin() + 1; r != refusals_.end(); ++r) s.more.push_back(r->text);
  return s;
}

}  // namespace troupe::kafka
