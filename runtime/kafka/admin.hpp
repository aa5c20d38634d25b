#pragma once
// What commands ask of a cluster: is it there, which topics does it have, make one.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/kafka/client.hpp"

namespace troupe::kafka {

/// What a cluster says of itself. `reason` empty: it answered.
struct cluster_summary {
  std::vector<std::string> brokers;   ///< host:port, as advertised
  std::map<std::string, int> topics;  ///< name -> partitions; internal ones (__consumer_offsets) included
  std::string reason;                 ///< why it could not be reached, one line
  bool fatal = false;                 ///< waiting won't heal it: credentials or certificates
};

/// One connection for a few questions; every call blocks for at most its time-out (nanoseconds).
class admin {
 public:
  /// `own`: as in kafka.properties. Connects in the background. Throws property_error.
  admin(const std::string& brokers, const properties& own, log_function log = {});
  ~admin();
  admin(const admin&) = delete;
  admin& operator=(const admin&) = delete;

  /// Ends early when credentials are refused. Creates no topic.
  [[nodiscard]] cluster_summary reach(nanos timeout);

  /// Replication -1 is the broker's default. A topic of that name that is there already is left as it is.
  /// Throws std::runtime_error with the broker's words. The embedded broker can't do it.
  void create_topic(const std::string& name, int partitions, int replication, nanos timeout);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::kafka
