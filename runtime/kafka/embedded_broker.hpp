#pragma once
// A broker in the process: librdkafka's mock cluster, for `troupe demo`, laptops and tests. Other processes
// can connect.
//
// It speaks the protocol but keeps everything in memory and forgets: about 5 MiB or 100,000 batches a
// partition, so a reader that lags further behind loses records. It has no transactions, no deduplication and
// no timestamps. It is no place for data that matters and no judge of guarantees. It sleeps out every fetch
// that finds nothing, so its consumers should ask for a short one (source_options::fetch_wait_ms = 5).

#include <map>
#include <memory>
#include <string>

namespace troupe::kafka {

class embedded_broker {
 public:
  /// Topics and their numbers of partitions. Throws std::runtime_error.
  explicit embedded_broker(const std::map<std::string, int>& topics);
  ~embedded_broker();
  embedded_broker(const embedded_broker&) = delete;
  embedded_broker& operator=(const embedded_broker&) = delete;

  /// host:port on the loopback, for bootstrap.servers.
  [[nodiscard]] const std::string& bootstrap() const;

  /// Down: connections end and new ones are refused; what it holds stays.
  void set_down(bool down);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::kafka
