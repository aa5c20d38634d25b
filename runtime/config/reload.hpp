#pragma once
// What differs between the settings in force and those that were read anew.

#include <string>
#include <vector>

#include "runtime/config/settings.hpp"

namespace troupe::config {

struct change {
  std::string key;     ///< kafka.brokers, kafka.properties, classes, rollout
  std::string before;  ///< as in the file; *** for a secret; empty for maps and lists
  std::string now;
  bool live = false;  ///< takes effect without a restart
};

/// In the order of the option list.
[[nodiscard]] std::vector<change> changes(settings before, settings now);

/// `in_force` with the live options of `now`.
[[nodiscard]] settings with_live(settings in_force, settings now);

}  // namespace troupe::config
