#pragma once
// The cache's second level: a port, and Redis behind it.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "messages/batch.hpp"

namespace troupe::store {

struct get_result {
  bool ok = false;         ///< `values` has an entry a key, in order
  bool timed_out = false;  ///< the budget was spent; an answer that comes later is dropped
  std::string error;       ///< one line when not ok
  std::vector<std::optional<std::string>> values;
  nanos took = 0;
};

struct store_status {
  bool connected = false;
  bool fatal = false;  ///< waiting won't help: wrong password, untrusted certificate
  std::string reason;  ///< empty while connected
};

/// Safe to call from any thread; never blocks a caller.
class level2_cache {
 public:
  virtual ~level2_cache() = default;
  /// Exactly one call of `done`, from the store's thread, within the budget; it must not block. None after
  /// close().
  virtual void get(std::vector<std::string> keys, std::function<void(get_result)> done) = 0;
  /// Fire and forget; dropped while not connected or when too much waits.
  virtual void set(std::vector<std::pair<std::string, std::string>> items) = 0;
  [[nodiscard]] virtual store_status status() const = 0;
  virtual void close() = 0;
};

struct redis_options {
  std::string host;
  int port = 6379;
  std::string user;  ///< of Redis' ACL; empty: the default user
  std::string password;
  int db = 0;
  bool tls = false;
  std::string tls_ca;  ///< PEM file; empty: the system's
  nanos connect_timeout = 1'000'000'000;
  nanos budget = 2'000'000;  ///< of one get(), queueing included
  nanos ttl = 3'600'000'000'000;
  std::size_t max_waiting = 256;  ///< gets; one more fails at once
  nanos reconnect_min = 100'000'000;
  nanos reconnect_max = 2'000'000'000;
  /// Level as in syslog.
  std::function<void(int level, const std::string& text)> log;
};

/// One connection, one thread: an MGET a get(), a pipeline of SETEX a set(). Reconnects by itself, with
/// backoff.
[[nodiscard]] std::unique_ptr<level2_cache> make_redis(redis_options options);

}  // namespace troupe::store
