#pragma once
// The cache's second level: a port, and Redis behind it.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/policy/socket_watch.hpp"

namespace troupe::store {

struct get_result {
  bool ok = false;         ///< `values` has an entry a key, in order
  bool timed_out = false;  ///< the budget was spent; an answer that comes later is dropped
  std::string error;       ///< one line when not ok
  std::vector<std::optional<std::string>> values;
  nanos took = 0;
};

struct store_status {
  bool connected = false;  ///< and answering
  bool fatal = false;      ///< waiting won't help: wrong password, untrusted certificate
  std::string reason;      ///< empty while connected
};

/// Since the start. A look-up ends in one of answered, timed_out, refused and failed; an item in stored or
/// dropped, or it was rejected by the store.
struct store_counters {
  std::uint64_t answered = 0;
  std::uint64_t timed_out = 0;
  std::uint64_t refused = 0;   ///< look-ups not sent: not connected, too much waits
  std::uint64_t failed = 0;    ///< look-ups sent: an error answer, the connection was lost
  std::uint64_t stored = 0;    ///< items
  std::uint64_t dropped = 0;   ///< items not sent, or sent and never acknowledged
  std::uint64_t rejected = 0;  ///< items the store answered with an error (OOM, READONLY)
  std::uint64_t connects = 0;
  std::uint64_t disconnects = 0;  ///< of established connections
};

/// Safe to call from any thread, callbacks included (but close()); never blocks a caller.
class level2_cache {
 public:
  virtual ~level2_cache() = default;
  /// Exactly one call of `done`, from the store's thread, within the budget (and the time the thread takes to
  /// run); it must neither block nor throw. None for a get() after close().
  virtual void get(std::vector<std::string> keys, std::function<void(get_result)> done) = 0;
  /// Fire and forget; dropped while not connected or when too much waits.
  virtual void set(std::vector<std::pair<std::string, std::string>> items) = 0;
  [[nodiscard]] virtual store_status status() const = 0;
  [[nodiscard]] virtual store_counters counters() const { return {}; }
  /// Look-ups under way end with an error; no callback runs once this has returned. Not from a callback.
  virtual void close() = 0;
};

struct redis_options {
  std::string host;  ///< a name or an address
  int port = 6379;
  std::string user;  ///< of Redis' ACL; empty: the default user
  std::string password;
  int db = 0;
  bool tls = false;
  std::string tls_ca;                     ///< PEM file; empty: the system's
  std::string tls_cert;                   ///< PEM file of a client certificate (chain); empty: none
  std::string tls_key;                    ///< PEM file of its key
  std::string tls_server_name;            ///< what the server's certificate must name; empty: `host`
  nanos connect_timeout = 1'000'000'000;  ///< resolving, TCP, TLS and the first answer together
  nanos budget = 2'000'000;               ///< of one get(), queueing included
  nanos ttl = 3'600'000'000'000;
  std::size_t max_waiting = 256;  ///< gets; one more fails at once
  std::size_t max_waiting_bytes =
      16 * 1024 * 1024;  ///< queued or not yet answered; gets fail, sets are dropped
  std::size_t max_reply_bytes = 64 * 1024 * 1024;  ///< of one answer; the connection is dropped beyond
  nanos reconnect_min = 100'000'000;
  nanos reconnect_max = 2'000'000'000;
  nanos reconnect_fatal = 30'000'000'000;  ///< after what only a person can mend
  std::uint64_t seed = 0;                  ///< of the backoff's jitter; 0: random
  /// Level as in syslog: 6 connected, 3 and 4 not available, 5 an item was refused. Called from the store's
  /// thread.
  std::function<void(int level, const std::string& text)> log;
  std::shared_ptr<policy::socket_watch> sockets = nullptr;  ///< null: nobody watches
};

/// One connection, one thread: an MGET a get(), a pipeline of SETEX a set(). Reconnects by itself, with
/// backoff; the host is resolved anew each time. Keys and values are any bytes. Look-ups overtake stores that
/// wait. Throws std::runtime_error when a file of the TLS options is unusable. Redis' protocol:
/// https://redis.io/docs/reference/protocol-spec
[[nodiscard]] std::unique_ptr<level2_cache> make_redis(redis_options options);

}  // namespace troupe::store
