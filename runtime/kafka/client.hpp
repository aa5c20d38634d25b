#pragma once
// What source and sink share: making a librdkafka configuration, and turning its complaints into a link_status.

#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#include "runtime/kafka/record_source.hpp"

struct rd_kafka_conf_s;
struct rd_kafka_s;

namespace troupe::kafka {

/// A property that librdkafka does not know or refuses: one line that names it.
struct property_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Level as in syslog (3 error, 4 warning, 6 info, 7 debug), librdkafka's facility, text.
using log_function = std::function<void(int level, const std::string& facility, const std::string& text)>;
using properties = std::map<std::string, std::string>;

void set_property(rd_kafka_conf_s* conf, const std::string& name, const std::string& value);
/// The user's own properties, which win over ours; names that belong to the other kind of client are skipped.
void set_properties(rd_kafka_conf_s* conf, const properties& own, bool producer);

/// Whether brokers answer, from what librdkafka reports. Thread safe.
class link_monitor {
 public:
  void error(int code, const std::string& reason);
  void works();
  [[nodiscard]] link_status status() const;

 private:
  mutable std::mutex mutex_;
  link_status status_;
  std::string last_reason_;
};

}  // namespace troupe::kafka
