#pragma once
// The guard of a node's doors (runtime/guard/guard.hpp) as the settings ask for it, with what feeds it: the
// file of keys, the keys of tokens, and the counts that nodes share in Redis, each second. Owns their
// threads.

#include <memory>
#include <optional>
#include <string>

#include "messages/batch.hpp"
#include "runtime/config/settings.hpp"
#include "runtime/store/redis.hpp"

namespace troupe::observe {
class metrics;
}

namespace troupe::serving {
struct caller_rules;
}

namespace troupe {

class node_guard {
 public:
  /// `redis`: where counts are shared, if anywhere. Throws std::runtime_error, one line: a file that can't be
  /// used.
  node_guard(const config::settings& settings, std::shared_ptr<observe::metrics> metrics,
             std::optional<store::redis_options> redis);
  ~node_guard();
  node_guard(const node_guard&) = delete;
  node_guard& operator=(const node_guard&) = delete;

  [[nodiscard]] std::shared_ptr<const serving::caller_rules> rules(door via) const;
  /// Reads the files again. Empty: done; else why not, and what was in force stays.
  [[nodiscard]] std::string reload(const config::settings& settings);
  /// Ends its threads; the counts go to Redis once more if it answers. Idempotent.
  void stop();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe
