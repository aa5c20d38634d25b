#pragma once
// A librdkafka client for commands: made from the same properties as the node's, with reasons people can
// read.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/kafka/client.hpp"

struct rd_kafka_s;
struct rd_kafka_message_s;
struct rd_kafka_metadata;

namespace troupe::cli {

struct metadata_deleter {
  void operator()(const struct rd_kafka_metadata* m) const;
};
using metadata_ptr = std::unique_ptr<const struct rd_kafka_metadata, metadata_deleter>;

/// Of a record, in their order; no value is a null one.
[[nodiscard]] std::vector<std::pair<std::string, std::optional<std::string>>> headers_of(
    const rd_kafka_message_s& m);

class kafka_client {
 public:
  using settings = std::vector<std::pair<std::string, std::string>>;

  /// `ours` are set first, the user's `own` win. Throws kafka::property_error, std::runtime_error.
  kafka_client(kafka::client_kind kind, const std::string& brokers, const kafka::properties& own,
               const settings& ours);
  ~kafka_client();
  kafka_client(const kafka_client&) = delete;
  kafka_client& operator=(const kafka_client&) = delete;

  [[nodiscard]] rd_kafka_s* get() const { return client_; }

  /// All topics. Waits for a broker for up to 10 s, or 3 s where there is a reason to give up; then throws
  /// std::runtime_error, kafka::no_broker where none was reached: "127.0.0.1:9092: Connection refused". After
  /// 1 s kafka::link_refused, where brokers refuse the credentials, have a certificate that is not accepted,
  /// or speak TLS where we don't, or the other way round.
  [[nodiscard]] metadata_ptr metadata() const;
  /// Partitions of a topic, waiting 5 s for a cluster that creates it now. Throws std::runtime_error, also
  /// when the topic does not exist.
  [[nodiscard]] int partitions(const std::string& topic) const;

  /// A setting of that broker, such as auto.create.topics.enable; empty where it does not say.
  [[nodiscard]] std::string broker_setting(int broker, std::string_view name) const;

  /// The last of what librdkafka or the broker complained about, empty if nothing. On the threads that serve
  /// the client.
  [[nodiscard]] std::string complaint() const;
  /// Of a producer: called for each record that is reported, by who polls, with the opaque value that it was
  /// produced with. Set it before producing.
  void on_delivery(std::function<void(std::uintptr_t opaque, bool delivered)> told);
  /// Records that the broker did not take; complaint() has the reason.
  [[nodiscard]] std::int64_t refused() const;
  /// Of the first few of them, the opaque values that they were produced with.
  [[nodiscard]] std::vector<std::uintptr_t> refused_opaques() const;

 private:
  void look_at_doubts() const;

  struct reports;
  rd_kafka_s* client_ = nullptr;
  std::string brokers_;
  std::unique_ptr<reports> reports_;
};

}  // namespace troupe::cli
