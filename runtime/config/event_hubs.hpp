#pragma once
// Azure Event Hubs speaks Kafka's protocol (1.0 and later) on port 9093: what its connection strings say, and
// the librdkafka properties that it needs.
//
// Sources: Microsoft's "Apache Kafka client configurations for Azure Event Hubs" and "Event Hubs quotas".

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe::config {

/// Of `Endpoint=sb://HOST[:PORT]/;SharedAccessKeyName=..;SharedAccessKey=..[;EntityPath=HUB]`.
struct event_hubs_connection {
  std::string host;
  int port = 9093;     ///< 9092 of the emulator
  std::string entity;  ///< EntityPath: the only event hub that this string opens; empty: all of the namespace
  bool emulator = false;  ///< UseDevelopmentEmulator=true: without TLS
  std::string text;       ///< the whole, which is the password; a secret
};

/// Names of parts in any case and order, unknown ones passed over; SharedAccessSignature may stand for name
/// and key. Throws value_error (option_list.hpp), which never shows any of the text.
[[nodiscard]] event_hubs_connection parse_connection_string(std::string_view text);

/// What librdkafka needs there, by name.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> event_hubs_properties(
    const event_hubs_connection& to);

}  // namespace troupe::config
