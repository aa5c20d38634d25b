#pragma once
// What is spoken at a broker's port, found out by asking there. To librdkafka a listener of another kind and
// a broker that just goes look alike: both end the connection before they said a word.

#include <cstdint>
#include <functional>
#include <string>

#include "runtime/policy/time.hpp"

namespace troupe::kafka {

enum class spoken : std::uint8_t {
  unknown,         ///< nobody answered, or nothing that is known here
  plaintext,       ///< Kafka without TLS and without credentials
  sasl_plaintext,  ///< Kafka without TLS, with credentials
  tls,             ///< TLS; with or without credentials
};

/// Asks the listener at "host:port" ("[::1]:9092"): a Kafka ApiVersions request in the clear, and where that
/// is not answered, the first message of a TLS handshake. Two connections at most, neither of which does
/// anything; sends nothing of ours. Blocks for at most `patience` (and the look-up of the name). Never
/// throws.
[[nodiscard]] spoken spoken_at(const std::string& address, policy::nanos patience = 3 * policy::second);

/// Who asks; tests have their own.
using listener_question = std::function<spoken(const std::string& address)>;
[[nodiscard]] listener_question ask_listeners();

}  // namespace troupe::kafka
